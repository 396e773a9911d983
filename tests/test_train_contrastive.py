"""NT-Xent, and training with it on tiny archives: against its definition, on two processes, killed and resumed."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train_clusters import cluster_folder, train
from test_train_dino import CONFIG as DINO
from test_train_dino import KILLER, equal, log_lines, make_data, make_train_set
from test_train_xvector import CONFIG as XVECTOR
from test_train_xvector import NAMES, weights

from pydino.base import ConfigError, config_from_dict
from pydino.cli import main
from pydino.kaldi import read_table, write_table
from pydino.ssl import cosine_loss, ntxent
from pydino.train.methods.contrastive import ContrastiveConfig

ROOT = Path(__file__).parent.parent
CONFIG = {
    "method": "contrastive",
    "positives": "cluster",
    "epochs": 2,
    "batch_size": 8,
    "crops": {"global_seconds": [0.6, 0.8]},
    "encoder": {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8},
    "optimiser": {"warmup_epochs": 1},
    "on_collapse": "warn",
}
CENTROIDS = {**XVECTOR, "start_from_centroids": True, "sub_centres": 2, "on_collapse": "warn"}
TABLE = {name: f"c{i % 7}" if i < 18 else f"alone{i}" for i, name in enumerate(NAMES)}


def by_definition(pairs, temperature, classes=None):
    """One view after the other, in float64."""
    z = pairs.double().flatten(0, 1).numpy()
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    number, half, terms, found = len(z), len(z) // 2, [], 0
    for i in range(number):
        positive = (i + half) % number
        others = [
            k
            for k in range(number)
            if k == positive or (k != i and (classes is None or classes[k % half] != classes[i % half]))
        ]
        cosines = np.array([z[i] @ z[k] for k in others])
        terms.append(
            -math.log(math.exp(z[i] @ z[positive] / temperature) / np.exp(cosines / temperature).sum())
        )
        found += others[cosines.argmax()] == positive
    return np.mean(terms), found / number


@pytest.mark.parametrize("classes", [None, [0, 1, 0, 2, 2]])
@pytest.mark.parametrize("parts", [1, 5])
def test_ntxent_is_its_definition_whole_or_in_parts(classes, parts):
    torch.manual_seed(0)
    pairs = 3 * torch.randn(2, 5, 4)
    numbers = None if classes is None else torch.tensor(classes)
    size = 5 // parts
    found = [ntxent(pairs[:, at : at + size], pairs, at, 0.2, numbers) for at in range(0, 5, size)]
    loss, accuracy = by_definition(pairs, 0.2, classes)
    assert np.mean([float(part[0]) for part in found]) == pytest.approx(loss, rel=1e-5)
    assert np.mean([float(part[1]) for part in found]) == pytest.approx(accuracy)


def test_where_the_teacher_sees_other_views_every_pair_of_the_cosine_counts():
    torch.manual_seed(0)
    student, teacher = torch.randn(4, 3, 5), torch.randn(2, 3, 5)
    pairs = torch.cosine_similarity(student.unsqueeze(0), teacher.unsqueeze(1), dim=-1)
    assert cosine_loss(student, teacher, shared=False).item() == pytest.approx(
        1 - pairs.mean().item(), rel=1e-5
    )


@pytest.fixture
def data(tmp_path):
    make_data(tmp_path / "source", NAMES)
    make_train_set(tmp_path / "source", tmp_path / "train")
    return tmp_path / "train"


@pytest.fixture
def clusters(tmp_path):
    return cluster_folder(tmp_path / "clusters", TABLE)


SGD = {"batch_size": 16, "optimiser": {"name": "sgd", "lr": 0.05, "warmup_epochs": 1}}


@pytest.mark.parametrize(
    "config",
    [
        {**CONFIG, **SGD, "projector_dim": 6, "mask_same_cluster": True},
        {**DINO, **SGD, "positives": "cluster", "epochs": 2},
        {**CENTROIDS, **SGD, "epochs": 2},
    ],
    ids=["contrastive", "dino", "centroids"],
)
def test_two_processes_train_as_one(data, clusters, tmp_path, config):
    """Contrastive: negatives are those of both, with gradient; clusters mask them; the projector learns too.
    Partners are the same. Centroids are those of all utterances. Of a batch of 16 babble mixes the same
    utterances in both.
    """
    assert train(data, tmp_path / "one", "--clusters", clusters, config=config) == 0
    start = [
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pydino", "train")
    ]
    options = ["--config", str(tmp_path / "one.yaml"), "--num-threads", "2", "--clusters", str(clusters)]
    done = subprocess.run(
        [sys.executable, *start, *options, str(data), str(tmp_path / "two")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        assert torch.allclose(one[name].float(), two[name].float(), atol=1e-5), name
    for a, b in zip(log_lines(tmp_path / "one"), log_lines(tmp_path / "two"), strict=True):
        for name in {"loss", "accuracy", "gradient_norm", "embedding_spread"} & a.keys():
            assert a[name] == pytest.approx(b[name], rel=1e-3), name


@pytest.mark.parametrize(
    "config",
    [CONFIG, {**DINO, "positives": "cluster", "epochs": 1}, {**CENTROIDS, "epochs": 1}],
    ids=["contrastive", "dino", "centroids"],
)
def test_killed_and_resumed_equals_uninterrupted_whatever_things_are_called(
    data, clusters, tmp_path, capsys, config
):
    config = {**config, "checkpoint_steps": 1}
    assert train(data, tmp_path / "whole", "--clusters", clusters, config=config) == 0
    # clusters of other names, the same utterances
    renamed = cluster_folder(
        tmp_path / "renamed", {name: f"z{cluster[::-1]}" for name, cluster in TABLE.items()}
    )
    options = ["--config", str(tmp_path / "whole.yaml"), "--num-threads", "1", "--clusters", str(renamed)]
    call = ["train", *options, str(data), str(tmp_path / "cut")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    died = subprocess.run([sys.executable, "-c", KILLER, *call], env=environment, capture_output=True)
    assert died.returncode == -9, died.stderr
    kept = read_table(renamed / "utt2cluster")  # other clusters are another run
    write_table(renamed / "utt2cluster", {**kept, NAMES[0]: kept[NAMES[1]]})
    assert main(call) == 1
    assert "utt2cluster is different now" in capsys.readouterr().err
    write_table(renamed / "utt2cluster", kept)
    assert main(call) == 0
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert log_lines(tmp_path / "whole") == log_lines(tmp_path / "cut")


def test_without_clusters_the_positive_is_the_utterance_itself(data, clusters, tmp_path, capsys):
    config = {**CONFIG, "epochs": 1}
    assert train(data, tmp_path / "exp", config=config) == 1
    assert "the method contrastive needs clusters here: give --clusters" in capsys.readouterr().err
    config["positives"] = "own"
    assert train(data, tmp_path / "exp", "--clusters", clusters, config=config) == 1
    assert "has no use for clusters" in capsys.readouterr().err
    assert train(data, tmp_path / "exp", config=config) == 0
    assert "labels: none" in (tmp_path / "exp/model/config.yaml").read_text()
    config["compute"] = {"accumulation": 2}
    assert train(data, tmp_path / "other", config=config) == 1
    assert "cannot be split" in capsys.readouterr().err


def test_a_finished_run_of_before_these_options_is_still_finished():
    """At their defaults they are not among what a run depends on."""
    from pydino.ssl import DinoLossConfig
    from pydino.train.methods.dino import DinoConfig
    from pydino.train.methods.xvector import XvectorConfig
    from pydino.train.run import LATER, _is_default

    for config in (DinoConfig(), XvectorConfig()):
        there = [name for name in LATER if hasattr(config, name) and name in config.__dataclass_fields__]
        assert there and all(_is_default(config, name) for name in there)
    # those of groups of options too
    assert all(_is_default(DinoConfig(), name) for name in LATER if name.startswith(("head.", "loss.")))
    assert not _is_default(DinoConfig(positives="cluster"), "positives")
    assert not _is_default(DinoConfig(loss=DinoLossConfig(target="sinkhorn")), "loss.target")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"crops": {"num_local": 1}}, "crops.num_global to 2"),
        ({"crops": {"num_global": 3}}, "crops.num_global to 2"),
        ({"crops": {"placement": "disjoint"}}, "placement: independent"),
        ({"temperature": 0}, "temperature"),
        ({"teacher_augment": {"noise_probability": 0.0}}, "contrastive learning has none"),
    ],
)
def test_impossible_options(change, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(ContrastiveConfig, {**CONFIG, **change})
