"""The figure of a study: lines along an axis that has an order, points where it has none. Cells are told
apart by marks and line styles, so that it is legible without colour.
"""

import io

import matplotlib
from matplotlib.figure import Figure

from pydino.report.svg import COLOURS, new_figure, style, to_svg
from pydino.report.tables import METRICS, TASK_TITLES

_MARKS, _LINES = "osD^vP*X", ("-", "--", "-.", ":")
_MOST_SERIES = 8
_AXES = {"labels": "share of the labels", "hours": "hours of pre-training"}


def study_drawing(study: dict, name: str) -> str:
    """Return the figure for the page; ``name``: unique on it."""
    with style():
        figure, axes = new_figure(1, len(_tasks(study)), **_options(study))
        _draw(figure, axes, study)
        return to_svg(figure, name, f"Study {study['name']}")


def study_file(study: dict) -> str:
    """Return the figure as a file of its own, black on white."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pydino", "font.size": 9}):
        figure = Figure(facecolor="white", figsize=_options(study)["figsize"], layout="constrained")
        axes = figure.subplots(1, len(_tasks(study)), squeeze=False)
        _draw(figure, axes, study)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()


def _tasks(study: dict) -> list[str]:
    return list(dict.fromkeys(cell["task"] for cell in study["cells"]))


def _options(study: dict) -> dict:
    return {"figsize": (4.4 * len(_tasks(study)), 3.6), "squeeze": False, "layout": "constrained"}


def _draw(figure, axes, study: dict) -> None:
    along = axis_along(study["axes"])
    labels = study["axes"][along]
    ordered = is_ordered(along, labels)
    for panel, task in zip(axes.flat, _tasks(study), strict=True):
        cells = [cell for cell in study["cells"] if cell["task"] == task]
        series: dict[tuple, list[dict]] = {}
        for cell in cells:
            rest = tuple(label for axis, label in cell["varied"].items() if axis != along)
            series.setdefault(rest, []).append(cell)
        for number, (rest, found) in enumerate(list(series.items())[:_MOST_SERIES]):
            _one_series(panel, number, len(series), ", ".join(rest), found, along, labels, ordered)
        panel.axhline(cells[0]["chance"], linestyle=":", linewidth=0.8, color="gray")
        panel.set_xticks(range(len(labels)), labels, rotation=0 if ordered else 20)
        panel.set_xlim(-0.5, len(labels) - 0.5)
        unit = cells[0]["unit"] if cells[0]["metric"] == "mae" else ""
        panel.set_ylabel(f"{METRICS[cells[0]['metric']].heading} {unit}".strip())
        panel.set_xlabel(_AXES.get(along, along))
        panel.set_title(TASK_TITLES.get(task, task))
    handles, names = axes.flat[0].get_legend_handles_labels()
    if any(names):
        figure.legend(handles, names, loc="outside lower center", ncols=2)


def _one_series(panel, number, count, name, cells, along, labels, ordered) -> None:
    mark, line = _MARKS[number % len(_MARKS)], _LINES[number % len(_LINES)]
    colour, shift = COLOURS[number % len(COLOURS)], 0.08 * (number - (count - 1) / 2)
    if along not in cells[0]["varied"]:  # the same wherever it is on this axis
        panel.axhline(cells[0]["value"], linestyle=line, color=colour, linewidth=1.2, label=name)
        return
    x = [labels.index(cell["varied"][along]) + shift for cell in cells]
    y = [cell["value"] for cell in cells]
    ends = [cell["ci"] or [cell["value"]] * 2 for cell in cells]
    # A percentile interval may lie on one side of the value.
    below = [max(0.0, value - low) for value, (low, _) in zip(y, ends, strict=True)]
    above = [max(0.0, high - value) for value, (_, high) in zip(y, ends, strict=True)]
    panel.errorbar(
        x,
        y,
        yerr=[below, above],
        marker=mark,
        markersize=5,
        linestyle=line if ordered else "none",
        color=colour,
        linewidth=1.3,
        capsize=3,
        label=name,
    )


def axis_along(axes: dict[str, list[str]]) -> str:
    """Return the axis that is drawn from left to right: the first with an order, or else the one with the
    most labels.
    """
    ordered = [axis for axis, labels in axes.items() if is_ordered(axis, labels)]
    return ordered[0] if ordered else max(axes, key=lambda axis: len(axes[axis]))


def is_ordered(axis: str, labels: list[str]) -> bool:
    """Whether labels are amounts: hours, shares, or such as begin with a number."""
    return axis in ("hours", "labels") or sum(label[:1].isdigit() for label in labels) >= 2
