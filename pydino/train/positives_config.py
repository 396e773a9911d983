"""The options of methods whose positives may be of other utterances."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydino.backend.clustering import clustering_settings
from pydino.base import check_at_least, config_to_dict

from .config import TrainingConfig


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
        check_at_least(self, 0, "start_epoch", "nearest_clusters")
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
        if self.positives != "ssps" and self.ssps != PositiveSamplingConfig():
            raise ValueError(
                f"ssps says how positives are found, and there is nothing to find with positives: "
                f"{self.positives}; set positives: ssps, or remove ssps"
            )
        if self.positives == "ssps" and self.ssps.start_epoch >= self.epochs:
            raise ValueError(
                f"ssps.start_epoch ({self.ssps.start_epoch}) must be before the end of the run (epochs: "
                f"{self.epochs:g}); raise epochs, or set positives: own"
            )

    @property
    def of_others(self) -> bool:
        """Whether positives are of other utterances."""
        return self.positives != "own"

    @property
    def needs_clusters(self) -> bool:
        return self.positives == "cluster"

    @property
    def positive_sampling(self) -> PositiveSamplingConfig | None:
        return self.ssps if self.positives == "ssps" else None
