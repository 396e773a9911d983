"""Paired differences between the systems of a task: which of them is better on the same test units, and which
cannot be told apart.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pydino.backend import mcnemar, paired_difference
from pydino.base import warn
from pydino.report.gather import identity
from pydino.report.gather_transfer import Prediction, read_predictions
from pydino.report.result_tables import leading_metric, tests_of, title_of
from pydino.report.tables import (
    TUNED,
    Metric,
    Row,
    Table,
    cell_text,
    group_rows,
    is_baseline,
    mean_value,
    shown_metric,
)

RESAMPLES = 1000


@dataclass(frozen=True)
class Compared:
    """The rows of one task and test set by the task's leading metric."""

    task: str
    test_set: str
    metric: str
    how: Metric
    rows: list[Row]

    def found(self, row: Row) -> list[dict]:
        """The results of a row, one a seed."""
        return row.metrics[self.metric]

    def best(self, rows: list[Row]) -> Row:
        """The best of some rows by the mean over seeds."""
        sign = 1 if self.how.lower_is_better else -1
        return min(rows, key=lambda row: sign * mean_value(self.found(row)))

    def candidates(self) -> list[Row]:
        """The rows of models that were learnt without labels and tuned in steps; without any, all of models
        learnt without labels.
        """
        free = [row for row in self.rows if not is_baseline(row.key[0]) and row.key[6] in ("none", "pseudo")]
        in_steps = [row for row in free if row.key[2] == TUNED[0]]
        return in_steps or free

    def reference(self) -> Row | None:
        """The row that others are compared with: the best of the candidates."""
        candidates = self.candidates()
        return self.best(candidates) if candidates else None


def compared_tests(results: list[dict]) -> list[Compared]:
    """The tests of all tasks but verification; without those of a group, which is a part of a test set."""
    tests = tests_of([result for result in results if result["task"] != "sv"])
    found = []
    for (task, test_set), group in tests.items():
        metric = leading_metric(group)
        if metric is not None and ", " not in test_set:
            rows = group_rows([result for result in group if result["metric"] == metric])
            how = shown_metric(group, metric)
            found.append(Compared(task, test_set, metric, how, rows))
    return found


def difference_tables(results: list[dict], folders: dict[str, Path]) -> dict[tuple[str, str], Table]:
    """(task, test set) -> table, for those in which a system that was learnt without labels can be compared
    with others on the same units.

    Args:
        folders: as of :func:`pydino.report.gather_transfer.gather_task_folders`.
    """
    tables = {
        (test.task, test.test_set): _difference_table(test, folders) for test in compared_tests(results)
    }
    return {key: table for key, table in tables.items() if table}


def _difference_table(test: Compared, folders: dict[str, Path]) -> Table | None:
    reference = test.reference()
    runs = {row.key: _runs(test, row, folders) for row in test.rows}
    rows = [row for row in test.rows if runs[row.key]]
    if reference not in rows or len(rows) < 2:
        return None
    compared = {}
    for row in rows:
        if row != reference:
            compared[row.key] = _compare(test, row, runs[row.key], runs[reference.key])
    found = [one for one in compared.values() if one]
    if not found:
        return None
    header = ["model", "configuration", "back-end", "treatment", "verdict", test.how.heading]
    header += ["minus the reference", "n", "McNemar p"]
    cells = []
    for row in rows:
        one, scale = compared.get(row.key), test.how.decimals
        value = cell_text(test.found(row), scale)
        named = [row.key[0], row.key[5], row.key[2], row.key[4]]
        if row == reference:
            cells.append([*named, "reference", value, "", "", ""])
        elif one:
            measured = [value, _signed(one, scale), f"{one.units:,}", _range(one.chances)]
            cells.append([*named, one.verdict, *measured])
    dropped = {
        "configuration": len({(row.key[0], row.key[2], row.key[4]) for row in rows}) == len(rows),
        "treatment": len({row.key[4] for row in rows}) == 1,
        "n": len({one.units for one in found}) == 1,
        "McNemar p": not _has_tests(found),
    }
    kept = [place for place, name in enumerate(header) if not dropped.get(name)]
    return Table(
        f"Differences: {title_of(test.task, test.test_set)}",
        _caption(test, reference, found),
        [header[place] for place in kept],
        [[row[place] for place in kept] for row in cells],
        text_columns=sum(place < 5 for place in kept),
    )


def verdict_between(test: Compared, row: Row, other: Row, folders: dict[str, Path]) -> str | None:
    """How a row compares with another on the same test units, such as ``tie: +0.1 [-6.8, +7.2]``; None where
    that cannot be told, for want of the predictions of a run.

    Args:
        folders: as of :func:`pydino.report.gather_transfer.gather_task_folders`.
    """
    if ", " in test.test_set:  # a group of a test set: predictions do not name it
        return None
    ours, theirs = (_runs(test, one, folders) for one in (row, other))
    found = _compare(test, row, ours, theirs) if ours and theirs else None
    return f"{found.verdict}: {_signed(found, test.how.decimals)}" if found else None


def _has_tests(found: list["_Difference"]) -> bool:
    """Whether McNemar's test, which takes units as independent, applies: one unit a speaker."""
    return all(one.of_subjects and one.chances for one in found)


def _caption(test: Compared, reference: Row, found: list["_Difference"]) -> str:
    alike = test.candidates()
    name = ", ".join(part for part in (reference.key[0], reference.key[2], reference.key[4]) if part != "raw")
    kind = f"tuned {TUNED[0]}" if reference.key[2] == TUNED[0] else "learnt without labels"
    chosen = f", the best of the {len(alike)} {kind}" if len(alike) > 1 else ""
    counts, people = {one.units for one in found}, found[0].speakers
    about = f"{counts.pop():,} {found[0].counted}s" if len(counts) == 1 else f"{found[0].counted}s"
    caption = (
        f"Each row minus the reference ({name}{chosen}) on the same {about}, with the 95 % interval of the "
        f"difference by paired bootstrap over {people:,} speakers or subjects ({RESAMPLES:,} resamples, the "
        "same for both and for all of their seeds). A row is better or worse than the reference where the "
        "interval is on one side of 0; otherwise they tie."
    )
    if _has_tests(found):
        caption += " McNemar's exact test takes each as right or wrong; with several seeds: the range of p."
    return caption


def _runs(test: Compared, row: Row, folders: dict[str, Path]) -> list[dict[str, Prediction]]:
    """The predictions of each seed; none if one of the seeds lacks them."""
    found = []
    for result in test.found(row):
        folder = folders.get(identity(result))
        if folder is None:
            return []
        found.append(read_predictions(folder, test.test_set, result.get("task_dir", "")))
    return found


@dataclass(frozen=True)
class _Difference:
    value: float
    interval: list[float] | None
    verdict: str
    units: int
    speakers: int
    counted: str
    of_subjects: bool  # one unit a speaker
    chances: list[float]  # p of McNemar's test for each pair of seeds; none for numbers


def _compare(test: Compared, row: Row, ours: list[dict], theirs: list[dict]) -> _Difference | None:
    """Compare a row with the reference on the units that all of their runs have."""
    units = sorted(set.intersection(*(set(run) for run in (*ours, *theirs))))
    if not units:
        return None
    known = [theirs[0][unit] for unit in units]
    if any(run[unit].label != one.label for run in ours for unit, one in zip(units, known, strict=True)):
        warn(
            f"{title_of(test.task, test.test_set)}: {row.key[0]}, {row.key[2]} was tested with other labels "
            "than the reference, and is not compared with it; run stage 10 again"
        )
        return None
    _, speakers = np.unique([one.speaker for one in known], return_inverse=True)
    numbers = test.metric in ("mae", "rmse", "pearson")
    answers = [[[run[unit].predicted for unit in units] for run in runs] for runs in (ours, theirs)]
    labels = [one.label for one in known]
    if numbers:
        truth = np.array(labels, dtype=np.float64)
        first, second = (np.array(runs, dtype=np.float64) for runs in answers)
        classes: list[str] = []
    else:
        classes = sorted({*labels, *(name for runs in answers for run in runs for name in run)})
        place = {name: number for number, name in enumerate(classes)}
        truth = np.array([place[name] for name in labels])
        first, second = (np.array([[place[name] for name in run] for run in runs]) for runs in answers)
    done = paired_difference(test.metric, first, second, truth, speakers, len(classes), RESAMPLES)
    scale = 1 if numbers else 100
    return _Difference(
        scale * done.value,
        done.interval and [scale * bound for bound in done.interval],
        done.verdict(test.how.lower_is_better),
        len(units),
        int(speakers.max()) + 1,
        test.found(row)[0].get("counted", "utterance"),
        len(units) == int(speakers.max()) + 1,
        [] if numbers else [mcnemar(one == truth, other == truth) for one in first for other in second],
    )


def _signed(one: _Difference, decimals: int) -> str:
    text = f"{one.value:+.{decimals}f}"
    if one.interval is None:
        return text
    low, high = (f"{bound:+.{decimals}f}" for bound in one.interval)
    return f"{text} [{low}, {high}]"


def _range(chances: list[float]) -> str:
    if not chances:
        return ""
    low, high = f"{min(chances):.3f}", f"{max(chances):.3f}"
    return low if low == high else f"{low} to {high}"
