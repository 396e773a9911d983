"""The schema of ``conf/recipe.yaml``. What is run is set by options of run.sh, and each step has its own
YAML.
"""

from dataclasses import dataclass, field
from typing import Literal

from pydino.base import check_not_negative, check_positive

from .names import check_file_name, check_names
from .tasks import Task

STAGES = {
    0: "check",
    1: "data",
    2: "features",
    3: "train-set",
    4: "pretrain",
    5: "extract",
    6: "score",
    9: "baseline",
    10: "transfer",
    11: "report",
}


@dataclass
class TrainSet:
    """The pre-training directory, made by stage 3. Centring and whitening are estimated on its sets, too."""

    sets: list[str] = field(default_factory=lambda: ["train"])
    min_duration: float = 2.0  # seconds of speech (with keep_silence: of audio)
    keep_silence: bool = False

    def __post_init__(self):
        check_not_negative(self, "min_duration")
        check_names("sets", self.sets)


@dataclass
class Supervised:
    """Models trained with labels, for comparison."""

    models: list[str] = field(default_factory=list)  # MODEL is configured by conf/MODEL.yaml
    labels: str = "utt2spk"  # a file in each directory of train_set

    def __post_init__(self):
        check_names("models", self.models)
        check_file_name("labels", self.labels, "utt2spk")


@dataclass
class Trials:
    """A verification test."""

    set: str  # of the test utterances
    enroll: str = ""  # set of the enrolment utterances; default: set
    name: str = ""  # in the results; default: set
    file: str = ""  # default: data/SET/trials
    cohort: str = ""  # set of impostors for score normalisation
    development: str = ""  # name of the trials that calibration is trained on

    def __post_init__(self):
        self.enroll = self.enroll or self.set
        self.name = self.name or self.set
        self.file = self.file or f"data/{self.set}/trials"
        check_names("name", [self.name])
        if self.cohort:
            raise ValueError(_not_built("cohort", self.cohort, "score normalisation"))
        if self.development:
            raise ValueError(_not_built("development", self.development, "calibration"))


@dataclass
class Scorer:
    """One way to score every trial list."""

    backend: Literal["cosine", "plda"] = "cosine"
    centring: Literal["raw", "centred", "whitened"] = "raw"
    normalisation: str = "none"
    labels: str = ""  # labels for training the back-end; default: train for plda, none for cosine

    def __post_init__(self):
        own = "train" if self.backend == "plda" else "none"
        self.labels = self.labels or own
        if self.normalisation != "none":
            raise ValueError(_not_built("normalisation", self.normalisation, "score normalisation"))
        if self.labels != own:
            raise ValueError(f"labels of {self.backend} must be '{own}', got '{self.labels}'")
        if self.backend == "plda" and self.centring != "raw":
            raise ValueError("centring: PLDA centres embeddings itself; remove the key")

    @property
    def name(self) -> str:
        """The part of a score file's name that identifies the scorer."""
        return self.backend if self.backend == "plda" else f"{self.backend}.{self.centring}"


@dataclass
class Plda:
    """PLDA trained on the labels of a set, for comparison."""

    set: str = "train"
    lda_dim: int = 64

    def __post_init__(self):
        check_positive(self, "lda_dim")


@dataclass
class Recipe:
    """A recipe: its sets, what is trained on which of them, and what the embeddings are tested with."""

    name: str
    stages: list[int]
    sets: list[str]
    prepare: str = ""  # program in local/, without .py; default: prepare_NAME
    prepare_options: dict[str, str] = field(default_factory=dict)
    corpora: list[str] = field(
        default_factory=list
    )  # corpora passed to the program; default: that of prepare
    generated: bool = False  # stage 1 makes the recordings itself
    noises: list[str] = field(default_factory=lambda: ["musan", "rirs"])  # local/prepare_NAME.py lists them
    programs: list[str] = field(default_factory=list)  # system programs that are required
    disk_gb: float = 1.0  # disk space that all stages take
    compress: bool = False  # features of one byte a value: a quarter of the disk, a little slower to read
    train_set: TrainSet = field(default_factory=TrainSet)
    models: list[str] = field(
        default_factory=list
    )  # trained by default; MODEL is configured by conf/MODEL.yaml
    supervised: Supervised = field(default_factory=Supervised)
    embed: list[str] = field(default_factory=list)  # sets to embed although no trials or tasks need them
    trials: list[Trials] = field(default_factory=list)
    scorers: list[Scorer] = field(
        default_factory=list
    )  # default: cosine three ways, and PLDA where 'plda' is
    plda: Plda | None = None
    tasks: list[Task] = field(default_factory=list)

    def __post_init__(self):
        self.prepare = self.prepare or f"prepare_{self.name}"
        self.corpora = self.corpora or [self.prepare.removeprefix("prepare_")]
        self.scorers = self.scorers or [
            *(Scorer(centring=centring) for centring in ("raw", "centred", "whitened")),
            *([Scorer("plda")] if self.plda else []),
        ]
        self.stages = sorted(set(self.stages))
        check_names("name", [self.name])
        check_names("prepare", [self.prepare])
        for key in ("sets", "corpora", "noises", "programs", "models"):
            check_names(key, getattr(self, key))
        check_not_negative(self, "disk_gb")
        if unknown := sorted(set(self.stages) - set(STAGES)):
            raise ValueError(f"stages: {unknown} do not exist; there are {sorted(STAGES)}")
        if (9 in self.stages) != bool(self.supervised.models):
            raise ValueError("stages: 9 trains what supervised.models names: a recipe has both or neither")
        if self.supervised.models and not self.models:
            raise ValueError("models: none, but supervised.models exist only for comparison with them")
        if self.models and not self.train_set.sets:
            raise ValueError("train_set.sets: none, but there are models to train; name a set")
        if any(scorer.backend == "plda" for scorer in self.scorers) and not self.plda:
            raise ValueError("scorers: plda needs the key 'plda', which names the set it is trained on")
        for kind in ("trials", "tasks", "scorers"):
            names = [entry.name for entry in getattr(self, kind)]
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"{kind}: '{twice[0]}' occurs twice; give each entry a unique name")
        for name in self._sets_used():
            if name not in self.sets:
                raise ValueError(f"sets: '{name}' is used but not listed in sets ({', '.join(self.sets)})")

        tested = [trials.set for trials in self.trials]
        tested += [name for task in self.tasks if not task.transductive for name in task.tested]
        if self.models and (both := [name for name in self.train_set.sets if name in tested]):
            raise ValueError(
                f"train_set.sets: '{both[0]}' is also the set of trials or of a task; models must not be "
                "trained on test recordings"
            )

    def _sets_used(self):
        yield from (name for trials in self.trials for name in (trials.set, trials.enroll))
        yield from (name for task in self.tasks for name in task.sets)
        yield from (task.interviewer for task in self.tasks if task.interviewer)
        yield from self.embed
        yield from [self.plda.set] if self.plda else []
        yield from self.train_set.sets if self.models else []

    @property
    def training_sets(self) -> list[str]:
        """The sets that are trained on without labels; none in a recipe that only tests."""
        return self.train_set.sets if set(self.train_set.sets) <= set(self.sets) else []


def _not_built(key: str, value: str, what: str) -> str:
    return f"{key}: '{value}' is not implemented yet ({what}); remove the key"
