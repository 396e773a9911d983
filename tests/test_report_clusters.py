"""Clusters and rounds in the report."""

import json

import pytest

from pydino.base import Step
from pydino.report.clusters import cluster_figures, gather_clusters, rounds_tables
from pydino.report.figure_cache import FigureCache
from pydino.report.gather import TrainingRun, gather_results, gather_training_runs, shown_name

CANDIDATES = [{"start": "centred", "self_eer": 9.0}, {"start": "wccn", "self_eer": 7.0}]


def write_clusters(root, system, count, self_eer, agreement=None):
    folder = root / system / "clusters"
    folder.mkdir(parents=True)
    about = {"system": system, "clusters": count, "singletons": 0.25, "self_eer": self_eer, "chosen": 1}
    (folder / "clusters.json").write_text(json.dumps(about | {"candidates": CANDIDATES}))
    if agreement:
        (folder / "agreement.json").write_text(json.dumps(agreement))


def eer(system, value, backend="cosine", labels="none", treatment="raw", model="m", model_labels="none"):
    keys = {"backend": backend, "labels": labels, "treatment": treatment, "model_labels": model_labels}
    about = {"task": "sv", "metric": "eer", "test_set": "test", "value": value, "ci": None, "n": 9}
    return keys | about | {"system": system, "model": model, "varied": {}, "seed": 0}


def run(name, *lines, batch_size=60):
    keys = ("step", "utterances_per_second")
    return TrainingRun(name, [dict(zip(keys, line, strict=True)) for line in lines], batch_size)


@pytest.fixture
def root(tmp_path):
    for seed, (count, rate) in enumerate([(300, 7.0), (320, 8.0)]):
        write_clusters(tmp_path, f"d_x/seed{seed}", count, rate)
    write_clusters(
        tmp_path, "d-r_x/seed0", 250, 2.5, {"purity": 0.9, "pair_precision": 0.84, "pair_recall": 0.59}
    )
    write_clusters(tmp_path, "fbank-stats_x/seed0", 99, 12.0)
    return tmp_path


RESULTS = [
    eer("d_x/seed0", 12.0),
    eer("d_x/seed1", 14.0),
    eer("d-r_x/seed0", 7.0, model="c", model_labels="pseudo"),
    eer("d-r_x/seed0", 4.5, "plda", "pseudo", "raw + statistics", "c", "pseudo"),
    eer("d-r_x/seed0", 99.0, "cosine", "none", "whitened", "c", "pseudo"),
    eer("x_x/seed0", 4.2, model="xvector", model_labels="train"),
    eer("x_x/seed0", 3.3, "plda", "train", "raw", "xvector", "train"),
    eer("fbank-stats_x/seed0", 28.0, model="fbank-stats"),
]
RUNS = [
    run("d_x/seed0", (60, 60.0), (120, 30.0)),
    run("d_x/seed1", (120, 40.0)),
    run("d-r_x/seed0", (60, 60.0)),
    run("d-r_x/seed0/affine", (30, 60.0)),
    run("d-r_x/seed0/transfer/a", (600, 60.0)),
]


def test_the_table_has_systems_in_their_rounds_with_what_they_reach_and_cost(root):
    (table,) = rounds_tables(gather_clusters(root), RESULTS, RUNS)
    named = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [row["system"] for row in named] == ["d_x", "d-r_x", "x_x", "fbank-stats_x"]
    base, again, supervised, statistics = named
    assert base["clusters"] == "310 (300 to 320)" and base["self-EER %"] == "7.5 (7.0 to 8.0)"
    assert base["cosine"] == "13.00 (12.00 to 14.00)" and base["minutes"] == "3.0 (3.0 to 3.0)"
    assert again["minutes"] == "1.5" and again["PLDA, clusters, + statistics"] == "4.50"
    assert (again["alone %"], again["pair precision % †"], base["purity % †"]) == ("25", "84", "")
    assert supervised["clusters"] == "" and supervised["PLDA, labels"] == "3.30"
    assert statistics["minutes"] == "" and not any("whitened" in name for name in table.header)
    assert (2, table.header.index("cosine")) in table.best
    assert "nothing was chosen by it" in table.caption


def test_without_trials_there_is_a_table_of_the_clusters_and_without_clusters_none(root, tmp_path):
    (table,) = rounds_tables(gather_clusters(root), [], [])
    assert table.title == "Clusters" and len(table.rows) == 3 and "minutes" not in table.header
    assert rounds_tables([], RESULTS, RUNS) == []
    assert gather_clusters(tmp_path / "d_x/seed0") and not gather_clusters(tmp_path / "nowhere")


def test_the_candidates_are_a_figure(root):
    (figure,) = cluster_figures(gather_clusters(root), FigureCache())
    assert "<svg" in figure.svg and "d-r_x/seed0" in figure.svg
    assert cluster_figures([], FigureCache()) == []


def test_minutes_are_those_of_the_steps_in_the_log(tmp_path):
    for name, config in (("a", "batch_size: 30\n"), ("b", "")):
        (tmp_path / name).mkdir()
        lines = [{"step": 10, "utterances_per_second": 10}, {"step": 30, "utterances_per_second": 5}]
        (tmp_path / name / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (tmp_path / name / "config.yaml").write_text(config)
    timed, unknown = gather_training_runs(tmp_path)
    assert timed.minutes == pytest.approx((10 * 30 / 10 + 20 * 30 / 5) / 60) and unknown.minutes is None


def test_rounds_are_shown_by_their_system():
    assert shown_name("contrastive", {"model_labels": "pseudo", "system": "d-r_x/seed3"}) == "d-r_x"
    assert shown_name("dino", {"model_labels": "none", "system": "d_x/seed3"}) == "dino"
    assert shown_name("dino", {}) == "dino"


def test_rounds_are_called_after_their_system_in_every_result(tmp_path):
    """All are of one method; of a fusion each part is named."""
    parts = "d-one_x/seed0 + d-two_x/seed0"
    for number, (system, labels) in enumerate(
        (("d_x/seed0", "none"), ("d-one_x/seed0", "pseudo"), ("d-two_x/seed0", "pseudo"), (parts, "pseudo"))
    ):
        one = eer(system, 5.0 + number, model="c", model_labels=labels) | {"test_set": f"set{number}"}
        one |= {"train_set": "x/train", "unit": "percent", "config": "c", "version": "0"}
        (tmp_path / f"{number}.result.json").write_text(json.dumps([one]))
    names = [result["model"] for result in gather_results(tmp_path)]
    assert names == ["c", "d-one_x", "d-two_x", "d-one_x + d-two_x"]
    assert shown_name("a + c", {"model_labels": "none + pseudo", "system": "a_x/seed0 + d-r_x/seed0"}) == (
        "a_x + d-r_x"
    )
    assert shown_name("c", {"model_labels": "pseudo", "system": "unknown"}) == "c"


def test_agreement_with_labels_that_have_changed_is_not_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clusters, labels = tmp_path / "exp/clusters", tmp_path / "data/utt2spk"
    for path in (clusters, labels.parent):
        path.mkdir(parents=True)
    labels.write_text("u1 a\nu2 b\n")
    (clusters / "clusters.json").write_text(json.dumps({"system": "d_x/seed0"}))
    step = Step(
        "exp/clusters/.measured",
        "exp/clusters/agreement.json",
        reads=["data/utt2spk"],
        outputs=["exp/clusters/agreement.json"],
    )
    with step:
        (clusters / "agreement.json").write_text('{"purity": 0.5}')
    assert gather_clusters("exp")[0].agreement == {"purity": 0.5}
    labels.write_text("u1 a\nu2 a\n")
    assert gather_clusters("exp")[0].agreement == {}
