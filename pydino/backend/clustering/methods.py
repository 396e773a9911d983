"""The methods of clustering by name, each with its settings: what a YAML file with ``method: NAME`` holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pydino.base import ConfigError, check_at_least, check_fraction, config_from_dict, nearest

from .agglomerative import average_link, kmeans_average_link, ward
from .density import density_clusters
from .kmeans import kmeans
from .numbering import number_clusters
from .pseudo_speakers import Candidate, PseudoSpeakers, PseudoSpeakersConfig, pseudo_speakers
from .self_eer import pseudo_plda, split_self_eer
from .treatments import Embedded, standardised, treatments

MOST_TO_MERGE = 100_000  # utterances or centroids: 40 GB of similarities
_ONE_THREAD = 20_000  # utterances
_NEAR_CENTROIDS = 64  # that k-means compares a vector with; enough where there are many centroids


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
    num_centroids: int | None = None  # begin at so many clusters of k-means, instead of at utterances

    def __post_init__(self):
        super().__post_init__()
        if (self.num_clusters is None) == (self.threshold is None):
            raise ValueError("say where to stop: num_clusters or threshold, one of the two")
        for name in ("num_clusters", "num_centroids"):
            if getattr(self, name) is not None:
                check_at_least(self, 1, name)


@dataclass
class PldaAgglomerativeConfig(AgglomerativeConfig):
    """Average link by cosine, then by the scores of a PLDA trained on its clusters (Cho et al. 2022)."""

    first_num_clusters: int | None = None  # where to stop by cosine: this, or
    first_threshold: float | None = None
    rounds: int = 1  # by PLDA

    def __post_init__(self):
        super().__post_init__()
        if (self.first_num_clusters is None) == (self.first_threshold is None):
            raise ValueError(
                "say where to stop by cosine: first_num_clusters or first_threshold, one of the two"
            )
        if self.first_num_clusters is not None:
            check_at_least(self, 2, "first_num_clusters")
        check_at_least(self, 1, "rounds")


@dataclass
class DensityConfig(_OneTreatment):
    """HDBSCAN."""

    min_cluster_size: int = 5
    min_samples: int | None = None  # neighbours that make a place dense; default: min_cluster_size

    def __post_init__(self):
        super().__post_init__()
        check_at_least(self, 2, "min_cluster_size")
        if self.min_samples is not None:
            check_at_least(self, 1, "min_samples")


def _kmeans(unit, _, hashes, config):
    options = {"num_iterations": config.num_iterations, "sharded": False}
    found = kmeans(unit, config.num_clusters, config.seed, hashes, **options)
    return number_clusters(found.labels)


def _average(unit, _, hashes, config):
    return _linked(unit, (unit, unit), hashes, config, config.num_clusters, config.threshold)


def _ward(unit, _, hashes, config):
    _check_number(unit, config)
    start = None
    if config.num_centroids is not None:
        options = {"num_candidates": _NEAR_CENTROIDS, "sharded": False}
        found = kmeans(unit, config.num_centroids, config.seed, hashes, **options)
        start = number_clusters(found.labels)
    return ward(unit, threshold=config.threshold, num_clusters=config.num_clusters, start=start)


def _plda_ahc(unit, vectors, hashes, config):
    first = config.first_num_clusters and min(config.first_num_clusters, config.num_centroids or len(unit))
    labels = _linked(unit, (unit, unit), hashes, config, first, config.first_threshold)
    for _ in range(config.rounds):
        chain = pseudo_plda(vectors, labels, config.lda_dim, config.num_em_iters)
        if chain is None:
            raise ValueError(
                f"the {labels.max() + 1} clusters by cosine allow no PLDA; change first_num_clusters or "
                "first_threshold"
            )
        place = chain.project(vectors)
        features = chain.plda.comparison_features(place, 1, place)
        labels = _linked(place, features, hashes, config, config.num_clusters, config.threshold)
    return labels


def _density(unit, _, __, config):
    return density_clusters(unit, config.min_cluster_size, config.min_samples)


def _linked(place, features, hashes, config, num_clusters, threshold):
    """Average link by ``features``, of utterances or of the clusters of k-means of ``place`` (N, D')."""
    _check_number(place, config)
    stop = {"num_clusters": num_clusters, "threshold": threshold}
    if config.num_centroids is None:
        return average_link(*features, **stop)
    options = {"features": features, "num_candidates": _NEAR_CENTROIDS, "sharded": False}
    return kmeans_average_link(place, config.num_centroids, config.seed, hashes, **stop, **options)


def _check_number(vectors, config):
    number = config.num_centroids or len(vectors)
    if number > MOST_TO_MERGE:
        raise ValueError(
            f"merging {number} takes {4 * number**2 / 1e9:.0f} GB: set num_centroids, {MOST_TO_MERGE} at "
            "most, to merge so many clusters of k-means"
        )


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
    "density": Method(DensityConfig, _of_one_treatment(_density)),
}


def clustering_settings(settings: dict, where: str) -> tuple[str, Any]:
    """Return the name of the method and its settings, of a mapping such as a YAML file with
    ``method: NAME``; without one it is ``pseudo-speakers``.

    Raises:
        ConfigError: names ``where`` and the key.
    """
    settings = dict(settings)
    name = settings.pop("method", "pseudo-speakers")
    if not isinstance(name, str) or name not in METHODS:
        raise ConfigError(
            f"{where}: method must be one of {', '.join(METHODS)}, got {name!r}{nearest(str(name), METHODS)}"
        )
    return name, config_from_dict(METHODS[name].config, settings, where=where)


def cluster(
    embedding: Embedded, beside: Embedded | None, hashes: np.ndarray, name: str, config: Any
) -> PseudoSpeakers:
    """Cluster embeddings by the method called ``name``, in this process alone.

    Args:
        embedding: of the N utterances.
        beside: a second embedding of them, which a PLDA sees too.
        hashes: (N,) uint64, ascending.
        name, config: as :func:`clustering_settings` returns them.

    Raises:
        ValueError: settings that these vectors do not allow.
    """
    from threadpoolctl import threadpool_limits

    parts = [one.vectors for one in (embedding, beside) if one is not None]
    # A few thousand utterances are done in seconds by one thread, and more threads take longer, above all
    # beside other processes. So the sums, and the clusters, do not depend on the number of cores either.
    with threadpool_limits(1 if len(hashes) <= _ONE_THREAD else None):
        starts = treatments(embedding, beside, config.shrinkage)
        return METHODS[name].run(starts, standardised(*parts), hashes, config)
