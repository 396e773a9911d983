"""The methods of clustering by name, each with its settings: what a YAML file with ``method: NAME`` holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pydino.base import check_at_least, check_fraction

from .agglomerative import average_link, ward
from .kmeans import kmeans
from .numbering import number_clusters
from .pseudo_speakers import (
    Candidate,
    PseudoSpeakers,
    PseudoSpeakersConfig,
    plda_features,
    pseudo_speakers,
)
from .self_eer import pseudo_plda, split_self_eer


@dataclass
class _OneTreatment:
    """Settings of the methods that cluster vectors of one treatment."""

    treatment: str = "centred"  # a name of pydino.backend.clustering.treatments
    shrinkage: float = 0.1  # of the within-class covariance of crops
    lda_dim: int = 64  # of the PLDA that split self-EER is measured with
    num_em_iters: int = 10
    splits: int = 3  # of split self-EER, over which it is averaged
    seed: int = 0

    def __post_init__(self):
        check_fraction(self, "shrinkage")
        check_at_least(self, 1, "lda_dim", "num_em_iters", "splits")
        check_at_least(self, 0, "seed")


@dataclass
class KMeansConfig(_OneTreatment):
    """Spherical k-means."""

    num_clusters: int = 0
    num_iterations: int = 30

    def __post_init__(self):
        super().__post_init__()
        check_at_least(self, 1, "num_clusters", "num_iterations")


@dataclass
class AgglomerativeConfig(_OneTreatment):
    """Agglomerative clustering: stops at a number of clusters, or at a threshold."""

    num_clusters: int | None = None
    threshold: float | None = None  # average: mean cosine; ward: distance; plda-ahc: nats

    def __post_init__(self):
        super().__post_init__()
        if (self.num_clusters is None) == (self.threshold is None):
            raise ValueError("say where to stop: num_clusters or threshold, one of the two")
        if self.num_clusters is not None:
            check_at_least(self, 1, "num_clusters")


@dataclass
class PldaAgglomerativeConfig(AgglomerativeConfig):
    """Average link by cosine, then by the scores of a PLDA trained on its clusters (Cho et al. 2022)."""

    first_num_clusters: int = 0  # by cosine
    rounds: int = 1  # by PLDA

    def __post_init__(self):
        super().__post_init__()
        check_at_least(self, 2, "first_num_clusters")
        check_at_least(self, 1, "rounds")


def _kmeans(unit, _, hashes, config):
    found = kmeans(
        unit.astype(np.float32),
        config.num_clusters,
        config.seed,
        hashes,
        num_iterations=config.num_iterations,
    )
    return number_clusters(found.labels)


def _average(unit, _, __, config):
    return average_link(unit, unit, threshold=config.threshold, num_clusters=config.num_clusters)


def _ward(unit, _, __, config):
    return ward(unit, threshold=config.threshold, num_clusters=config.num_clusters)


def _plda_ahc(unit, vectors, _, config):
    labels = average_link(unit, unit, num_clusters=min(config.first_num_clusters, len(unit)))
    for _ in range(config.rounds):
        chain = pseudo_plda(vectors, labels, config.lda_dim, config.num_em_iters)
        if chain is None:
            raise ValueError(
                f"the {config.first_num_clusters} clusters by cosine (first_num_clusters) allow no PLDA"
            )
        features = plda_features(chain, vectors)
        labels = average_link(*features, threshold=config.threshold, num_clusters=config.num_clusters)
    return labels


@dataclass(frozen=True)
class Method:
    """One of ``METHODS``.

    Attributes:
        config: dataclass of its settings, all with ``shrinkage``.
        run: (unit vectors by name of treatment, vectors for a PLDA (N, D), hashes (N,), settings) ->
            :class:`PseudoSpeakers`.
    """

    config: type
    run: Callable[[dict[str, np.ndarray], np.ndarray, np.ndarray, Any], PseudoSpeakers]


def _of_one_treatment(cluster) -> Callable:
    def run(starts, vectors, hashes, config) -> PseudoSpeakers:
        if config.treatment not in starts:
            raise ValueError(f"treatment '{config.treatment}' is none of {', '.join(starts)}")
        labels = cluster(starts[config.treatment], vectors, hashes, config)
        sizes = np.bincount(labels)
        error = split_self_eer(
            vectors, labels, hashes, config.lda_dim, config.num_em_iters, config.seed, config.splits
        )
        singletons = float((sizes == 1).mean())
        return PseudoSpeakers(
            labels, [Candidate(config.treatment, None, None, len(sizes), singletons, error)], 0
        )

    return run


METHODS = {
    "pseudo-speakers": Method(PseudoSpeakersConfig, pseudo_speakers),
    "kmeans": Method(KMeansConfig, _of_one_treatment(_kmeans)),
    "average": Method(AgglomerativeConfig, _of_one_treatment(_average)),
    "ward": Method(AgglomerativeConfig, _of_one_treatment(_ward)),
    "plda-ahc": Method(PldaAgglomerativeConfig, _of_one_treatment(_plda_ahc)),
}
