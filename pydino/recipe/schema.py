"""The schema of ``conf/recipe.yaml``. What is run is set by options of run.sh, and each step has its own
YAML.
"""

from dataclasses import dataclass, field

from pydino.base import check_not_negative, nearest

from .names import check_file_name, check_names
from .tasks import Task
from .verification import Calibration, Clusters, Plda, Round, Scorer, Trials, default_scorers

STAGES = {
    0: "check",
    1: "data",
    2: "features",
    3: "train-set",
    4: "pretrain",
    5: "extract",
    6: "score",
    7: "cluster",
    8: "refine",
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
    # sets whose recordings are left out, under any name, here and in all that is learnt without labels
    exclude: list[str] = field(default_factory=list)

    def __post_init__(self):
        check_not_negative(self, "min_duration")
        check_names("sets", self.sets)
        check_names("exclude", self.exclude)


@dataclass
class Supervised:
    """Models trained with labels, for comparison."""

    models: list[str] = field(default_factory=list)  # MODEL is configured by conf/MODEL.yaml
    labels: str = "utt2spk"  # a file in each directory of train_set

    def __post_init__(self):
        check_names("models", self.models)
        check_file_name("labels", self.labels, "utt2spk")


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
    )  # default: cosine, and PLDA where there are 'plda' or 'clusters'
    calibrations: list[Calibration] = field(default_factory=list)
    plda: Plda | None = None
    clusters: Clusters | None = None  # stage 7
    rounds: list[Round] = field(default_factory=list)  # stage 8
    gate: bool = True  # a round only where the one before has lowered the split self-EER of the clusters
    tasks: list[Task] = field(default_factory=list)

    def __post_init__(self):
        self.prepare = self.prepare or f"prepare_{self.name}"
        self.corpora = self.corpora or [self.prepare.removeprefix("prepare_")]
        self.scorers = self.scorers or default_scorers(bool(self.plda), self.clusters)
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
        self._check_clusters()
        for kind in ("trials", "tasks", "scorers", "calibrations", "rounds"):
            names = [entry.name for entry in getattr(self, kind)]
            if twice := [name for name in names if names.count(name) > 1]:
                remedy = "give each entry a unique name"
                if kind in ("scorers", "calibrations"):  # named by what they do
                    remedy = "remove one of the two"
                raise ValueError(f"{kind}: '{twice[0]}' occurs twice; {remedy}")
        self._check_calibrations()
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

    def _check_clusters(self) -> None:
        # labels of any other scorer are none or pseudo
        if not self.plda and any(scorer.labels == "train" for scorer in self.scorers):
            raise ValueError(
                "scorers: plda needs the key 'plda', which names the set it is trained on (or, without "
                "labels, 'labels: pseudo')"
            )
        if (7 in self.stages) != bool(self.clusters):
            raise ValueError(
                "stages: 7 makes what the key 'clusters' describes: a recipe has both or neither"
            )
        if self.clusters and 3 not in self.stages:
            raise ValueError("stages: 7 takes crops of data/train_ssl, which stage 3 makes; add 3")
        if (8 in self.stages) != bool(self.rounds):
            raise ValueError("stages: 8 trains what 'rounds' names: a recipe has both or neither")
        if self.rounds and not self.clusters:
            raise ValueError("rounds: they are trained on clusters; add the key 'clusters' and stage 7")
        asked = [scorer.name for scorer in self.scorers if scorer.clustered]
        if asked and not self.clusters:
            raise ValueError(
                f"scorers: '{asked[0]}' needs clusters or crops; add the key 'clusters' and stage 7"
            )
        if self.clusters and not self.training_sets:
            raise ValueError(
                f"clusters: of the training sets, but {' '.join(self.train_set.sets) or 'none'} is not among "
                f"the recipe's sets ({', '.join(self.sets)})"
            )

    def _check_calibrations(self) -> None:
        for trials in self.trials:
            others = [other.name for other in self.trials if other.name != trials.name]
            if trials.dev and trials.dev not in others:
                raise ValueError(
                    f"trials: dev of '{trials.name}' is '{trials.dev}', which is not another list of trials"
                    f"{nearest(trials.dev, others)}; there are: {' '.join(others) or 'no others'}"
                )
        names = [scorer.name for scorer in self.scorers]
        for one in self.calibrations:
            if unknown := [name for name in one.scores if name not in names]:
                raise ValueError(
                    f"calibrations: no scorer '{unknown[0]}'{nearest(unknown[0], names)}; there are "
                    f"{' '.join(names)}"
                )
            if one.fitted_on == "dev" and not any(trials.dev for trials in self.trials):
                raise ValueError(
                    f"calibrations: '{one.name}' is fitted on a development list, but no entry of trials "
                    "names one with its key 'dev'; without one, use 'fitted_on: crops'"
                )
            if one.fitted_on != "dev":
                self._check_without_labels(one)

    def _check_without_labels(self, calibration: Calibration) -> None:
        if not self.clusters:
            raise ValueError(
                f"calibrations: '{calibration.name}' needs crops and clusters; add the key 'clusters' and "
                "stage 7"
            )
        for scorer in self.scorers_of(calibration):
            if scorer.backend != "cosine" and calibration.fitted_on == "clusters":
                raise ValueError(
                    f"calibrations: 'fitted_on: clusters' is for cosines, not for '{scorer.name}': a PLDA "
                    "trained on clusters knows which pairs are of one; use 'fitted_on: crops' or 'dev'"
                )
            if scorer.normalisation != "none":
                raise ValueError(
                    f"calibrations: the cohort of '{scorer.name}' is the training set, and so are the "
                    f"{calibration.fitted_on}: none of it would be left; use 'fitted_on: dev', or scores "
                    "without normalisation"
                )

    def scorers_of(self, calibration: Calibration) -> list[Scorer]:
        """The scorers whose scores are calibrated, or fused."""
        return [scorer for name in calibration.scores for scorer in self.scorers if scorer.name == name]

    def _sets_used(self):
        yield from (name for trials in self.trials for name in (trials.set, trials.enroll))
        yield from (name for task in self.tasks for name in task.sets)
        yield from (task.interviewer for task in self.tasks if task.interviewer)
        yield from self.embed
        yield from [self.plda.set] if self.plda else []
        yield from (*self.train_set.sets, *self.train_set.exclude) if self.models else []

    @property
    def training_sets(self) -> list[str]:
        """The sets that are trained on without labels; none in a recipe that only tests."""
        return self.train_set.sets if set(self.train_set.sets) <= set(self.sets) else []
