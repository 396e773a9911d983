"""Tasks in a recipe: a property of the utterance, the recording or the subject, and how it is learnt."""

from dataclasses import dataclass, field
from typing import Literal

from pydino.base import nearest

from .names import check_file_name, check_names

CLASSIFIERS = {"class": ("logreg", "svm", "plda", "mlp"), "number": ("ridge",)}  # of frozen embeddings
# Mode of fine-tuning -> the configurations of its runs, each of which starts from the one before.
TUNING = {
    "affine-then-all": ("tune-affine", "tune-all"),
    "all-at-once": ("tune-at-once",),
    "from-scratch": ("tune-scratch",),
}
MODES = ("frozen", *TUNING)
CONTROLS = ("silence", "channel", "interviewer", "metadata", "duration", "permutation")


@dataclass
class Published:
    """A number from a paper, shown apart from those that are measured here."""

    system: str
    metric: str
    value: float
    protocol: str  # in which it differs from this task, or how it was measured
    source: str


@dataclass
class Task:
    """A task: cross-validation of the set ``set``, or a fixed division, ``train``, ``dev`` and ``test``."""

    name: str
    labels: str  # a file in data/SET, such as utt2emotion
    set: str = ""
    train: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    # Of a cross-validation: next (the development part of a fold is the fold after it) or none. Of a fixed
    # division: sets; without any, a tenth of the subjects of train.
    dev: str | list[str] = "next"
    kind: Literal["class", "number"] = "class"
    unit: str = ""  # of a number, such as points; default: years for age
    # speaker (one out up to 10, else 10 folds), a number of folds, a table, or given (the table utt2fold
    # where the set has one, else speaker)
    folds: str = "speaker"
    average_over: Literal["utterance", "recording", "subject"] = "utterance"
    groups: str = ""  # a table; each of its values is also measured by itself
    keep_silence: bool = False  # the pauses are the signal
    classifiers: list[str] = field(default_factory=list)  # default: logreg; ridge for numbers
    modes: list[str] = field(default_factory=lambda: ["frozen"])
    statistics: bool = False  # also with the statistics of the filter banks beside the embedding
    controls: list[str] = field(default_factory=list)
    interviewer: str = ""  # set of the interviewer's speech, for that control
    metadata: list[str] = field(default_factory=list)  # tables, for that control, besides the timing
    transductive: bool = False  # test recordings may have been in pre-training; the rows say so
    published: list[Published] = field(default_factory=list)

    def __post_init__(self):
        check_names("name", [self.name])
        for key, example in (("labels", "utt2emotion"), ("groups", "utt2style")):
            if getattr(self, key) or key == "labels":
                check_file_name(key, getattr(self, key), example)
        for table in self.metadata:
            check_file_name("metadata", table, "utt2age")
        self._check_division()
        if not self.modes:
            raise ValueError(
                f"modes: none, so that task '{self.name}' would never be learnt; give some of "
                f"{', '.join(MODES)}, or leave the key out"
            )
        self.classifiers = self.classifiers or [CLASSIFIERS[self.kind][0]]
        if self.kind == "class" and self.unit:
            raise ValueError(f"unit: '{self.unit}', but task '{self.name}' has classes; give kind: number")
        for key, known in (
            ("classifiers", CLASSIFIERS[self.kind]),
            ("modes", MODES),
            ("controls", CONTROLS),
        ):
            self._check_known(key, known)
        if "interviewer" in self.controls and not self.interviewer:
            raise ValueError(
                "controls: 'interviewer' needs the key 'interviewer', the set of the interviewer's speech"
            )
        for key in ("interviewer", "metadata"):
            if getattr(self, key) and key not in self.controls:
                raise ValueError(f"{key}: without '{key}' among the controls it has no use")

    def _check_division(self) -> None:
        if self.set and (self.train or self.test):
            raise ValueError(
                f"set: '{self.set}' is cross-validated, but 'train' or 'test' is a fixed division: give one "
                "of the two"
            )
        if not self.set and not (self.train and self.test):
            raise ValueError(
                f"set: task '{self.name}' has no 'set', the data directory for cross-validation, nor "
                "'train' and 'test', a fixed division"
            )
        all_sets = [*self.train, *(self.dev if isinstance(self.dev, list) else ()), *self.test]
        check_names("train, dev, test", all_sets)
        if not self.set:
            if self.folds != "speaker":
                raise ValueError(f"folds: '{self.folds}', but 'train' and 'test' are a fixed division")
            if isinstance(self.dev, str) and self.dev != "next":
                raise ValueError(f"dev of a fixed division is a list of sets, got '{self.dev}'")
            return
        if not isinstance(self.dev, str) or self.dev not in ("next", "none"):
            raise ValueError(f"dev of a cross-validation is 'next' or 'none', got {self.dev!r}")
        table = self.folds.startswith("utt2")
        if table:
            check_file_name("folds", self.folds, "utt2fold")
        elif self.folds not in ("speaker", "given") and not (self.folds.isdecimal() and int(self.folds) > 1):
            raise ValueError(
                "folds must be 'speaker', 'given', a number from 2 on, or a table such as utt2fold, got "
                f"'{self.folds}'{nearest(self.folds, ['speaker', 'given', 'utt2fold'])}"
            )

    def _check_known(self, key: str, known: tuple[str, ...]) -> None:
        values = getattr(self, key)
        for value in values:
            if value not in known:
                of = f" of a {self.kind}" if key == "classifiers" else ""
                raise ValueError(
                    f"{key}: there is no '{value}'{of}{nearest(value, known)}; there are {', '.join(known)}"
                )
        if twice := [value for value in values if values.count(value) > 1]:
            raise ValueError(f"{key}: '{twice[0]}' occurs twice; name it once")

    @property
    def sets(self) -> list[str]:
        """The data directories that the task divides, in the order in which steps take them."""
        dev = self.dev if isinstance(self.dev, list) else []
        return [self.set] if self.set else [*self.train, *dev, *self.test]

    @property
    def tested(self) -> list[str]:
        """The sets of the test utterances."""
        return [self.set] if self.set else self.test

    @property
    def folder(self) -> str:
        """The task folder."""
        return f"data/tasks/{self.name}"

    @property
    def tables(self) -> list[str]:
        """The tables that each of its sets must have."""
        folds = [self.folds] if self.folds.startswith("utt2") else []
        return [self.labels, *folds, *([self.groups] if self.groups else []), *self.metadata]
