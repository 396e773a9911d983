"""NT-Xent against its definition, and what training with it needs and is called."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train_clusters import cluster_folder, train
from test_train_dino import make_data, make_train_set
from test_train_xvector import NAMES

from pydino.base import ConfigError, config_from_dict, read_yaml
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
NOT_SIMCLR = ({"positives": "cluster"}, {"positives": "own", "mask_same_cluster": True})
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


def test_without_clusters_the_positive_is_the_utterance_itself(data, clusters, tmp_path, capsys):
    config = {**CONFIG, "epochs": 1}
    assert train(data, tmp_path / "exp", config=config) == 1
    assert "the method contrastive needs clusters here: give --clusters" in capsys.readouterr().err
    config["positives"] = "own"
    assert train(data, tmp_path / "exp", "--clusters", clusters, config=config) == 1
    assert "has no use for clusters" in capsys.readouterr().err
    assert train(data, tmp_path / "exp", config=config) == 0
    model = read_yaml(tmp_path / "exp/model/config.yaml")
    assert (model["method"], model["labels"]) == ("simclr", "none")
    names = [config_from_dict(ContrastiveConfig, {**CONFIG, **change}).name for change in NOT_SIMCLR]
    assert names == ["contrastive", "contrastive"]
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
