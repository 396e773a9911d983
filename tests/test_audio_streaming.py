"""Long recordings, in parts: the same values as from all of it at once."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_infer_model_folder import configuration, tdnn

from pydino.audio import (
    KINDS,
    FbankConfig,
    MfccConfig,
    NormalisationConfig,
    Stream,
    extractor,
    normalise,
    open_channel,
    resample,
    select_voiced,
    utterances,
    vad,
)
from pydino.base import UserError, utterance_hash
from pydino.infer import save_model
from pydino.kaldi import ArchiveWriter, compressed, read_scp_objects

normalisation = sys.modules["pydino.audio.normalise"]  # the function hides the module of its name
ROOT = Path(__file__).resolve().parent.parent
RATE = 16000
OPTIONS = [
    ("fbank", FbankConfig(dither=1.0, num_mel_bins=40)),
    ("fbank", FbankConfig(dither=0.0, snip_edges=False, subtract_mean=True, use_energy=True)),
    ("fbank", FbankConfig(dither=0.0, snip_edges=False, frame_shift=50.0)),
    ("mfcc", MfccConfig(dither=0.5, snip_edges=False)),
]


def noise(samples):
    return (np.random.default_rng(samples).standard_normal(samples) * 3000).astype(np.int16)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
@pytest.mark.parametrize("kind, config", OPTIONS)
def test_parts_give_the_features_of_the_whole(monkeypatch, rate, kind, config):
    monkeypatch.setattr(extractor, "_PART", 512)
    for samples in (rate // 100, 11 * rate + 77):
        recording, asked = noise(samples), [0]

        def read(first, last, recording=recording, asked=asked):
            assert asked[-1] <= first <= last  # in order, nothing twice
            asked.append(last)
            return recording[first:last]

        compute = KINDS[kind][1](config)
        (features,), (energies,) = compute.with_energy([resample(recording, rate, RATE)], [7])
        stream = Stream(read, samples, rate, RATE)
        in_parts = compute.of_parts(stream.read, stream.samples, 7)
        assert torch.equal(in_parts[0], features) and torch.equal(in_parts[1], energies)


@pytest.mark.parametrize(
    "form, codec, rate", [("WAV", "PCM_16", 16000), ("MP3", None, 44100), ("WAV", "FLOAT", 8000)]
)
def test_long_utterances_of_a_data_directory_are_those_of_short_ones(
    tmp_path, monkeypatch, form, codec, rate
):
    """Long and short, whole and segments, written as one after another asks for."""
    for name, seconds in (("a", 3), ("b", 14), ("c", 2)):
        soundfile.write(tmp_path / name, noise(seconds * rate) / 32768, rate, format=form, subtype=codec)
    todo = [utterances.Utterance(name, str(tmp_path / name)) for name in "abc"]
    todo.append(utterances.Utterance("d", str(tmp_path / "b"), 0.5, 13.1))
    config = FbankConfig(allow_upsample=True, allow_downsample=True)

    def extracted(name):
        dropped, seconds = {}, {}
        with (
            ArchiveWriter(tmp_path / f"{name}.ark", tmp_path / f"{name}.scp", compression=1) as features,
            ArchiveWriter(tmp_path / f"{name}.e.ark", tmp_path / f"{name}.e.scp") as energies,
        ):
            compute = KINDS["fbank"][1](config)
            for made in utterances.extract(todo, compute, dropped, hashes=utterance_hash):
                features.write(made.key, made.features.numpy())
                energies.write(made.key, made.energy.numpy())
                seconds[made.key] = made.seconds, made.rate, len(made.features)
        return (seconds, dropped), [
            dict(read_scp_objects(tmp_path / f"{name}.scp")),
            dict(read_scp_objects(tmp_path / f"{name}.e.scp")),
        ]

    about, whole = extracted("whole")
    monkeypatch.setattr(utterances, "_LONG", 10 * RATE)
    monkeypatch.setattr(extractor, "_PART", 512)
    again, in_parts = extracted("parts")
    assert again == about and not about[1]
    for one, other in zip(whole, in_parts, strict=True):
        assert list(one) == list("abcd")
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


@pytest.mark.parametrize("block", [1, 64, 256])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("norm_vars", [True, False])
def test_normalisation_in_blocks(monkeypatch, block, center, norm_vars):
    features = torch.randn(700, 5, generator=torch.Generator().manual_seed(0)) * 3 + 7
    sliding = NormalisationConfig("sliding", norm_vars, 100, 50, center)
    mean = NormalisationConfig("mean", norm_vars)
    whole = normalise(features, sliding), normalise(features, mean)
    monkeypatch.setattr(normalisation, "_BLOCK", block)
    assert torch.equal(normalise(features, sliding), whole[0])
    torch.testing.assert_close(normalise(features, mean), whole[1], atol=1e-6, rtol=1e-6)
    for config, expected in zip((sliding, mean), whole, strict=True):  # in its own place
        changed = features.clone()
        assert normalise(changed, config, out=changed) is changed
        torch.testing.assert_close(changed, expected, atol=1e-6, rtol=1e-6)


def test_voiced_frames_are_selected_in_place(monkeypatch):
    features = torch.randn(700, 5, generator=torch.Generator().manual_seed(0))
    voiced = torch.sin(torch.arange(700) / 9) > 0.2
    expected = select_voiced(features, voiced)
    monkeypatch.setattr(vad, "_BLOCK", 64)
    assert torch.equal(select_voiced(features, voiced.float(), in_place=True), expected)


@pytest.mark.parametrize("method", [2, 3, 5])
@pytest.mark.parametrize("rows", [3, 200])
def test_compression_in_blocks_writes_the_same_bytes(monkeypatch, method, rows):
    matrix = np.random.default_rng(0).normal(size=(rows, 13)).astype(np.float32)
    whole = compressed.encode(matrix, method)
    token, header = whole[:3].decode().strip(), 20 if method != 2 else 19
    minimum, extent, *shape = compressed.HEADER.unpack(whole[header - 16 : header])
    decoded = compressed.decode(token, minimum, extent, tuple(shape), whole[header:])
    for block in (1, 500):
        monkeypatch.setattr(compressed, "_BLOCK", block)
        assert compressed.encode(matrix, method) == whole
        again = compressed.decode(token, minimum, extent, tuple(shape), whole[header:])
        np.testing.assert_array_equal(again, decoded)


def test_a_recording_of_real_numbers_in_the_range_of_integers_is_refused(tmp_path):
    """Loud is not wrong: masters and lossy codecs pass full scale."""
    path = str(tmp_path / "a.wav")
    for scale in (1.0, 4.0):
        soundfile.write(path, np.sin(np.arange(RATE)) * scale, RATE, subtype="FLOAT")
        with open_channel(path) as recording:
            assert np.abs(recording.read(0, RATE)).max() == pytest.approx(scale * 32768, rel=1e-3)
    soundfile.write(path, noise(RATE).astype(np.float32), RATE, subtype="FLOAT")
    with open_channel(path) as recording, pytest.raises(UserError, match=r"\[-1, 1\].*sox -v"):
        recording.read(0, RATE)


PEAK = """
import re, sys
from pydino.cli import main
peaks = []
for name in ("short", "long"):
    words = [word.replace("NAME", name) for word in sys.argv[1:]]
    assert main(words) == 0
    peaks.append(int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1000)
print(peaks[1] - peaks[0])
"""


@pytest.mark.parametrize("verb", ["make-fbank", "embed"])
def test_half_an_hour_takes_little_more_memory_than_a_minute(verb, tmp_path):
    """It is read and computed in blocks: all at once it would be 200 MB more."""
    for name, minutes in (("short", 1), ("long", 30)):
        soundfile.write(tmp_path / f"{name}.wav", np.tile(noise(60 * RATE), minutes), RATE)
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}/wav.scp").write_text(f"{name} {name}.wav\n")
        (tmp_path / f"{name}/utt2spk").write_text(f"{name} {name}\n")
    (tmp_path / "fbank.yaml").write_text("num_mel_bins: 20\n")
    save_model(tmp_path / "model", tdnn(), configuration(), "")
    words = {
        "make-fbank": ["--part", "1/1", "--fbank-config", "fbank.yaml", "NAME", "log", "NAME/ark"],
        "embed": ["--output", "NAME.npz", "model", "NAME.wav"],
    }[verb]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, verb, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 100  # MB
