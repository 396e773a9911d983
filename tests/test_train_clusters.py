"""Clusters in place of labels: who takes them, and what the models say of themselves."""

import json

import kaldiio
import numpy as np
import pytest
from test_train_dino import CONFIG as DINO
from test_train_dino import equal, make_data, make_train_set
from test_train_xvector import CONFIG, NAMES, weights

import pydino
from pydino.base import dump_config, read_yaml
from pydino.cli import main
from pydino.kaldi import read_table, write_table

SMALL = {**CONFIG, "epochs": 1, "on_collapse": "warn"}


@pytest.fixture
def data(tmp_path):
    make_data(tmp_path / "source", NAMES)
    make_train_set(tmp_path / "source", tmp_path / "train")
    return tmp_path / "train"


def cluster_folder(folder, table, labels="pseudo"):
    """What steps/cluster.sh leaves."""
    folder.mkdir(parents=True)
    write_table(folder / "utt2cluster", table)
    (folder / "clusters.json").write_text(
        json.dumps({"labels": labels, "clusters": len(set(table.values()))})
    )
    return folder


def train(data, exp, *options, config=SMALL):
    dump_config(config, exp.parent / f"{exp.name}.yaml")
    words = ["--config", str(exp.parent / f"{exp.name}.yaml"), "--num-threads", "1", *map(str, options)]
    return main(["train", *words, str(data), str(exp)])


def of_model(exp, role="model"):
    return read_yaml(exp / role / "config.yaml")["labels"], (exp / role / "README.md").read_text()


def test_clusters_are_labels_that_leave_no_label_in_the_model(data, tmp_path, capsys):
    table = {name: f"c{i % 3}" for i, name in enumerate(NAMES)}
    write_table(tmp_path / "utt2label", table)
    clusters = cluster_folder(tmp_path / "clusters", {**table, "elsewhere": "c9"})
    assert train(data, tmp_path / "labels", "--labels", tmp_path / "utt2label") == 0
    assert train(data, tmp_path / "exp", "--clusters", clusters) == 0
    assert f"{clusters}: 3 clusters of 20 utterances" in capsys.readouterr().err
    assert equal(weights(tmp_path / "labels"), weights(tmp_path / "exp"))
    labels, text = of_model(tmp_path / "exp")
    assert labels == "pseudo" and "trained on clusters of its utterances (pseudo-labels)" in text
    assert f"--clusters {clusters}" in text and "started" not in text
    # The same clusters are the same run, others another one.
    assert train(data, tmp_path / "exp", "--clusters", clusters) == 0
    assert "is finished and up to date" in capsys.readouterr().err
    write_table(clusters / "utt2cluster", {**table, NAMES[0]: "c2"})
    assert train(data, tmp_path / "exp", "--clusters", clusters) == 1
    assert "utt2cluster is different now" in capsys.readouterr().err


@pytest.mark.parametrize(
    "first, second, found",
    [
        ("pseudo", "pseudo", "pseudo"),
        ("pseudo", "train", "train"),
        ("train", "pseudo", "train"),
        ("unknown", "pseudo", "unknown"),
    ],
)
def test_labels_behind_clusters_and_behind_the_start_both_count(data, tmp_path, first, second, found):
    """Clusters of embeddings that learnt from labels are labels, and so is a start that learnt from them."""
    table = {name: f"c{i % 3}" for i, name in enumerate(NAMES)}
    a, b = (cluster_folder(tmp_path / f"{n}", table, kind) for n, kind in enumerate((first, second)))
    assert train(data, tmp_path / "first", "--clusters", a) == 0
    assert train(data, tmp_path / "second", "--clusters", b, "--init", tmp_path / "first/model") == 0
    labels, text = of_model(tmp_path / "second")
    assert labels == found and ("that were trained on labels" in text) == (found == "train")


def test_mistakes_with_clusters_speak_and_leave_no_trace(data, tmp_path, capsys):
    table = {name: f"c{i % 3}" for i, name in enumerate(NAMES)}
    write_table(tmp_path / "utt2label", table)
    good = cluster_folder(tmp_path / "good", table)
    few = cluster_folder(tmp_path / "few", {name: "c1" for name in NAMES[2:]})
    one = cluster_folder(tmp_path / "one", dict.fromkeys(NAMES, "c1"))
    silent = cluster_folder(tmp_path / "silent", table, None)
    for options, config, message in (
        (
            ["--clusters", few],
            SMALL,
            f"has no cluster for 2 of the 20 utterances of {data}, such as '{NAMES[0]}'",
        ),
        (["--clusters", one], SMALL, "one cluster, 'c1'; there is nothing to tell apart"),
        (["--clusters", silent], SMALL, "clusters.json does not say on what labels"),
        (["--clusters", tmp_path], SMALL, "no utt2cluster is there; steps/cluster.sh makes"),
        (
            ["--clusters", good, "--labels", tmp_path / "utt2label"],
            SMALL,
            "on labels or on clusters; omit one",
        ),
        (
            [],
            SMALL,
            "give --labels UTT2LABEL, such as --labels data/train/utt2spk, or --clusters CLUSTER_DIR",
        ),
        (["--clusters", good], DINO, "has no use for clusters; set positives: cluster"),
    ):
        assert train(data, tmp_path / "exp", *options, config=config) == 1
        assert message in capsys.readouterr().err, message
        assert not (tmp_path / "exp").exists()


def test_small_clusters_are_left_out_and_classes_start_at_their_centroids(data, tmp_path, capsys):
    """The first epoch of a still encoder: the output layer is at the centroids of whole utterances, centred."""
    table = {name: f"c{i % 3}" for i, name in enumerate(NAMES)} | {NAMES[4]: "alone"}
    clusters = cluster_folder(tmp_path / "clusters", table)
    start = {**SMALL, "start_from_centroids": True, "optimiser": {"lr": 1e-12, "final_lr": 1e-12}}
    assert train(data, tmp_path / "first", "--clusters", clusters) == 0
    assert "3 clusters of 19 utterances, those of 2 or more" in capsys.readouterr().err
    options = ["--clusters", clusters, "--init", tmp_path / "first/model"]
    for name, config in (("exp", start), ("fine", {**start, "trainable": ["frames"]})):
        config = {**config, "batch_size": 19, "output_lr_scale": 2.0}
        assert train(data, tmp_path / name, *options, config=config) == 0
        bias = pydino.load(tmp_path / name / "model").encoder.embedding_norm.bias
        moved = bias - pydino.load(tmp_path / "first/model").encoder.embedding_norm.bias
        x = embeddings(data, tmp_path / "first/model")
        mean = np.mean([x[key] for key in NAMES if key != NAMES[4]], axis=0)
        centre = mean if name == "exp" else 0.0
        np.testing.assert_allclose(moved.detach().numpy(), -centre if name == "exp" else 0.0, atol=2e-5)
        found = weights(tmp_path / name)["student.output.weight"].numpy()
        for row, cluster in zip(found, in_order_of_hash(data, table), strict=True):
            members = np.stack([x[key] - centre for key in NAMES if table[key] == cluster])
            direction = (members / np.linalg.norm(members, axis=1, keepdims=True)).sum(0)
            np.testing.assert_allclose(row, direction / np.linalg.norm(direction), atol=1e-4)


def embeddings(data, model):
    """Of the whole utterances, as extraction makes them."""
    folder = data.parent / f"xvectors_{model.parent.name}"
    assert main(["extract-embeddings", "--nj", "1", str(model), str(data), str(folder)]) == 0
    return {key: value for key, value in kaldiio.load_scp(str(folder / "xvector.scp")).items()}


def in_order_of_hash(data, table):
    hashes = read_table(data / "utt2hash")
    ordered = [table[key] for key in sorted(hashes, key=lambda key: int(hashes[key]))]
    return [cluster for cluster in dict.fromkeys(ordered) if ordered.count(cluster) > 1]


def test_only_small_clusters_are_no_labels(data, tmp_path, capsys):
    clusters = cluster_folder(tmp_path / "clusters", {name: f"c{i}" for i, name in enumerate(NAMES)})
    assert train(data, tmp_path / "exp", "--clusters", clusters) == 1
    assert "0 of its 20 clusters have min_utterances, 2, or more" in capsys.readouterr().err
