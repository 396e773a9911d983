"""The schema of a study (conf/studies/NAME.yaml): what is varied, and the cells of the grid. No torch."""

import itertools
import json
import re
from dataclasses import dataclass, field
from typing import Any

from pydino.base import nearest

from .names import check_names
from .tasks import CLASSIFIERS, TUNING

FROZEN, SCRATCH = "frozen", "from-scratch"
MODES = (FROZEN, *TUNING, *CLASSIFIERS["class"], *CLASSIFIERS["number"])
OWN_AXES = ("mode", "model", "labels", "hours")  # every other axis is of the configurations of fine-tuning
ALL = "all"  # of hours: the training set of the recipe, and the models that the recipe has trained on it
_KEY = re.compile(r"[a-z_]+(\.[a-z_]+)*")


@dataclass
class Study:
    """What is varied (``grid``), on which tasks, and what all cells have in common.

    ``grid`` has axes; an axis is a list of values, or a mapping from the labels in tables to values:

    * ``mode``: of fine-tuning, or ``frozen`` (the task's first classifier), or a classifier;
    * ``model``: models of the recipe, or ``from-scratch``;
    * ``labels``: shares of the labelled units of training and development parts;
    * ``hours``: hours of speech that models are trained on without labels, or ``all``;
    * any key of a configuration of fine-tuning, such as ``crops.global_seconds``. Where a value is a mapping,
      the axis has any name, and the mapping has the keys and their values.
    """

    grid: dict[str, Any]
    name: str = ""  # default: that of the file
    tasks: list[str] = field(default_factory=list)  # of the recipe; default: its first
    mode: str = "affine-then-all"  # where it is not an axis
    models: list[str] = field(default_factory=list)  # of the recipe; default: its first, or those of --model
    set: dict[str, Any] = field(default_factory=dict)  # keys of the configurations of fine-tuning
    folds: str = ""  # of a cross-validation, instead of the recipe's
    seeds: list[int] = field(default_factory=lambda: [0])
    reference: dict[str, Any] = field(default_factory=dict)  # axis -> label; default: the first label

    def __post_init__(self):
        if not self.grid:
            raise ValueError("grid: there is nothing to vary; give it an axis, such as labels: [0.1, 1.0]")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds must be different whole numbers from 0 on, got {self.seeds}")
        for key in ("tasks", "models"):
            check_names(key, getattr(self, key))
        if self.name:
            check_names("name", [self.name])
        if self.mode not in MODES:
            raise ValueError(f"mode: there is no '{self.mode}'{nearest(self.mode, MODES)}")
        if self.folds and not (self.folds.isdecimal() or self.folds == "speaker"):
            raise ValueError(f"folds must be 'speaker' or a number, got '{self.folds}'")
        for axis, values in self.grid.items():
            if not isinstance(values, list | dict) or len(values) < 2:
                raise ValueError(f"grid.{axis}: give a list of two values or more, or 'label: value' lines")
        for axis in self.grid:
            self._check_axis(axis)
        for axis, label in self.reference.items():
            known = list(self.axes.get(axis, ()))
            if label_of(label) not in known:
                raise ValueError(
                    f"reference: no '{axis}: {label}' in the grid; it has "
                    + (", ".join(known) if known else f"the axes {', '.join(self.axes)}")
                )

    def _check_axis(self, axis: str) -> None:
        labels = list(self.axes[axis])
        if len(labels) < len(self.grid[axis]):
            raise ValueError(f"grid.{axis}: two values have one label; the labels are {', '.join(labels)}")
        if len({slug(label) for label in labels}) < len(labels):
            raise ValueError(f"grid.{axis}: two labels would be the same folder: {', '.join(labels)}")
        for value in self.axes[axis].values():
            self._check_value(axis, value)

    def _check_value(self, axis: str, value) -> None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if axis == "mode" and value not in MODES:
            raise ValueError(f"grid.mode: there is no '{value}'{nearest(str(value), MODES)}")
        if axis == "model":
            check_names("grid.model", [str(value)])
        if axis == "labels" and not (number and 0 < value <= 1):
            raise ValueError(f"grid.labels must be shares above 0 and up to 1, got {value!r}")
        if axis == "hours" and value != ALL and not (number and value > 0):
            raise ValueError(f"grid.hours must be hours above 0, or '{ALL}', got {value!r}")
        if axis not in OWN_AXES:
            for key in value if isinstance(value, dict) else [axis]:
                if not _KEY.fullmatch(str(key)):
                    raise ValueError(
                        f"grid.{axis}: '{key}' is no key of a configuration, such as crops.global_seconds"
                    )

    @property
    def axes(self) -> dict[str, dict[str, Any]]:
        """Axis -> label -> value, in the order of the file."""
        return {
            axis: {label_of(v): v for v in values}
            if isinstance(values, list)
            else {label_of(k): v for k, v in values.items()}
            for axis, values in self.grid.items()
        }

    def reference_of(self, axes: dict[str, dict]) -> dict[str, str]:
        """Axis -> label of the cell that the others are compared with."""
        given = {axis: label_of(label) for axis, label in self.reference.items()}
        return {axis: given.get(axis, next(iter(labels))) for axis, labels in axes.items()}


@dataclass(frozen=True)
class Cell:
    """One cell of the grid.

    Attributes:
        varied: axis -> label, of the axes that make a difference to it.
        model: a model of the recipe, or the name of one that was given; ``""``: any, of which only the
            encoder counts.
        mode: see ``MODES``.
        share: of the labels.
        hours: of unlabelled speech; None: the recipe's training set.
        settings: ``KEY=VALUE``, in which VALUE is JSON.
    """

    varied: dict[str, str]
    model: str
    mode: str
    share: float
    hours: float | None
    settings: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Its folder's name."""
        return ",".join(f"{slug(axis)}={slug(label)}" for axis, label in self.varied.items())


def cells_of(study: Study, models: list[str]) -> tuple[dict[str, dict], list[Cell]]:
    """Return the axes, with ``model`` if there are several and the grid has no such axis, and the cells.

    An axis that makes no difference to a cell is no part of it, and such cells are one: settings of
    fine-tuning in a cell of frozen embeddings, hours in one that is trained from scratch.

    Args:
        models: names of the models where ``model`` is no axis.
    """
    axes = dict(study.axes)
    if "model" not in axes and len(models) > 1:
        axes = {"model": {name: name for name in models}, **axes}
    found: dict[str, Cell] = {}
    for labels in itertools.product(*axes.values()):
        cell = _cell(study, axes, dict(zip(axes, labels, strict=True)), models)
        found.setdefault(cell.folder, cell)
    return axes, list(found.values())


def _cell(study: Study, axes, varied: dict[str, str], models: list[str]) -> Cell:
    value = {axis: axes[axis][label] for axis, label in varied.items()}
    mode, model = value.get("mode", study.mode), value.get("model", models[0] if models else "")
    if model == SCRATCH:
        model, mode = "", SCRATCH
    tuned = mode in TUNING
    settings = dict(study.set)
    for axis in value:
        if axis not in OWN_AXES:
            settings |= value[axis] if isinstance(value[axis], dict) else {axis: value[axis]}
    dropped = ["hours"] if mode == SCRATCH else []
    dropped += [axis for axis in value if axis not in OWN_AXES] if not tuned else []
    hours = value.get("hours", ALL)
    return Cell(
        {axis: label for axis, label in varied.items() if axis not in dropped},
        model,
        mode,
        float(value.get("labels", 1.0)),
        None if hours == ALL or mode == SCRATCH else float(hours),
        tuple(f"{key}={json.dumps(val)}" for key, val in settings.items()) if tuned else (),
    )


def label_of(value) -> str:
    """A value as a label: ``0.1``, ``2 s``, ``[2.0, 2.0]``."""
    if isinstance(value, bool) or value is None or isinstance(value, list | dict):
        return json.dumps(value)
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def slug(label: str) -> str:
    """A label as a part of a folder's name."""
    return re.sub(r"[^\w.+-]+", "_", label, flags=re.ASCII)
