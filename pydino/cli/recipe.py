"""Print what a recipe is (conf/recipe.yaml, checked) as 'key<TAB>value' lines, for run.sh.

Lists are joined by blanks; a key of several entries (trials, tasks) is printed once an entry, its fields
joined by blanks.
"""

import re
from dataclasses import dataclass, field
from typing import Literal

from pydino.base import load_config
from pydino.report.tables import is_supervised


@dataclass
class TrainSet:
    """The pre-training directory that stage 3 makes."""

    sets: list[str] = field(default_factory=lambda: ["train"])
    min_duration: float = 2.0  # seconds left after silence is removed
    keep_silence: bool = False


@dataclass
class Supervised:
    """What is trained with labels, for comparison."""

    models: list[str] = field(default_factory=list)  # METHOD has its science in conf/METHOD.yaml
    labels: str = "utt2spk"  # a file in each of the directories of train_set


@dataclass
class Trials:
    """A verification test: trials of a set."""

    set: str
    name: str = ""  # default: the set's name
    file: str = ""  # default: data/SET/trials

    def __post_init__(self):
        self.name = self.name or self.set
        self.file = self.file or f"data/{self.set}/trials"


@dataclass
class Plda:
    """PLDA trained on the labels of a set, for comparison."""

    set: str = "train"
    lda_dim: int = 64


@dataclass
class Task:
    """A property of the utterance, read off the frozen embedding."""

    name: str
    set: str
    labels: str  # a file in data/SET, such as utt2emotion
    kind: Literal["class", "number"] = "class"
    keep_silence: bool = False  # the pauses are the signal


@dataclass
class Recipe:
    """What a recipe is; what runs is options of run.sh, and the science of each step is in its own YAML."""

    name: str
    stages: list[int]
    sets: list[str]
    prepare: str = ""  # program in local/, without .py; default: prepare_NAME
    prepare_options: dict[str, str] = field(default_factory=dict)
    # whose folders the program gets, in order; default: PREPARE without prepare_
    corpora: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)  # programs of the system the recipe needs
    disk_gb: float = 1.0  # room that all its stages take
    compress: bool = False  # features of a byte a value; a quarter of the disk, a little slower to read
    train_set: TrainSet = field(default_factory=TrainSet)
    # trained by default: METHOD has its science in conf/METHOD.yaml
    models: list[str] = field(default_factory=list)
    supervised: Supervised = field(default_factory=Supervised)
    trials: list[Trials] = field(default_factory=list)
    plda: Plda | None = None
    tasks: list[Task] = field(default_factory=list)

    def __post_init__(self):
        self.prepare = self.prepare or f"prepare_{self.name}"
        self.corpora = self.corpora or [self.prepare.removeprefix("prepare_")]
        known = {0, 1, 2, 3, 4, 5, 6, 9, 10, 11}
        if not set(self.stages) <= known:
            raise ValueError(
                f"stages: {sorted(set(self.stages) - known)} do not exist; there are {sorted(known)}"
            )
        if (9 in self.stages) != bool(self.supervised.models):
            raise ValueError("stages: 9 trains what supervised.models names: a recipe has both or neither")
        if misnamed := [name for name in self.supervised.models if not is_supervised(name)] + list(
            filter(is_supervised, self.models)
        ):
            raise ValueError(
                f"models: {misnamed[0]}: those of supervised.models, and no others, are named xvector or "
                "xvector-SOMETHING"
            )
        if self.supervised.models and not self.models:
            raise ValueError("models: none, but supervised.models has some to stand beside them")
        if not re.fullmatch(r"[^\s/]+", self.supervised.labels):
            raise ValueError(
                f"supervised.labels: '{self.supervised.labels}' is not the name of a file in data/SET, such "
                "as utt2spk"
            )
        used = [
            *(t.set for t in self.trials),
            *(t.set for t in self.tasks),
            *([self.plda.set] if self.plda else []),
        ]
        if self.models:
            used += self.train_set.sets
        for name in used:
            if name not in self.sets:
                raise ValueError(f"sets: '{name}' is used but not listed in sets ({', '.join(self.sets)})")


def add_arguments(parser):
    parser.add_argument("recipe", metavar="RECIPE_YAML")


def lines(recipe: Recipe):
    """Yield (key, value) pairs, values as text without tabs or newlines."""
    yield "name", recipe.name
    yield "stages", " ".join(map(str, recipe.stages))
    yield "sets", " ".join(recipe.sets)
    yield "prepare", recipe.prepare
    yield "prepare_options", " ".join(f"--{key} {value}" for key, value in recipe.prepare_options.items())
    yield "corpora", " ".join(recipe.corpora)
    yield "programs", " ".join(recipe.programs)
    yield "disk_gb", f"{recipe.disk_gb:g}"
    yield "compress", str(recipe.compress).lower()
    yield "train_sets", " ".join(recipe.train_set.sets)
    yield "min_duration", f"{recipe.train_set.min_duration:g}"
    yield "keep_silence", str(recipe.train_set.keep_silence).lower()
    yield "models", " ".join(recipe.models)
    yield "supervised", " ".join(recipe.supervised.models)
    yield "supervised_labels", recipe.supervised.labels
    silent = sorted({task.set for task in recipe.tasks if task.keep_silence})
    yield "silence_sets", " ".join(silent)
    yield "plda", f"{recipe.plda.set} {recipe.plda.lda_dim}" if recipe.plda else ""
    for trials in recipe.trials:
        yield "trials", f"{trials.name} {trials.set} {trials.file}"
    for task in recipe.tasks:
        yield "tasks", f"{task.name} {task.set} {task.labels} {task.kind} {str(task.keep_silence).lower()}"


def run(args):
    for key, value in lines(load_config(Recipe, args.recipe)):
        print(key, value, sep="\t")
