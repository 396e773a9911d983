"""Studies: the cells of a grid, each measured over its seeds, and their differences to one of them."""

from pathlib import Path

import numpy as np

from pydino.backend import (
    bootstrap_classes,
    bootstrap_numbers,
    class_measures,
    number_measures,
    paired_difference,
    percentile_interval,
    speaker_confusions,
    speaker_sums,
)
from pydino.base import UserError, read_json, read_lines, warn, write_json, write_text
from pydino.report.figure_cache import FigureCache
from pydino.report.figures import Figure
from pydino.report.gather import STUDIES, gather_results
from pydino.report.page import markdown_page
from pydino.report.tables import METRICS, TASK_TITLES, Table

_LEADING = {"class": "uar", "number": "mae"}


def measure_study(
    name: str,
    axes: dict[str, list[str]],
    reference: dict[str, str],
    seeds: list[int],
    runs: list[tuple[dict[str, str], str, list[str]]],
    resamples: int = 1000,
) -> dict:
    """Measure the cells of a study.

    The value of a cell is the mean over its seeds. Its interval, and that of its difference to the reference,
    are by bootstrap over the speakers of the test units: the same draws for all seeds and for both cells.

    Args:
        name: of the study.
        axes: axis -> labels, in order.
        reference: axis -> label of the cell that the others are compared with.
        seeds: of the runs of a cell.
        runs: (axis -> label, task, a folder for each seed) of each cell and task.
        resamples: of the bootstrap.

    Returns:
        ``name``, ``axes``, ``seeds``, ``reference``, ``resamples``, and ``cells``: a mapping for each cell
        and task, with ``varied``, ``task``, ``metric``, ``unit``, ``value``, ``ci``, ``values`` (one a seed),
        ``chance``, ``n``, ``counted``, ``speakers``, ``difference``, ``difference_ci``, ``verdict``.

    Raises:
        UserError: results that are missing, or of other test units than the reference's.
    """
    cells = []
    for task in dict.fromkeys(task for _, task, _ in runs):
        measured = [(varied, _Runs(task, folders)) for varied, of, folders in runs if of == task]
        base = next((found for varied, found in measured if _is_part(varied, reference)), None)
        if base is None:
            raise UserError(f"the study {name} has no cell {_text(reference)}, its reference")
        for varied, found in measured:
            cells.append({"varied": varied, "task": task, **found.measure(resamples)})
            if found is not base:
                cells[-1] |= found.minus(base, resamples)
    return {
        "name": name,
        "axes": axes,
        "seeds": seeds,
        "reference": reference,
        "resamples": resamples,
        "cells": cells,
    }


def _is_part(varied: dict[str, str], reference: dict[str, str]) -> bool:
    """Whether a cell is the reference, as far as the axes go that make a difference to it."""
    return bool(varied) and all(reference[axis] == label for axis, label in varied.items())


class _Runs:
    """The predictions of a cell for one task, one row a seed."""

    def __init__(self, task: str, folders: list[str]):
        entries = [read_json(Path(folder, f"{task}.result.json")) for folder in folders]
        kind = "class" if any(entry["metric"] == "uar" for entry in entries[0]) else "number"
        self.metric, self.scale = _LEADING[kind], 100 if kind == "class" else 1
        shown = next(entry for entry in entries[0] if entry["metric"] == self.metric)
        self.unit, self.counted = shown["unit"], shown.get("counted", "utterance")
        lines = [
            {words[0]: words for words in map(str.split, read_lines(Path(folder, "predictions.txt")))}
            for folder in folders
        ]
        self.units = sorted(lines[0])
        if any(sorted(found) != self.units for found in lines):
            raise UserError(f"{folders[0]} and other seeds have predictions of different {self.counted}s")
        self.labels = [lines[0][unit][3] for unit in self.units]
        self.speakers = np.unique([lines[0][unit][1] for unit in self.units], return_inverse=True)[1]
        self.answers = [[found[unit][4] for unit in self.units] for found in lines]
        self.folders = folders

    @property
    def is_number(self) -> bool:
        return self.metric == "mae"

    def arrays(self, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Truth (N,) and answers (R, N), class numbers or numbers."""
        if self.is_number:
            return np.array(self.labels, dtype=np.float64), np.array(self.answers, dtype=np.float64)
        place = {name: number for number, name in enumerate(classes)}
        answers = np.array([[place[name] for name in run] for run in self.answers])
        return np.array([place[name] for name in self.labels]), answers

    def classes(self) -> list[str]:
        """Every class that is a label or an answer; none for numbers."""
        if self.is_number:
            return []
        return sorted({*self.labels, *(name for run in self.answers for name in run)})

    def measure(self, resamples: int) -> dict:
        classes = self.classes()
        truth, answers = self.arrays(classes)
        values, drawn, count = [], [], int(self.speakers.max()) + 1
        for run in answers:
            if self.is_number:
                sums = speaker_sums(truth, run, self.speakers)
                values.append(float(number_measures(sums.sum(0))[self.metric]))
                drawn.append(bootstrap_numbers(sums, resamples)[self.metric] if resamples else np.empty(0))
            else:
                counts = speaker_confusions(truth, run, self.speakers, len(classes))
                values.append(float(class_measures(counts.sum(0))[self.metric]))
                drawn.append(bootstrap_classes(counts, resamples)[self.metric] if resamples else np.empty(0))
        interval = percentile_interval(np.mean(drawn, axis=0)) if resamples and count > 1 else None
        chance = self._chance(truth, classes)
        return {
            "metric": self.metric,
            "unit": self.unit,
            "value": self._rounded(np.mean(values)),
            "ci": interval and [self._rounded(bound) for bound in interval],
            "values": [self._rounded(value) for value in values],
            "chance": self._rounded(chance),
            "n": len(self.units),
            "counted": self.counted,
            "speakers": count,
        }

    def _chance(self, truth, classes) -> float:
        """Of always answering one class, or the mean."""
        return 1 / len(set(self.labels)) if classes else float(np.abs(truth - truth.mean()).mean())

    def minus(self, base: "_Runs", resamples: int) -> dict:
        """The difference to the reference on the same units."""
        if (self.units, self.labels) != (base.units, base.labels):
            raise UserError(
                f"{self.folders[0]} and {base.folders[0]} have other test {self.counted}s or labels; remove "
                "the one that is out of date and run the study again"
            )
        classes = sorted({*self.classes(), *base.classes()})
        truth, first = self.arrays(classes)
        done = paired_difference(
            self.metric, first, base.arrays(classes)[1], truth, self.speakers, len(classes), resamples
        )
        return {
            "difference": self._rounded(done.value),
            "difference_ci": done.interval and [self._rounded(bound) for bound in done.interval],
            "verdict": done.verdict(METRICS[self.metric].lower_is_better),
        }

    def _rounded(self, value) -> float:
        return round(float(self.scale * value), 6)


def study_tables(study: dict) -> list[Table]:
    """One table a task: a row for each cell."""
    axes, seeds = list(study["axes"]), len(study["seeds"])
    tables = []
    for task in dict.fromkeys(cell["task"] for cell in study["cells"]):
        cells = [cell for cell in study["cells"] if cell["task"] == task]
        metric = METRICS[cells[0]["metric"]]
        header = [*map(_heading, axes), "verdict", metric.heading]
        header += [*(["range over seeds"] if seeds > 1 else []), "minus the reference"]
        rows = []
        for cell in cells:
            row = [cell["varied"].get(axis, "any") for axis in axes]
            value = _with_interval(cell["value"], cell["ci"], metric.decimals)
            row += [cell.get("verdict", "reference"), value]
            if seeds > 1:
                low, high = min(cell["values"]), max(cell["values"])
                row.append(f"{low:.{metric.decimals}f} to {high:.{metric.decimals}f}")
            signed = ""
            if "difference" in cell:
                signed = _with_interval(cell["difference"], cell["difference_ci"], metric.decimals, "+")
            rows.append([*row, signed])
        one, unit = cells[0], f" in {cells[0]['unit']}" if cells[0]["metric"] == "mae" else ""
        caption = (
            f"{one['n']:,} {one['counted']}s of {one['speakers']:,} speakers; mean over {seeds} "
            f"seed{'s' if seeds > 1 else ''}{unit}; chance {one['chance']:.{metric.decimals}f}. "
            f"Brackets: 95 % intervals by bootstrap over speakers ({study['resamples']:,} resamples), of "
            f"differences the same draws for both. Reference: {_text(study['reference'])}. A cell is better "
            "or worse than it where the interval of the difference is on one side of 0; otherwise they tie."
        )
        if any(len(cell["varied"]) < len(axes) for cell in cells):
            caption += " any: the axis makes no difference to the cell."
        title = f"Study {study['name']}: {TASK_TITLES.get(task, task)}"
        tables.append(Table(title, caption, header, rows, len(axes) + 1))
    return tables


def _heading(axis: str) -> str:
    return "share of labels" if axis == "labels" else axis


def _with_interval(value: float, interval, decimals: int, sign: str = "") -> str:
    text = f"{value:{sign}.{decimals}f}"
    if interval is None:
        return text
    return f"{text} [{interval[0]:{sign}.{decimals}f}, {interval[1]:{sign}.{decimals}f}]"


def _text(varied: dict[str, str]) -> str:
    return ", ".join(f"{_heading(axis)} {label}" for axis, label in varied.items())


def write_study(folder, study: dict) -> None:
    """Write results.json, RESULTS.md and study.svg of a study."""
    from pydino.report.study_plot import study_file

    folder = Path(folder)
    write_json(folder / "results.json", study)
    write_text(folder / "study.svg", study_file(study))
    made_by = f"Made by `steps/run_study.sh`; figure: [study.svg](study.svg); runs: `{folder}/cells`."
    page = markdown_page(f"Study {study['name']}", study_tables(study), "", made_by)
    write_text(folder / "RESULTS.md", page)


def gather_studies(root) -> list[dict]:
    """Every study below the folder of the experiments, by name."""
    found = []
    for path in sorted(Path(root, STUDIES).glob("*/results.json")):
        try:
            found.append(read_json(path))
        except UserError:
            warn(f"{path} is not what run-study writes, and is omitted")
    return found


def gather_study_results(root) -> list[dict]:
    """The results of the cells of all studies, as :func:`pydino.report.gather.gather_results`."""
    folder = Path(root, STUDIES)
    return gather_results(folder) if folder.is_dir() else []


def study_figures(studies: list[dict], cache: FigureCache) -> list[Figure]:
    """One figure a study."""

    def draw(number: int, study: dict) -> str:
        from pydino.report.study_plot import study_drawing

        return study_drawing(study, f"study{number}")

    caption = "Mean over seeds with its 95 % interval by bootstrap over speakers; dotted: chance."
    return [
        Figure(
            f"Study {study['name']}",
            caption,
            cache.get(["study", number, study], lambda n=number, s=study: draw(n, s)),
        )
        for number, study in enumerate(studies)
    ]
