"""Scores without labels and verdicts in the report, beside the reference curves of the package."""

import json
import shutil

import numpy as np
import pytest

from pydino.base import dump_config
from pydino.report.figure_cache import FigureCache
from pydino.report.health import gather_monitored_runs, health_figures, health_table
from pydino.report.reference_curves import SCORES, beside_reference, curve, reference_runs, with_log


def line(epoch, role="teacher", **scores):
    known = {"self_eer": 20.0 - epoch, "lidar": 50.0, "rankme": 60.0, "stability": None}
    return {"model": f"{role}{epoch}", "role": role, "epoch": epoch, **known, **scores}


def write(exp, lines, sentence="healthy, after 4 of 4 epochs"):
    (exp / "monitor").mkdir(parents=True)
    text = "".join(json.dumps(one) + "\n" for one in lines)
    (exp / "monitor.jsonl").write_text(text + '{"cut off')
    (exp / "monitor/health.json").write_text(json.dumps({"state": "healthy", "sentence": sentence}))
    (exp / "log.jsonl").write_text('{"epoch": 4.0, "effective_rank": 7.5}\n{"cut')
    dump_config({"epochs": 4.0}, exp / "config.yaml")


def test_runs_are_shown_with_their_last_scores_and_verdict(tmp_path):
    lines = [
        line(0, "untrained"),
        line(2),
        {"role": "teacher", "epoch": 2, "eer": 9.0},
        line(4, stability=0.9),
    ]
    write(tmp_path / "dino_x/seed0", lines)
    runs = gather_monitored_runs(tmp_path)
    assert [run.name for run in runs] == ["dino_x/seed0"]
    table = health_table(runs)
    verdict = "healthy, after 4 of 4 epochs"
    assert table.rows == [["dino_x/seed0", verdict, "4", "16.0", "50.0", "60.0", "0.90", "7.5", "", ""]]
    (figure,) = health_figures(runs, FigureCache())
    assert "dino_x/seed0" in figure.svg and figure.svg.count("reference: ") == 2
    for seed in range(2):
        for name in "abcdefgh":
            write(tmp_path / f"{name}/seed{seed}", [line(2)])
    (figure,) = health_figures(gather_monitored_runs(tmp_path), FigureCache())
    assert "g/seed0" in figure.svg and "a/seed1" not in figure.svg and "8 of the 17" in figure.caption
    assert health_table([]) is None and health_figures([], FigureCache()) == []


def test_the_references_have_every_score_and_differ_as_their_names_say():
    runs = reference_runs()
    for run in runs.values():
        assert run["epochs"] > 1 and run["embedding_dim"] == 128
        for key in SCORES:
            shares, values = curve(run["points"], key, run["epochs"])
            assert len(shares) > 3 and shares[-1] == 1 and np.isfinite(values).all()
    last = {name: run["points"][-1] for name, run in runs.items()}
    assert last["healthy"]["self_eer"] < 0.5 * last["collapsed"]["self_eer"]


def test_a_run_is_compared_at_the_same_share_of_its_training(monkeypatch):
    flat = {"epochs": 10.0, "points": [line(0, self_eer=40.0), line(10, self_eer=20.0)]}
    steep = {"epochs": 5.0, "points": [line(2, self_eer=50.0), line(5, self_eer=50.0)]}
    monkeypatch.setattr(
        "pydino.report.reference_curves.reference_runs", lambda: {"healthy": flat, "collapsed": steep}
    )
    lines = [line(50, self_eer=31.0), line(100, self_eer=30.0), {"eer": 3.0, "epoch": 100}]
    text = beside_reference(lines, 100).splitlines()
    assert [row.split()[:4] for row in text[1:]] == [
        ["50", "31.0", "(30.0,", "50.0)"],
        ["100", "30.0", "(20.0,", "50.0)"],
    ]
    assert len(beside_reference([line(epoch) for epoch in range(100)], 100).splitlines()) <= 13
    assert text[0].split() == ["epoch", "self-EER", "%", "LiDAR", "RankMe"]  # no column of what none has


def test_snapshots_take_the_line_of_the_log_of_their_epoch():
    log = [
        {"epoch": 1.02, "effective_rank": 9.0, "embedding_spread": 0.9},
        {"epoch": 2.0, "effective_rank": 8.0, "mean_teacher_entropy": 2.5, "teacher_entropy": 1.0},
    ]
    start, first, second, third = with_log([line(epoch) for epoch in (0, 1, 2, 3)], log)
    assert first["effective_rank"] == 9.0 and first["information"] is None
    assert second["information"] == 1.5 and second["embedding_spread"] is None
    assert "effective_rank" not in start and "effective_rank" not in third
    assert with_log([line(1)], []) == [line(1)]


@pytest.mark.parametrize("lost", ["health.json", "monitor", "views", "finite"])
def test_a_run_without_a_verdict_or_a_score_is_in_the_table_and_not_in_the_figure(tmp_path, lost):
    write(tmp_path / "run", [line(2, self_eer=None)] if lost == "finite" else [], "collapsed, after 2 epochs")
    (tmp_path / "run/tensorboard/monitor").mkdir(parents=True)
    if lost == "health.json":  # pydino monitor failed
        (tmp_path / "run/monitor/health.json").unlink()
    elif lost == "monitor":  # or before it made a list of views
        shutil.rmtree(tmp_path / "run/monitor")
        (tmp_path / "run/monitor.jsonl").unlink()
        (tmp_path / "run/log").mkdir()
        (tmp_path / "run/log/monitor.log").touch()
    elif lost == "views":  # it ended before it measured anything
        (tmp_path / "run/monitor/health.json").write_text("{}")
        (tmp_path / "run/monitor.jsonl").unlink()
    runs = gather_monitored_runs(tmp_path)
    said = "collapsed, after 2 epochs"
    if lost != "finite":
        said = f"not measured: {tmp_path}/run/log/monitor.log may say why"
    assert health_table(runs).rows == [["run", said, *[""] * (1 + len(SCORES))]]
    assert health_figures(runs, FigureCache()) == []
