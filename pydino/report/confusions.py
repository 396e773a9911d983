"""Which class is taken for which: confusion matrices of some systems of each task as a figure, and the recall
of each class as a table.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pydino.base import read_json, warn
from pydino.report.differences import Compared, compared_tests
from pydino.report.figure_cache import FigureCache
from pydino.report.figures import Figure
from pydino.report.gather import identity
from pydino.report.result_tables import title_of
from pydino.report.tables import FROZEN, TUNED, Row, Table, is_baseline


@dataclass(frozen=True)
class Confusion:
    """Confusion matrices of one task.

    Attributes:
        systems: (title, (K, K) counts of all seeds together, (K,) recalls, NaN without a unit).
        title: the task and its test sets, whose units are together.
        counted: the plural of what is counted, and the seeds, if there are several.
    """

    task: str
    title: str
    classes: list[str]
    systems: list[tuple[str, np.ndarray, np.ndarray]]
    counted: str


def confusions(results: list[dict], folders: dict[str, Path]) -> list[Confusion]:
    """The confusions of each task: of the reference, of the same model frozen, of the best baseline, and of
    the encoder trained from scratch, as far as there are any.

    Args:
        folders: as of :func:`pydino.report.gather_transfer.gather_task_folders`.
    """
    found, tasks = [], set()
    for test in compared_tests(results):
        if test.task in tasks:  # its confusions are those of all test sets
            continue
        tasks.add(test.task)
        systems, classes, seeds, sets = [], [], 0, ""
        for row in _chosen(test):
            counts = _counts(test, row, folders)
            if not counts:
                continue
            classes, sets = classes or counts[0]["classes"], sets or counts[0]["test_set"]
            if any(one["classes"] != classes for one in counts):
                warn(f"{title_of(test.task)}: {row.key[0]} has other classes; its confusions are omitted")
                continue
            together = np.sum([one["counts"] for one in counts], axis=0)
            systems.append((_name(row, test), together, _recalls(together)))
            seeds = max(seeds, len(counts))
        if systems:
            unit = next((r["counted"] for r in test.found(test.rows[0]) if "counted" in r), "utterance")
            counted = f"{unit}s{', those of all seeds of a system together' if seeds > 1 else ''}"
            title = title_of(test.task, sets.replace("+", ", "))
            found.append(Confusion(test.task, title, classes, systems, counted))
    return found


def _name(row: Row, test: Compared) -> str:
    """A row as a title, with its treatment where the task has several."""
    treatments = {other.key[4] for other in test.rows}
    return ", ".join([row.key[0], row.key[2], *([row.key[4]] if len(treatments) > 1 else [])])


def _chosen(test: Compared) -> list[Row]:
    """Rows that are shown side by side."""
    reference = test.reference()

    def best(suitable) -> list[Row]:
        there = [row for row in test.rows if suitable(row)]
        return [test.best(there)] if there else []

    def is_frozen(row: Row) -> bool:
        return row.key[2] in FROZEN

    own = reference.key[:2] + reference.key[5:6] if reference else ()
    chosen = [
        *([reference] if reference else []),
        *best(lambda row: is_frozen(row) and row.key[:2] + row.key[5:6] == own),
        *best(lambda row: is_frozen(row) and is_baseline(row.key[0])),
        *best(lambda row: row.key[2] == TUNED[-1]),
    ]
    return [row for place, row in enumerate(chosen) if row not in chosen[:place]]


def _counts(test: Compared, row: Row, folders: dict[str, Path]) -> list[dict]:
    """The ``confusion.json`` of each seed."""
    paths = [folders[key] / "confusion.json" for key in map(identity, test.found(row)) if key in folders]
    return [read_json(path) for path in paths if path.is_file()]


def _recalls(counts: np.ndarray) -> np.ndarray:
    actual = counts.sum(axis=1)
    return np.where(actual > 0, np.diag(counts) / np.maximum(actual, 1), np.nan)


def recall_table(shown: Confusion) -> Table:
    """The recall of each class, one column a system."""
    rows = [
        [name, *("" if np.isnan(recalls[k]) else f"{100 * recalls[k]:.1f}" for *_, recalls in shown.systems)]
        for k, name in enumerate(shown.classes)
    ]
    title, caption = f"Recall of each class: {shown.title}", f"In percent of the class's {shown.counted}."
    return Table(title, caption, ["class", *(name for name, *_ in shown.systems)], rows, text_columns=1)


def confusion_figures(found: list[Confusion], cache: FigureCache) -> list[Figure]:
    """One figure for each task."""
    figures = []
    for number, one in enumerate(found):
        caption = (
            f"Numbers of {one.counted}. Rows are the true classes, with their recall; columns what they were "
            "taken for."
        )
        name = f"confusion{number}"

        def draw(one=one, name=name) -> str:
            from pydino.report import plots

            return plots.confusion_matrices(one.systems, one.classes, name)

        svg = cache.get(["confusion", name, one.systems, one.classes], draw)
        figures.append(Figure(f"Confusions: {one.title}", caption, svg))
    return figures
