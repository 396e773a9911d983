"""Training on recordings: with nothing done to them the same as on their features; with everything,
deterministic and resumable.
"""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_train_dino import equal, make_train_set, weights

from pydino.base import dump_config, read_yaml
from pydino.cli import main
from pydino.kaldi import write_table

ROOT = Path(__file__).parent.parent
CONFIG = {
    "method": "dino",
    "epochs": 2,
    "batch_size": 8,
    "on_collapse": "warn",
    "koleo_weight": 0.1,
    "head": {"hidden_dim": 16, "bottleneck_dim": 8, "output_dim": 32},
    "crops": {"num_local": 2, "global_seconds": [0.6, 0.8], "local_seconds": [0.3, 0.5]},
    "encoder": {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8},
    "optimiser": {"name": "sgd", "lr": 0.01, "warmup_epochs": 0},
}
PLAIN = {
    "reverberation_probability": 0,
    "noise_probability": 0,
    "babble_probability": 0,
    "gain_db": 0,
    "equaliser_db": 0,
}
PLAIN |= {"time_mask_frames": 0, "frequency_mask_bands": 0}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Tones in noise, as wav and FLAC, one shorter than a crop; lists of noises and of room impulse responses."""
    folder = tmp_path_factory.mktemp("corpus")
    draw, wavs = np.random.default_rng(0), {}
    for number in range(12):
        length = 9000 if number == 5 else 16000 + 1111 * number
        wave = 0.1 * np.sin(2 * np.pi * (200 + 50 * number) * np.arange(length) / 16000) + 0.02 * draw.normal(
            size=length
        )
        name = f"s{number % 3}-u{number:02d}"
        wavs[name] = str(folder / f"{name}.{'flac' if number % 2 else 'wav'}")
        soundfile.write(wavs[name], wave, 16000, subtype="PCM_16")
    lists = {
        "noise": 0.1 * draw.normal(size=30000),
        "room": np.exp(-np.arange(3000) / 500) * draw.normal(size=3000) * 0.1,
    }
    for name, wave in lists.items():
        soundfile.write(folder / f"{name}.wav", np.clip(wave, -0.9, 0.9), 16000, subtype="PCM_16")
        write_table(folder / f"{name}.scp", {"one": str(folder / f"{name}.wav")})
    source = folder / "source"
    source.mkdir()
    write_table(source / "wav.scp", wavs)
    write_table(source / "utt2spk", {name: name.split("-")[0] for name in wavs})
    (folder / "fbank.yaml").write_text("num_mel_bins: 20\nsnip_edges: false\ndither: 0.0\n")
    (folder / "vad.yaml").write_text("vad_energy_threshold: 3.0\n")
    step = [
        ROOT / "steps/make_fbank.sh",
        "--nj",
        "1",
        "--compress",
        "false",
        "--fbank-config",
        folder / "fbank.yaml",
    ]
    subprocess.run([*step, source, folder / "log", folder / "feats"], check=True, capture_output=True)
    step = [ROOT / "steps/compute_vad.sh", "--nj", "1", "--vad-config", folder / "vad.yaml"]
    subprocess.run([*step, source, folder / "log", folder / "feats"], check=True, capture_output=True)
    make_train_set(source, folder / "whole", "--keep-silence", "true")
    make_train_set(source, folder / "trimmed")
    return folder


def train(data, exp, config, *options):
    dump_config(config, exp.parent / f"{exp.name}.yaml")
    return main(
        [
            "train",
            "--config",
            str(exp.parent / f"{exp.name}.yaml"),
            "--num-threads",
            "1",
            *options,
            str(data),
            str(exp),
        ]
    )


@pytest.mark.parametrize("augment", [PLAIN, {"gain_db": 3.0}])
def test_features_and_audio_are_one_key_apart(corpus, tmp_path, augment):
    """The same order, crops, augmentation of the filter banks, and so the same weights; also from an
    utterance that wraps.
    """
    for kind in ("features", "audio"):
        assert train(corpus / "whole", tmp_path / kind, {**CONFIG, "augment": augment, "input": kind}) == 0
    features, audio = weights(tmp_path / "features"), weights(tmp_path / "audio")
    for name in features:
        assert torch.allclose(features[name].float(), audio[name].float(), atol=1e-3), name


def everything(corpus):
    rirs = {"rirs": {"only": str(corpus / "room.scp")}}
    augmentation_data = {"noise": str(corpus / "noise.scp"), "speech": str(corpus / "noise.scp"), **rirs}
    waveform = {
        "reverberation_probability": 0.5,
        "noise_probability": 0.7,
        "gain_db": 3.0,
        "babble_speakers": [2, 3],
    }
    return {
        **CONFIG,
        "input": "audio",
        "augment": {**PLAIN, "time_mask_frames": 5},
        "waveform": waveform,
        "augmentation_data": augmentation_data,
        "teacher_waveform": {"reverberation_probability": 0.0},
        "speed_factors": [0.9, 1.0, 1.1],
    }


# Positives by clusters of embeddings of utterances and augmented crops.
SSPS = {
    "start_epoch": 1,
    "crops": 2,
    "cluster": {"method": "kmeans", "num_clusters": 4, "treatment": "wccn + statistics"},
}


@pytest.mark.parametrize("change", [{}, {"positives": "ssps", "ssps": SSPS}], ids=["own", "ssps"])
def test_everything_that_is_done_to_audio_is_keyed(corpus, tmp_path, change):
    """Whatever reads ahead, and wherever the run was cut, the weights are the same bit for bit; another seed
    gives others.
    """
    config = {**everything(corpus), **change}
    assert train(corpus / "trimmed", tmp_path / "whole", config) == 0
    assert train(corpus / "trimmed", tmp_path / "workers", config, "--data-workers", "2") == 0
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "workers"))
    assert train(corpus / "trimmed", tmp_path / "other", config, "--seed", "1") == 0
    assert not equal(weights(tmp_path / "whole"), weights(tmp_path / "other"))
    for newest in sorted((tmp_path / "workers/checkpoints").glob("*.pt"))[1:]:
        newest.unlink()
    (tmp_path / "workers/.done.train").unlink()
    assert train(corpus / "trimmed", tmp_path / "workers", config) == 0
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "workers"))


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"input": "features"}, "they need input: audio"),
        ({"speed_factors": [1.234]}, "at most two decimals"),
        ({"augmentation_data": {}}, "but there are no noises: give augmentation_data.noise"),
        ({"teacher_waveform": {"gain_bd": 1}}, "teacher_waveform: unknown key 'gain_bd'"),
    ],
)
def test_mistakes_are_named(corpus, tmp_path, capsys, change, complaint):
    assert train(corpus / "trimmed", tmp_path / "exp", {**everything(corpus), **change}) == 1
    assert complaint in capsys.readouterr().err


def test_features_without_recordings_cannot_be_heard(corpus, tmp_path, capsys):
    data = tmp_path / "data"
    subprocess.run(["cp", "-r", corpus / "trimmed", data], check=True)
    (data / "wav.scp").unlink()
    assert train(data, tmp_path / "exp", everything(corpus)) == 1
    assert "regenerate the directory with steps/make_train_set.sh" in capsys.readouterr().err


def test_a_run_on_other_noises_is_another_run(corpus, tmp_path, capsys):
    config = everything(corpus)
    lists = tmp_path / "noise.scp"
    lists.write_text((corpus / "noise.scp").read_text())
    config["augmentation_data"]["noise"] = str(lists)
    assert train(corpus / "trimmed", tmp_path / "exp", config) == 0
    lists.write_text(f"two {corpus}/room.wav\n")
    assert train(corpus / "trimmed", tmp_path / "exp", config) == 1
    assert "holds another run" in capsys.readouterr().err and (tmp_path / "exp/teacher").exists()


def test_audio_is_trained_on_without_stored_features(corpus, tmp_path, capsys):
    """Nothing but the recordings, their lengths and VAD is read; with features removed it is the same run."""
    data = tmp_path / "data"
    subprocess.run(["cp", "-r", corpus / "trimmed", data], check=True)
    config = everything(corpus)
    assert train(data, tmp_path / "with", config) == 0
    (data / "feats.scp").unlink()
    assert train(data, tmp_path / "without", config) == 0
    assert equal(weights(tmp_path / "with"), weights(tmp_path / "without"))
    capsys.readouterr()
    assert train(data, tmp_path / "with", config) == 0
    assert "is finished and up to date" in capsys.readouterr().err


def test_a_run_on_recordings_is_measured_on_its_own_noises_the_same_each_time(corpus, tmp_path):
    config = everything(corpus) | {"snapshot_epochs": 2}
    assert train(corpus / "trimmed", tmp_path / "exp", config) == 0
    command = ["monitor", str(tmp_path / "exp"), "--data", str(corpus / "trimmed")]
    assert main(command) == 0
    once = (tmp_path / "exp/monitor.jsonl").read_text()
    (tmp_path / "exp/monitor.jsonl").unlink()
    assert main(command) == 0 and (tmp_path / "exp/monitor.jsonl").read_text() == once
    path = tmp_path / "exp/config.yaml"
    dump_config(read_yaml(path) | {"waveform": {}, "augment": PLAIN}, path)
    (tmp_path / "exp/monitor.jsonl").unlink()
    assert main(command) == 0 and (tmp_path / "exp/monitor.jsonl").read_text() != once
