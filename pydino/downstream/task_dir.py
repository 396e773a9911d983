"""A task as a folder: the labels of the utterances, who speaks, what is counted, and the division into
training, development and test parts. It is written before any model sees the task, and every classifier,
control and study reads it.

    DIR/task.yaml        the fields of :class:`TaskConfig`
    DIR/utt2label        utterance -> class, or number
    DIR/utt2spk          utterance -> speaker or subject, who is never on both sides of a division
    DIR/utt2unit         utterance -> what is counted once: the utterance itself, its recording, its subject
    DIR/utt2set          utterance -> its data directory's name
    DIR/utt2group        optional: utterance -> a part that is also measured by itself (improvised, scripted)
    DIR/fold.NAME        utterance -> train, dev or test, one file a fold; others take no part in the fold
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from pydino.base import UserError, config_to_dict, dump_config, load_config
from pydino.kaldi import read_table, write_table

PARTS = ("train", "dev", "test")
FINAL = "final"  # the fold of the model that is given away: nothing is held out for a test


@dataclass
class TaskConfig:
    """``task.yaml``.

    Attributes:
        name: in results, such as emotion.
        kind: what the labels are.
        classes: sorted; none for numbers. Column k of every array of posteriors is class k.
        unit: of numbers, such as years.
        average_over: what is counted once.
        folds: names of the folds with a test part, in order. In each, an utterance is tested at most once.
        data: data directories, relative to the work folder.
        keep_silence: the pauses are the signal.
        division: the rule of the division in words, for pages.
        transductive: test recordings may have been in pre-training; the results say so.
    """

    name: str
    kind: Literal["class", "number"] = "class"
    classes: list[str] = field(default_factory=list)
    unit: str = ""
    average_over: Literal["utterance", "recording", "subject"] = "utterance"
    folds: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    keep_silence: bool = False
    division: str = ""
    transductive: bool = False


@dataclass(frozen=True)
class TaskDir:
    """A task folder that has been read; tables are in the order of ``utt2label``."""

    path: Path
    config: TaskConfig
    labels: dict[str, str]
    speakers: dict[str, str]
    units: dict[str, str]
    sets: dict[str, str]
    groups: dict[str, str]
    _read: dict[str, dict[str, str]] = field(default_factory=dict, repr=False, compare=False)  # folds, once

    def part(self, fold: str, part: str) -> list[str]:
        """Return the utterances of a part of a fold, sorted."""
        return [utterance for utterance, name in self._fold(fold).items() if name == part]

    @cached_property
    def tested(self) -> list[str]:
        """The utterances of all test parts, sorted."""
        return sorted({name for fold in self.config.folds for name in self.part(fold, "test")})

    def _fold(self, fold: str) -> dict[str, str]:
        if fold not in self._read:
            path = self.path / f"fold.{fold}"
            if not path.is_file():
                raise UserError(f"{self.path} has no fold '{fold}'; it has {', '.join(self.folds_there)}")
            self._read[fold] = read_table(path)
        return self._read[fold]

    @property
    def folds_there(self) -> list[str]:
        """The folds, and the one of the final model if there is one."""
        final = [FINAL] if (self.path / f"fold.{FINAL}").is_file() else []
        return [*self.config.folds, *final]

    @cached_property
    def targets(self) -> dict[str, float | int]:
        """Utterance -> the number of its class, or its number."""
        if self.config.kind == "number":
            return {utterance: float(label) for utterance, label in self.labels.items()}
        number_of = {name: number for number, name in enumerate(self.config.classes)}
        return {utterance: number_of[label] for utterance, label in self.labels.items()}

    def targets_of(self, utterances: list[str]) -> np.ndarray:
        """Return the targets of some utterances: (N,) int64 class numbers, or float64."""
        kind = np.float64 if self.config.kind == "number" else np.int64
        return np.array([self.targets[utterance] for utterance in utterances], dtype=kind)


def read_task(path) -> TaskDir:
    """Read a task folder.

    Raises:
        UserError: not a task folder.
    """
    path = Path(path)
    if not (path / "task.yaml").is_file():
        raise UserError(f"{path} is no task folder (no task.yaml); steps/make_task.sh makes one")
    labels, speakers, units, sets = (
        read_table(path / name) for name in ("utt2label", "utt2spk", "utt2unit", "utt2set")
    )
    groups = read_table(path / "utt2group") if (path / "utt2group").is_file() else {}
    return TaskDir(path, load_config(TaskConfig, path / "task.yaml"), labels, speakers, units, sets, groups)


def write_task(
    path,
    config: TaskConfig,
    tables: dict[str, dict[str, str]],
    folds: dict[str, dict[str, str]],
) -> None:
    """Write a task folder; ``task.yaml`` is removed first and written last.

    Args:
        path: the folder.
        config: of the task.
        tables: file name (``utt2label``, ``utt2spk``, ...) -> table.
        folds: name -> utterance -> train, dev or test.
    """
    path = Path(path)
    (path / "task.yaml").unlink(missing_ok=True)
    for old in (*path.glob("fold.*"), *path.glob("utt2*")):
        old.unlink()
    for name, table in (*tables.items(), *((f"fold.{name}", table) for name, table in folds.items())):
        write_table(path / name, table)
    dump_config(config_to_dict(config), path / "task.yaml")
