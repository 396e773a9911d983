"""Positives that a run finds itself: what they are, on tiny archives; killed before, at and after a clustering;
two processes; readers with workers; and that names have no say.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_train_dino import BANDS, KILLER, equal, log_lines, make_data, make_train_set, train
from test_train_dino import CONFIG as DINO

from pydino.base import ConfigError, config_from_dict
from pydino.cli import main
from pydino.kaldi import ArchiveWriter, read_table, write_table
from pydino.train import DistributedContext, Setup, find_method
from pydino.train.embedding_pass import EmbeddingPass
from pydino.train.loop import completes
from pydino.train.methods.contrastive import ContrastiveConfig
from pydino.train.pipeline import open_pipeline
from pydino.train.positive_sampling import PositiveSampling, SampledPartners, nearest_clusters
from pydino.train.positives_config import PositiveSamplingConfig
from pydino.train.run import LATER, Run, _is_default

ROOT = Path(__file__).parent.parent
NAMES = [f"s{i % 4}-u{i:02d}" for i in range(20)]
SAMPLING = {"start_epoch": 1, "every_epochs": 1, "crops": 2}
KMEANS = {**SAMPLING, "crops": 0, "statistics": False, "cluster": {"method": "kmeans", "num_clusters": 6}}
CHAIN = {**SAMPLING, "cluster": {"neighbours": [4], "rounds": 1, "joint_rounds": 0, "lda_dim": 4}}
CONTRASTIVE = {
    "method": "contrastive",
    "positives": "ssps",
    "epochs": 4,
    "batch_size": 8,  # 2.5 steps an epoch
    "crops": {"global_seconds": [0.6, 0.8]},
    "encoder": DINO["encoder"],
    "optimiser": {"warmup_epochs": 1},
    "on_collapse": "warn",
    "checkpoint_steps": 1,
}
CONFIGS = {
    "chain": {**CONTRASTIVE, "ssps": CHAIN, "mask_same_cluster": True},
    "nearest": {**CONTRASTIVE, "ssps": {**KMEANS, "nearest_clusters": 1}},
    "dino": {
        **DINO,
        "positives": "ssps",
        "epochs": 4,
        "batch_size": 8,
        "ssps": KMEANS,
        "checkpoint_steps": 1,
    },
}
EACH = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@pytest.fixture
def data(tmp_path):
    make_data(tmp_path / "source", NAMES)
    make_train_set(tmp_path / "source", tmp_path / "train")
    return tmp_path / "train"


def weights(exp):
    paths = sorted(exp.glob("*/model.safetensors"))
    return {f"{p.parent.name}.{name}": value for p in paths for name, value in load_file(p).items()}


def clusters_of(exp):
    """By step of the checkpoint: the last two are kept."""
    states = [torch.load(path, weights_only=True) for path in sorted((exp / "checkpoints").glob("*.pt"))]
    return {state["step"]: state["method"]["positive_sampling.classes"] for state in states}


# What is drawn


def test_positives_are_of_the_wanted_clusters_and_all_alike():
    hashes = np.arange(12, dtype=np.uint64) * np.uint64(7919)
    classes, everyone = np.arange(12) % 3, np.arange(12)
    wanted = np.stack([(classes + 1) % 3, (classes + 2) % 3], axis=1)
    chooser, met = SampledPartners(hashes, classes, wanted, 1), Counter()
    for visit in range(400):
        found = chooser.partners(everyone, np.full(12, visit))
        assert (classes[found] != classes).all()
        met.update(zip(everyone.tolist(), found.tolist(), strict=True))
    assert len(met) == 12 * 8 and max(abs(n - 50) for n in met.values()) < 5 * 50**0.5


def test_the_nearest_clusters_are_those_of_the_nearest_centroids():
    """Clusters on a circle; their centroids are at 0, 40, 100 and 200 degrees."""
    degrees, labels = np.array([0, 40, 100, 200, -5, 5, 205, 195]), np.array([0, 1, 2, 3, 0, 0, 3, 3])
    angles = np.radians(degrees)
    # a third axis, balanced, so that centring leaves the circle where it is
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    centred = vectors - vectors.mean(0)
    centroids = np.stack(
        [(centred / np.linalg.norm(centred, axis=1)[:, None])[labels == k].sum(0) for k in range(4)]
    )
    centroids /= np.linalg.norm(centroids, axis=1)[:, None]
    cosines = centroids @ centroids.T - 2 * np.eye(4)
    assert (nearest_clusters(vectors, labels, 3) == np.argsort(-cosines, axis=1)[:, :3]).all()
    repeated = nearest_clusters(vectors, labels, 5)
    assert (repeated[:, 3:] == repeated[:, :2]).all()
    assert (nearest_clusters(vectors, np.zeros(8, dtype=np.int64), 2) == 0).all()


@pytest.mark.parametrize("steps_per_epoch", [2.5, 18.71875, 1 / 0.3, 4.0, 1.0, 1.3])
def test_they_are_found_again_where_the_loop_completes_an_epoch(steps_per_epoch):
    config = PositiveSamplingConfig(start_epoch=2, every_epochs=3)
    sampling = PositiveSampling(config, np.arange(5, dtype=np.uint64), steps_per_epoch, DistributedContext())
    due = [
        step
        for step in range(1, 400)
        if completes(step, steps_per_epoch) and sampling.is_due(int(step / steps_per_epoch))
    ]
    assert due and [sampling.next_due(step) for step in range(due[-1])] == [
        next(d for d in due if d > step) for step in range(due[-1])
    ]


def test_what_is_clustered_are_utterances_and_augmented_crops_of_them(tmp_path):
    """Bands of utterance i have the deviation (1 + i) / 10."""
    make_data(tmp_path / "source", NAMES, silence=False)
    spoken, lengths = {}, read_table(tmp_path / "source/utt2num_frames")
    with ArchiveWriter(tmp_path / "source/f.ark", tmp_path / "source/feats.scp") as feats:
        for i, name in enumerate(NAMES):
            draw = np.random.default_rng(i).normal(size=(int(lengths[name]), BANDS))
            spoken[name] = ((1 + i) / 10 * draw).astype(np.float32)
            feats.write(name, spoken[name])
    make_train_set(tmp_path / "source", tmp_path / "train")
    still = dict.fromkeys(
        ("noise_probability", "reverberation_probability", "babble_probability", "gain_db", "equaliser_db"),
        0.0,
    )
    config = config_from_dict(ContrastiveConfig, {**CONFIGS["nearest"], "augment": still})
    run = Run(find_method("contrastive"), config, tmp_path / "train", tmp_path / "exp")
    pipeline = open_pipeline(config, run.data, run.front_end, 0, DistributedContext())
    hashes = pipeline.source.hashes
    method = run.method(Setup(config, BANDS, 10, 2.5, DistributedContext(), hashes=hashes))
    embed = EmbeddingPass(method, pipeline, run)
    embedding, statistics = embed.with_crops(method.student.encoder, 3, True)
    assert (embedding.vectors == embed(method.student.encoder).numpy()).all()
    expected = np.stack([spoken[key].std(0) for key in pipeline.source._keys])
    np.testing.assert_allclose(statistics.vectors, expected, atol=1e-3)
    assert embedding.crops.shape == (60, 8) and np.bincount(statistics.crop_classes).tolist() == [3] * 20
    scales = statistics.crops.mean(1) / expected.mean(1)[statistics.crop_classes]
    assert np.abs(scales - 1).max() < 0.15
    assert len(np.unique(statistics.crops[:, 0])) > 50  # they begin elsewhere
    plain, none = embed.with_crops(method.student.encoder, 0, False)
    assert plain.crops is None and none is None


# Training


@EACH
def test_a_run_finds_them_and_is_the_same_killed_before_at_and_after_and_whatever_things_are_called(
    data, tmp_path, config
):
    assert train(data, tmp_path / "whole", config=config) == 0
    lines = log_lines(tmp_path / "whole")
    assert [line["step"] for line in lines if "clusters" in line] == [3, 5, 8]  # and not at the end
    assert all(line["clusters"] >= 2 and 0.5 < line["with_partner"] <= 1 for line in lines[:3])
    assert "labels: none" in next((tmp_path / "whole").glob("*/config.yaml")).read_text()
    own = {**config, "positives": "own", "ssps": {}, "mask_same_cluster": False}
    if config["method"] == "dino":
        del own["mask_same_cluster"]
    assert train(data, tmp_path / "own", config=own) == 0
    assert not equal(weights(tmp_path / "whole"), weights(tmp_path / "own"))
    # Other names, other labels behind them, the same stored hashes.
    renamed = [f"x{(i * 7) % 20:02d}-y" for i in range(20)]
    make_data(tmp_path / "other/source", renamed, labels={"utt2emotion": {n: n[1] for n in renamed}})
    make_train_set(tmp_path / "other/source", tmp_path / "other/train")
    hashes = read_table(data / "utt2hash")
    write_table(
        tmp_path / "other/train/utt2hash", {new: hashes[old] for old, new in zip(NAMES, renamed, strict=True)}
    )
    # the step before the first clustering, its own, the one after
    for saves in (2, 3, 4) if config is CONFIGS["nearest"] else (3, 4):
        exp = tmp_path / f"cut{saves}"
        call = ["train", "--config", str(tmp_path / "whole.yaml"), "--num-threads", "1"]
        call += [str(tmp_path / "other/train"), str(exp)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SAVES": str(saves)}
        died = subprocess.run([sys.executable, "-c", KILLER, *call], env=environment, capture_output=True)
        assert died.returncode == -9, died.stderr
        classes = clusters_of(exp)[saves]
        assert (classes == torch.arange(20)).all() == (saves < 3)
        assert main(call) == 0
        assert equal(weights(tmp_path / "whole"), weights(exp)), saves
        assert lines == log_lines(exp)


def test_workers_read_no_batch_with_partners_of_before(data, tmp_path):
    config = {**CONFIGS["nearest"], "epochs": 2}
    assert train(data, tmp_path / "thread", config=config) == 0
    assert train(data, tmp_path / "workers", "--data-workers", "2", config=config) == 0
    assert equal(weights(tmp_path / "thread"), weights(tmp_path / "workers"))


def test_two_processes_find_and_train_as_one(data, tmp_path):
    """By the default chain; k-means: test_train_every_method.py. Babble mixes the same utterances in both where a
    batch is a multiple of 16.
    """
    config = CONFIGS["chain"]
    sgd = {"batch_size": 16, "optimiser": {"name": "sgd", "lr": 0.05, "warmup_epochs": 1}}
    config = {**config, **sgd, "checkpoint_steps": 500}
    assert train(data, tmp_path / "one", config=config) == 0
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pydino", "train"]
    options = ["--config", str(tmp_path / "one.yaml"), "--num-threads", "2"]
    done = subprocess.run(
        [sys.executable, *start, *options, str(data), str(tmp_path / "two")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    one, two = clusters_of(tmp_path / "one"), clusters_of(tmp_path / "two")
    assert one.keys() == two.keys() and all((one[step] == two[step]).all() for step in one)
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name in one:
        assert torch.allclose(one[name].float(), two[name].float(), atol=1e-5), name


def test_with_a_model_to_start_from_they_can_be_found_at_once(data, tmp_path, capsys):
    config = {**CONFIGS["nearest"], "epochs": 1, "ssps": {**KMEANS, "start_epoch": 0}}
    assert train(data, tmp_path / "first", config={**CONTRASTIVE, "positives": "own", "epochs": 1}) == 0
    capsys.readouterr()
    assert train(data, tmp_path / "exp", "--init", str(tmp_path / "first/model"), config=config) == 0
    assert "start: clusters " in capsys.readouterr().err
    assert all((classes < 6).all() for classes in clusters_of(tmp_path / "exp").values())


# Mistakes


@pytest.mark.parametrize(
    "change, message",
    [
        ({"crops": {"placement": "disjoint"}}, "placement: independent"),
        ({"positives": "own"}, "set positives: ssps, or remove ssps"),
        ({"ssps": {**SAMPLING, "start_epoch": 4}}, "start_epoch .4. must be before the end of the run"),
        ({"ssps": {**SAMPLING, "crops": 1}}, "crops must be 0 or at least 2"),
        ({"ssps": {**SAMPLING, "every_epochs": 0}}, "every_epochs"),
        ({"ssps": {"cluster": {"method": "k-means"}}}, "did you mean 'kmeans'"),
        ({"ssps": {"cluster": {"neighbour": [4]}}}, "ssps.cluster: unknown key 'neighbour'"),
    ],
)
def test_impossible_options(change, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(ContrastiveConfig, {**CONTRASTIVE, "ssps": CHAIN, **change})


def test_a_clustering_that_the_data_do_not_allow_is_an_error_that_says_so(data, tmp_path, capsys):
    for cluster, message in (
        ({"method": "kmeans", "num_clusters": 21}, "21 clusters of 20 vectors"),
        ({"method": "ward", "num_clusters": 4, "treatment": "wccn"}, "treatment 'wccn' is none of centred"),
    ):
        config = {**CONTRASTIVE, "ssps": {**KMEANS, "cluster": cluster}}
        assert train(data, tmp_path / cluster["method"], config=config) == 1
        error = capsys.readouterr().err
        assert f"ssps.cluster, 20 utterances: {message}" in error and "--force true" in error
        assert "Traceback" not in error


@pytest.mark.parametrize("method", ["contrastive", "dino"])
def test_a_finished_run_of_before_this_option_is_still_finished(method):
    assert "ssps" in LATER
    config = find_method(method).Config()
    assert _is_default(config, "ssps") and _is_default(config, "positives")
    config.ssps.start_epoch += 1
    assert not _is_default(config, "ssps")
