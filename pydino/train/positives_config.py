"""The options of methods whose positives may be of other utterances."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydino.backend.clustering import clustering_settings
from pydino.base import check_at_least, check_fraction, check_sizes, config_to_dict

from .config import TrainingConfig

MOST_CLUSTERS = 1_000_000


@dataclass
class PositiveSamplingConfig:
    """When a run with ``positives: ssps`` finds them, and how (pydino/train/positive_sampling.py)."""

    start_epoch: int = 10  # epochs after which they are found first; 0: before the first step
    every_epochs: int = 5  # and then again
    # M: a positive is of one of the so many nearest other clusters; 0: of the utterance's own
    nearest_clusters: int = 0
    crops: int = 4  # augmented crops of each utterance, for the within-class covariance; 0: none
    statistics: bool = True  # cluster the deviations of the features too, beside the embedding
    # method of clustering and its settings, as in conf/cluster.yaml
    cluster: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        check_at_least(self, 0, "start_epoch")
        check_sizes(self, "nearest_clusters", least=0, most=MOST_CLUSTERS)
        check_at_least(self, 1, "every_epochs")
        if self.crops < 0 or self.crops == 1:
            raise ValueError(f"crops must be 0 or at least 2 (one has no covariance), got {self.crops}")
        name, settings = self.clustering
        self.cluster = {"method": name, **config_to_dict(settings)}

    @property
    def clustering(self) -> tuple[str, Any]:
        """The name of the method and its settings."""
        return clustering_settings(self.cluster, "ssps.cluster")


@dataclass
class OnlinePositivesConfig:
    """When targets of a run with ``positives: osps`` are of other utterances, and which
    (pydino/train/online_positives.py).
    """

    start_epoch: int = 10  # epochs after which they are; clusters and memory are kept from the first step
    clusters: int = 1000  # centroids, K
    momentum: float = 0.9  # of the centroids
    memory: int = 4  # R: the so many latest utterances of each cluster
    # M: a target is of one of the so many nearest other clusters; 0: of the utterance's own
    nearest_clusters: int = 0

    def __post_init__(self):
        check_at_least(self, 0, "start_epoch", "nearest_clusters")
        check_sizes(self, "memory", most=1000)
        check_sizes(self, "clusters", least=2, most=MOST_CLUSTERS)
        check_fraction(self, "momentum")
        if self.nearest_clusters >= self.clusters:
            raise ValueError(
                f"nearest_clusters ({self.nearest_clusters}) must be below clusters ({self.clusters})"
            )


@dataclass
class PositivesConfig(TrainingConfig):
    """A run that learns from pairs of views."""

    # what a positive is a crop of: the utterance itself; another one of its cluster, drawn again at each
    # visit (the only one of a cluster is its own); the same, of clusters that the run finds itself
    positives: Literal["own", "cluster", "ssps"] = "own"
    ssps: PositiveSamplingConfig = field(default_factory=PositiveSamplingConfig)

    def __post_init__(self):
        super().__post_init__()
        if self.of_others and self.crops.placement == "disjoint":
            raise ValueError(
                f"positives: {self.positives} takes crops of two utterances; set placement: independent"
            )
        self.check_search("ssps", self.ssps, PositiveSamplingConfig())

    def check_search(self, name: str, config, default) -> None:
        """Check the options of how positives are found, which are those of ``positives: NAME``."""
        if self.positives != name:
            if config != default:
                raise ValueError(
                    f"{name} says how positives are found, and there is nothing to find with positives: "
                    f"{self.positives}; set positives: {name}, or remove {name}"
                )
        elif config.start_epoch >= self.epochs:
            raise ValueError(
                f"{name}.start_epoch ({config.start_epoch}) must be before the end of the run (epochs: "
                f"{self.epochs:g}); raise epochs, or set positives: own"
            )

    @property
    def of_others(self) -> bool:
        """Whether positives are crops of other utterances."""
        return self.positives in ("cluster", "ssps")

    @property
    def needs_clusters(self) -> bool:
        return self.positives == "cluster"

    @property
    def positive_sampling(self) -> PositiveSamplingConfig | None:
        return self.ssps if self.positives == "ssps" else None
