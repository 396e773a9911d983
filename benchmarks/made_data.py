"""Data for benchmarks: a pre-training directory of random but speech-like recordings or features, and
augmentation data.

Lengths are distributed as in the synthetic corpus (egs/mini), there are pauses, and levels vary as in
syllables, so that reading, cropping and augmenting cost as much as with speech. Models cannot learn anything
from them.
"""

import dataclasses
from pathlib import Path

import numpy as np
import soundfile

from pydino.cli import main
from pydino.data import AugmentationDataConfig
from pydino.kaldi import ArchiveWriter, write_table

RATE, SHIFT, BANDS = 16000, 160, 80
OPTIONS = (
    f"sample_frequency: {RATE}\nnum_mel_bins: {BANDS}\nlow_freq: 20\nhigh_freq: 7600\ndither: "
    "0.0\nsnip_edges: false\n"
)
_LISTS = {"noise": (20, 10.0), "music": (10, 30.0), "speech": (30, 15.0)}  # recordings, seconds of each
_ROOMS = (100, 0.5)


def make_training_dir(
    folder: Path, utterances: int, mean_seconds: float, audio: str = "", compression: int | None = None
) -> Path:
    """Make a pre-training directory; return it.

    Args:
        folder: for all files.
        utterances: how many.
        mean_seconds: of an utterance; from half to two and a half times as long.
        audio: wav or flac: recordings, without features; "": features alone.
        compression: method of Kaldi's compressed matrices, 1 to 7; None: plain.
    """
    source, target = folder / "source", folder / "train"
    (source / "conf").mkdir(parents=True)
    (source / "conf/fbank.yaml").write_text(OPTIONS)
    (source / "conf/vad.yaml").write_text("vad_energy_threshold: 5.5\n")
    rng = np.random.default_rng(0)
    lengths = np.clip(
        100 * mean_seconds * rng.lognormal(-0.04, 0.28, utterances), 50 * mean_seconds, 250 * mean_seconds
    ).astype(int)
    keys = [f"utt{i:06d}" for i in range(utterances)]
    write_archives(
        source, dict(zip(keys, lengths.tolist(), strict=True)), 1 if audio else BANDS, rng, compression
    )
    if audio:
        paths = {key: source / "wav" / f"{key}.{audio}" for key in keys}
        (source / "wav").mkdir()
        for key, frames in zip(keys, lengths.tolist(), strict=True):
            soundfile.write(paths[key], recording(frames * SHIFT, rng), RATE, subtype="PCM_16")
        write_table(source / "wav.scp", paths)
    assert main(["make-train-set", "--min-duration", "0.5", str(source), str(target)]) == 0
    return target


def write_archives(source: Path, frames: dict[str, int], dim: int, rng, compression: int | None) -> None:
    """Write feats.scp, vad.scp and the tables that go with them."""
    with (
        ArchiveWriter(source / "feats.ark", source / "feats.scp", compression=compression) as features,
        ArchiveWriter(source / "vad.ark", source / "vad.scp") as vad,
    ):
        for key, length in frames.items():
            features.write(key, log_mel(length, dim, rng))
            stretches = np.repeat(rng.random(length // 20 + 1) < 0.85, 20)[:length]
            stretches[length // 4 : -(length // 4)] = True
            vad.write(key, stretches.astype(np.float32))
    write_table(source / "utt2num_frames", frames)
    write_table(source / "utt2spk", {key: key for key in frames})


def log_mel(frames: int, dim: int, rng) -> np.ndarray:
    """Return log filter banks (T, F): a spectral tilt, syllables, and noise of few degrees of freedom on
    top.
    """
    syllables = 2.5 * np.sin(np.arange(frames) * 0.25 + rng.uniform(0, 6))[:, None]
    tilt = np.linspace(14, 9, dim) + rng.normal(size=dim)
    return (tilt + syllables + np.log(rng.gamma(2.0, 0.5, (frames, dim)) + 1e-3)).astype(np.float32)


def recording(samples: int, rng) -> np.ndarray:
    """Return noise (S,) int16 with a falling spectrum and varying level."""
    noise = np.convolve(rng.standard_normal(samples), 0.8 ** np.arange(16), mode="same")
    level = 1200 * (1 + 0.8 * np.sin(np.arange(samples) / RATE * 25 + rng.uniform(0, 6)))
    return np.clip(noise * level, -32768, 32767).astype(np.int16)


def make_augmentation_data(folder: Path, config: AugmentationDataConfig) -> AugmentationDataConfig:
    """Make recordings for every list in ``config``; return it with these lists."""
    rng, changed = np.random.default_rng(1), {}
    for name, (number, seconds) in _LISTS.items():
        if getattr(config, name):
            made = [recording(int(RATE * seconds), rng) for _ in range(number)]
            changed[name] = _write_list(folder / name, made)
    decay = np.exp(-np.arange(int(RATE * _ROOMS[1])) / (0.05 * RATE))
    rirs = {}
    for name in config.rirs:
        made = [
            (rng.standard_normal(len(decay)) * decay * 8000).clip(-32768, 32767).astype(np.int16)
            for _ in range(_ROOMS[0])
        ]
        rirs[name] = _write_list(folder / f"rirs-{name}", made)
    return dataclasses.replace(config, **changed, rirs=rirs)


def _write_list(folder: Path, recordings: list[np.ndarray]) -> str:
    folder.mkdir(parents=True)
    paths = {f"r{i:04d}": folder / f"r{i:04d}.wav" for i in range(len(recordings))}
    for path, samples in zip(paths.values(), recordings, strict=True):
        soundfile.write(path, samples, RATE, subtype="PCM_16")
    write_table(folder / "wav.scp", paths)
    return str(folder / "wav.scp")
