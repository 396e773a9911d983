"""The study of scores without labels, on made-up records of runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import label_free_scores as study  # noqa: E402

from pydino.base import UserError  # noqa: E402


def points(errors, self_eers, lidars):
    same = {"rankme": 5.0, "alignment": 0.3, "uniformity": -3.0, "stability": None, "role": "teacher"}
    return [
        {"model": f"e{i}", "epoch": i, "eer": e, "self_eer": s, "lidar": d, **same}
        for i, (e, s, d) in enumerate(zip(errors, self_eers, lidars, strict=True))
    ]


def test_a_score_that_orders_as_the_eer_has_correlation_one_and_no_regret():
    run = points([20, 15, 10, 12], [30, 25, 20, 21], [10, 20, 40, 50])
    assert study.correlation(run, "self_eer") == pytest.approx(1)
    assert study.correlation(run, "lidar") == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert np.isnan(study.correlation(run, "rankme"))  # constant
    assert np.isnan(study.correlation(run, "stability"))  # never measured
    assert study.regret(run, "self_eer") == 0
    assert study.regret(run, "lidar") == study.regret(run, "last") == 2
    reversed_run = points([10, 12, 15], [30, 25, 20], [10, 20, 40])
    assert study.correlation(reversed_run, "self_eer") == pytest.approx(-1)
    assert study.regret(reversed_run, "self_eer") == 5


def test_ties_are_averaged():
    # ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4
    assert study.spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(
        np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1]
    )
    assert np.isnan(study.spearman([1, 2], [1, 2]))


def write(exp, run):
    exp.mkdir(parents=True)
    lines = []
    for one in run:
        about = {key: one[key] for key in ("model", "epoch", "role")} | {"weights": f"w{one['epoch']}"}
        lines.append(about | {key: value for key, value in one.items() if key != "eer"})
        lines.append(about | {"eer": one["eer"], "knn": 50.0})
        lines.append(about | {"model": "student", "role": "student", "eer": 3.0, "knn": 50.0})
    (exp / "monitor.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_one_command_makes_the_table_and_says_what_is_missing(tmp_path):
    draw = np.random.default_rng(0)
    for number in range(6):
        errors = draw.uniform(5, 30, 5).round(2)
        write(tmp_path / f"run{number}", points(errors, errors * 2, -errors + draw.normal(size=5)))
    command = [sys.executable, study.__file__, *map(str, sorted(tmp_path.glob("run*")))]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert table.startswith("6 runs, 30 snapshots.")
    assert "| self_eer | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] | 0.00 [0.00, 0.00] |" in table
    assert "| rankme | - | - |" in table and "| last | - | - |" in table
    write(tmp_path / "none", [])
    with pytest.raises(UserError, match="no snapshot has both"):
        study.read_run(tmp_path / "none")
