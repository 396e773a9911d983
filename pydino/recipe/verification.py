"""Verification in a recipe: trials, the ways to score them, calibration, PLDA, clusters, and rounds."""

from dataclasses import dataclass, field
from typing import Literal

from pydino.base import check_at_least, check_positive, nearest

from .names import check_file_name, check_names

TOP = 300  # cohort vectors of the adaptive s-norm, where the recipe names no number


@dataclass
class Trials:
    """A verification test."""

    set: str  # of the test utterances
    enroll: str = ""  # set of the enrolment utterances; default: set
    name: str = ""  # in the results; default: set
    file: str = ""  # default: data/SET/trials
    dev: str = ""  # name of another list, of other speakers, for calibrations fitted on 'dev'

    def __post_init__(self):
        self.enroll = self.enroll or self.set
        self.name = self.name or self.set
        self.file = self.file or f"data/{self.set}/trials"
        check_names("name", [self.name])


@dataclass
class Scorer:
    """One way to score every trial list.

    Centring, whitening, the cohort of a normalisation and PLDA on pseudo-labels are of the training sets.
    """

    backend: Literal["cosine", "plda"] = "cosine"
    centring: Literal["raw", "centred", "whitened", "wccn"] = "raw"  # of cosine; wccn: of augmented crops
    normalisation: Literal["none", "z-norm", "t-norm", "s-norm", "as-norm"] = "none"  # of the scores
    cohort: Literal["utterances", "clusters"] = "utterances"  # of the normalisation
    top: int = TOP  # of as-norm: the highest cohort scores, which it uses
    labels: Literal["", "none", "train", "pseudo"] = ""  # of the PLDA; default: train; cosine: none
    statistics: bool = False  # PLDA of the embedding with the statistics of the filter banks beside it

    def __post_init__(self):
        plda = self.backend == "plda"
        self.labels = self.labels or ("train" if plda else "none")
        check_at_least(self, 2, "top")
        if plda != (self.labels != "none"):
            known = "'train' or 'pseudo' (clusters)" if plda else "'none'"
            raise ValueError(f"labels of {self.backend} must be {known}, got '{self.labels}'")
        if plda and self.centring != "raw":
            raise ValueError("centring: PLDA centres embeddings itself; remove the key")
        if self.statistics and not plda:
            raise ValueError("statistics: of PLDA alone, which learns how much each of the two counts")
        if self.cohort != "utterances" and self.normalisation == "none":
            raise ValueError(f"cohort: '{self.cohort}', but there is no normalisation; name one")
        if self.top != TOP and self.normalisation != "as-norm":
            raise ValueError("top: of 'normalisation: as-norm' alone")

    @property
    def name(self) -> str:
        """The part of a score file's name that identifies the scorer."""
        parts = [self.plda] if self.backend == "plda" else ["cosine", self.centring]
        if self.normalisation != "none":
            top = f"{self.top}" if self.top != TOP else ""
            cohort = "-clusters" if self.cohort == "clusters" else ""
            parts.append(f"{self.normalisation}{top}{cohort}")
        return ".".join(parts)

    @property
    def plda(self) -> str:
        """The name of the PLDA's folder in that of a system; empty for cosine."""
        if self.backend != "plda":
            return ""
        return f"plda{'_pseudo' * (self.labels == 'pseudo')}{'+statistics' * self.statistics}"

    @property
    def clustered(self) -> bool:
        """Whether it reads what only stages 7 and 8 make: clusters, or crops."""
        return self.labels == "pseudo" or self.cohort == "clusters" or self.centring == "wccn"

    @property
    def trained(self) -> bool:
        """Whether it reads embeddings of the training sets beyond what a PLDA is trained on."""
        return self.centring != "raw" or self.normalisation != "none"

    def sets(self, training_sets: list[str], plda: "Plda | None") -> list[str]:
        """Return the sets whose embeddings it reads, besides those of the trials."""
        found = training_sets if self.trained or self.labels == "pseudo" else []
        return list(dict.fromkeys([*found, *([plda.set] if plda and self.labels == "train" else [])]))


@dataclass
class Calibration:
    """Log-likelihood ratios made of the scores of one scorer, or of several by fusion.

    They are fitted on trials of crops or of clusters (steps/make_crop_trials.sh), which need no label, or on
    a development list.
    """

    scores: list[str] = field(default_factory=list)  # names of scorers, such as cosine.centred
    # clusters: their pairs, for a cosine; dev: the list that each list of trials names, with its labels
    fitted_on: Literal["crops", "clusters", "dev"] = "crops"
    quality: list[str] = field(default_factory=list)  # norm of the embedding, or tables such as utt2dur

    def __post_init__(self):
        check_names("scores", self.scores)
        if not self.scores:
            raise ValueError("scores: none; name a scorer, such as cosine.centred, or several to be fused")
        for name in self.quality:
            check_file_name("quality", name, "utt2dur")
            if name != "norm" and not name.startswith("utt2"):
                raise ValueError(
                    f"quality: '{name}' is neither norm nor a table of utterances such as utt2dur"
                    f"{nearest(name, ['norm', 'utt2dur', 'utt2num_frames'])}"
                )
        if self.quality and self.fitted_on == "crops":
            raise ValueError(
                "quality: crops differ from whole utterances in length and norm, whoever speaks; use "
                "'fitted_on: clusters' or 'dev', or remove the key"
            )

    @property
    def name(self) -> str:
        """The part of a score file's name that identifies it."""
        return ".".join(["+".join(self.scores), "calibrated", self.fitted_on, *self.quality])


@dataclass
class Plda:
    """PLDA trained on the labels of a set, for comparison."""

    set: str = "train"
    lda_dim: int = 64

    def __post_init__(self):
        check_positive(self, "lda_dim")


@dataclass
class Clusters:
    """Clusters of the training sets' embeddings: pseudo-labels for PLDA and for rounds."""

    config: str = "cluster"  # conf/cluster.yaml
    crops: str = "crops"  # conf/crops.yaml
    statistics: bool = True  # the statistics of the filter banks count as well
    lda_dim: int = 64  # of PLDA on the clusters
    min_utts: int = 2  # smaller clusters are left out of it
    labels: str = ""  # a file in data/SET, such as utt2spk, that the clusters are compared with afterwards
    threshold: bool = False  # also a threshold from which on two recordings have the same speaker

    def __post_init__(self):
        check_names("config", [self.config])
        check_names("crops", [self.crops])
        check_positive(self, "lda_dim", "min_utts")
        if self.labels:
            check_file_name("labels", self.labels, "utt2spk")


@dataclass
class Round:
    """A round of stage 8: training on the clusters of the model before it."""

    name: str
    train: list[str] = field(default_factory=list)  # conf/NAME.yaml; each starts from the one before
    # of the first of them: the model of the round before, that of stage 4, or random weights
    start: Literal["previous", "first", "random"] = "previous"

    def __post_init__(self):
        check_names("name", [self.name])
        check_names("train", self.train)
        if not self.train:
            raise ValueError(f"train: round '{self.name}' trains nothing; name a configuration")


def default_scorers(plda: bool, clusters: Clusters | None) -> list[Scorer]:
    """Cosine in its treatments, and PLDA where the recipe has labels or clusters for it."""
    found = [Scorer(centring=centring) for centring in ("raw", "centred", "whitened")]
    if clusters:
        found += [Scorer(centring="wccn"), Scorer(centring="centred", normalisation="as-norm")]
    found += [Scorer("plda")] if plda else []
    if clusters:
        beside = [False, True] if clusters.statistics else [False]
        found += [Scorer("plda", labels="pseudo", statistics=statistics) for statistics in beside]
    return found
