"""Untrained baselines: the same encoder with random weights, and statistics of the filter banks."""

import subprocess

import numpy as np
import pytest
import torch
import yaml
from test_steps_extract import ROOT, make_data

import pydino
from pydino.cli import main
from pydino.kaldi import read_object, read_table


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("baselines") / "train"
    make_data(path, lengths=(1.0,))
    return path


@pytest.fixture(scope="module")
def stored(data):
    """(features, voiced) of the one utterance, as the archives have them."""
    features = read_object(read_table(data / "feats.scp")["utt0"])
    voiced = read_object(read_table(data / "vad.scp")["utt0"]) > 0
    assert 0 < voiced.sum() < len(voiced)
    return features, voiced


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A training configuration."""
    path = tmp_path_factory.mktemp("conf") / "dino.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "method": "dino",
                "encoder": {"name": "tdnn", "channels": 8, "pooled_channels": 16, "embedding_dim": 12},
            }
        )
    )
    return path


def make(kind, data, folder, *options):
    assert main(["make-baseline", "--kind", kind, *map(str, options), str(data), str(folder)]) == 0
    return pydino.load(folder)


def embed(model, features, voiced):
    return model.embed_features([model.front_end.prepare(torch.from_numpy(features), voiced)[0]])[0]


def test_statistics_are_those_of_the_voiced_frames(data, stored, tmp_path):
    features, voiced = stored
    model = make("fbank-stats", data, tmp_path / "model")
    speech = features[voiced].astype(np.float64)
    np.testing.assert_allclose(
        embed(model, features, voiced), np.concatenate([speech.mean(axis=0), speech.std(axis=0)]), atol=2e-3
    )
    assert (model.config.method, model.config.role, model.config.train_set) == (
        "fbank-stats",
        "statistics",
        "none",
    )


def test_a_gain_changes_statistics_but_not_those_after_mean_normalisation(data, stored, tmp_path):
    features, voiced = stored
    plain = make("fbank-stats", data, tmp_path / "plain")
    normalised = make("fbank-stats-cmn", data, tmp_path / "cmn")
    louder = features + np.float32(1.5)  # a gain, on a logarithmic scale
    assert np.abs(embed(plain, louder, voiced) - embed(plain, features, voiced)).max() > 1
    np.testing.assert_allclose(
        embed(normalised, louder, voiced), embed(normalised, features, voiced), atol=1e-4
    )
    assert normalised.embedding_dim == features.shape[1]  # the deviations alone: the means are zero


def test_untrained_weights_follow_the_seed(data, training, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make("untrained", data, tmp_path / name, "--like", training, "--seed", seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c
    model = pydino.load(tmp_path / "a")
    assert (model.config.role, model.embedding_dim, model.config.front_end.normalisation.kind) == (
        "untrained",
        12,
        "mean",
    )
    assert "nothing" in (tmp_path / "a/README.md").read_text().lower()


def test_like_a_model_folder_takes_its_encoder_and_front_end(data, training, tmp_path):
    first = make("untrained", data, tmp_path / "first", "--like", training)
    second = make(
        "untrained",
        tmp_path / "no data needed",
        tmp_path / "second",
        "--like",
        tmp_path / "first",
        "--seed",
        "5",
    )
    assert second.config.encoder == first.config.encoder
    assert second.config.front_end == first.config.front_end


def test_silence_is_kept_where_the_data_keeps_it(data, tmp_path):
    (tmp_path / "silent/conf").mkdir(parents=True)
    (tmp_path / "silent/conf/fbank.yaml").write_text((data / "conf/fbank.yaml").read_text())
    assert make("fbank-stats", tmp_path / "silent", tmp_path / "model").config.front_end.vad is None


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--kind", "untrained"), "needs --like"),
        (("--kind", "fbank-stats", "--like", "nowhere.yaml"), "nowhere.yaml"),
    ],
)
def test_mistakes_are_named(data, tmp_path, capsys, arguments, said):
    assert main(["make-baseline", *arguments, str(data), str(tmp_path / "model")]) == 1
    assert said in capsys.readouterr().err
    assert main(["make-baseline", "--kind", "fbank-stats", str(tmp_path), str(tmp_path / "model")]) == 1
    assert "run steps/make_fbank.sh" in capsys.readouterr().err


def test_the_step_makes_it_once(data, training, tmp_path):
    command = [
        "bash",
        ROOT / "steps/make_baseline.sh",
        "--kind",
        "untrained",
        "--like",
        training,
        data,
        tmp_path / "exp/seed0/model",
    ]
    first, second = (subprocess.run(command, cwd=tmp_path, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0 and "untrained, 12 dimensions" in first.stderr, first.stderr
    assert second.returncode == 0 and "up to date" in second.stderr, second.stderr
    assert pydino.load(tmp_path / "exp/seed0/model").config.method == "untrained"


def test_damaged_weights_of_the_same_size_are_made_again(data, training, tmp_path, capsys):
    make("untrained", data, tmp_path, "--like", training)
    weights = tmp_path / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    make("untrained", data, tmp_path, "--like", training)
    assert "is not what was written" in capsys.readouterr().err and weights.read_bytes() == before
