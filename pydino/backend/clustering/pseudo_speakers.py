"""Pseudo-speakers: clusters of utterances that a PLDA can be trained on, found without labels and without a
number of clusters.

    start    vectors of several treatments, compared by cosine: mutual nearest neighbours, label propagation
    round    a PLDA trained on the clusters scores all pairs: mutual nearest neighbours, label propagation; a
             PLDA trained on these clusters: utterances are merged by its evidence

What is left to choose (treatment, number of neighbours, bound of the merging) is chosen by split self-EER.
Few parameters, such as a PLDA's, are estimated well from clusters of which a third of the pairs is wrong, and
give better clusters in turn; an encoder would learn the errors by heart.

Utterances are in the order of their hashes throughout, so that names have no influence.
"""

from dataclasses import dataclass, field

import numpy as np

from pydino.base import check_at_least, check_fraction

from ..plda_chain import PldaChain
from ..vectors import apply_affine, normalise_length
from .merging import merge_by_evidence
from .neighbours import make_cells, mutual_neighbours, nearest_neighbours
from .propagation import edge_weights, propagate_labels
from .self_eer import pseudo_plda, split_self_eer
from .treatments import BESIDE

EXACT = 50_000  # utterances; of more, neighbours are sought in cells
_PROBES = 16


@dataclass
class PseudoSpeakersConfig:
    """Settings; lists are alternatives among which split self-EER chooses."""

    # treatments to begin with; []: all, or, with a second embedding, all that have it
    starts: list[str] = field(default_factory=list)
    neighbours: list[int] = field(default_factory=lambda: [6, 8])  # of the mutual neighbour graph
    rounds: int = 7  # of clusters by PLDA score, merged by evidence
    lda_dim: int = 64
    num_em_iters: int = 10
    bounds: list[float] = field(default_factory=lambda: [0.0, 12.0])  # of the merging, nats; []: none
    candidates: int = 30  # nearest utterances by score that each may be merged with
    splits: int = 3  # of split self-EER, over which it is averaged
    seed: int = 0  # of these
    shrinkage: float = 0.1  # of the within-class covariance of crops

    def __post_init__(self):
        check_at_least(self, 0, "rounds", "seed")
        check_at_least(self, 1, "lda_dim", "num_em_iters", "candidates", "splits")
        check_fraction(self, "shrinkage")
        if not self.neighbours or min(self.neighbours) < 1:
            raise ValueError(f"neighbours must be a list of numbers from 1 on, got {self.neighbours}")


@dataclass(frozen=True)
class Candidate:
    """Clusters that were considered.

    Attributes:
        start: name of the treatment.
        neighbours: k; None: of a method without a neighbour graph.
        bound: of the merging, nats; None: not merged.
        num_clusters: of them.
        singletons: share of the clusters that have one member.
        self_eer: split self-EER, in [0, 1]; 0.5 where more than half of the utterances are alone.
    """

    start: str
    neighbours: int | None
    bound: float | None
    num_clusters: int
    singletons: float
    self_eer: float


@dataclass(frozen=True)
class PseudoSpeakers:
    """The result of :func:`pseudo_speakers`.

    Attributes:
        labels: (N,) int64, clusters numbered from 0 in the order of the first member.
        candidates: in the order in which they were considered.
        chosen: number of the one whose labels these are.
    """

    labels: np.ndarray
    candidates: list[Candidate]
    chosen: int


def pseudo_speakers(
    starts: dict[str, np.ndarray],
    vectors: np.ndarray,
    hashes: np.ndarray,
    config: PseudoSpeakersConfig | None = None,
) -> PseudoSpeakers:
    """Cluster utterances.

    Every start is followed to the end with every number of neighbours and every bound; the clusters of the
    smallest split self-EER are kept, where equal the first.

    Args:
        starts: name of a treatment -> (N, D') vectors, compared by their inner product.
        vectors: (N, D), which the PLDA is trained on.
        hashes: (N,) uint64, ascending: the order of the utterances.
        config: settings.

    Raises:
        ValueError: fewer than three utterances, hashes that do not ascend, or an unknown start.
    """
    config = config or PseudoSpeakersConfig()
    if len(hashes) < 3 or (hashes[1:] <= hashes[:-1]).any():
        raise ValueError("clustering needs three utterances or more, in the order of their hashes")
    search = _Search(vectors, hashes, config)
    candidates, found = [], []
    for start in _starts(starts, config):
        for k in dict.fromkeys(min(k, len(hashes) - 1) for k in config.neighbours):
            first = search.by_cosine(starts[start], k)
            for bound in config.bounds or [None]:
                labels = first
                for _ in range(config.rounds):
                    labels = search.by_score(labels, k)
                    if bound is not None:
                        labels = search.merged(labels, bound)
                    if _mostly_alone(labels):
                        break  # the bound is too high for these vectors
                candidates.append(search.candidate(start, k, bound, labels))
                found.append(labels)
    chosen = int(np.argmin([candidate.self_eer for candidate in candidates]))
    return PseudoSpeakers(found[chosen], candidates, chosen)


def _starts(known: dict[str, np.ndarray], config: PseudoSpeakersConfig) -> list[str]:
    for name in config.starts:
        if name not in known:
            raise ValueError(f"starts: '{name}' is none of {', '.join(known)}")
    return config.starts or [name for name in known if name.endswith(BESIDE)] or list(known)


class _Search:
    """What the steps of the chain have in common."""

    def __init__(self, vectors: np.ndarray, hashes: np.ndarray, config: PseudoSpeakersConfig):
        self.vectors, self.hashes, self.config = vectors, hashes, config

    def candidate(self, start: str, neighbours: int, bound: float | None, labels: np.ndarray) -> Candidate:
        config, sizes, error = self.config, np.bincount(labels), 0.5
        if not _mostly_alone(labels):
            error = split_self_eer(
                self.vectors,
                labels,
                self.hashes,
                config.lda_dim,
                config.num_em_iters,
                config.seed,
                config.splits,
            )
        return Candidate(start, neighbours, bound, len(sizes), float((sizes == 1).mean()), error)

    def by_cosine(self, unit: np.ndarray, k: int) -> np.ndarray:
        """Return the clusters of the graph of mutual nearest neighbours of unit vectors (N, D')."""
        return propagate_labels(weighted_graph(*self._neighbours(unit, unit, unit, k)))

    def by_score(self, labels: np.ndarray, k: int) -> np.ndarray:
        """Return the clusters of the graph by the scores of a PLDA trained on ``labels``."""
        chain = self._plda(labels)
        return labels if chain is None else propagate_labels(weighted_graph(*self._nearest(chain, k)))

    def merged(self, labels: np.ndarray, bound: float) -> np.ndarray:
        """Return utterances merged by the evidence of a PLDA trained on ``labels``."""
        chain = self._plda(labels)
        if chain is None:
            return labels
        near, _ = self._nearest(chain, min(self.config.candidates, len(labels) - 1))
        return merge_by_evidence(chain.plda.psi, _projected(chain, self.vectors), near, bound)

    def _plda(self, labels: np.ndarray) -> PldaChain | None:
        return pseudo_plda(self.vectors, labels, self.config.lda_dim, self.config.num_em_iters)

    def _nearest(self, chain: PldaChain, k: int):
        projected = _projected(chain, self.vectors)
        return self._neighbours(*chain.plda.comparison_features(projected, 1, projected), projected, k)

    def _neighbours(self, left: np.ndarray, right: np.ndarray, place: np.ndarray, k: int):
        """Return the nearest by left[i] @ right[j]; ``place`` (N, D') is what many are put into cells by."""
        cells = None
        if len(left) > EXACT:
            number = int(4 * np.sqrt(len(left)))
            cells = make_cells(place.astype(np.float32), self.config.seed, self.hashes, number, _PROBES)
            left, right = left.astype(np.float32), right.astype(np.float32)
        return nearest_neighbours(left, right, k, cells)


def _mostly_alone(labels: np.ndarray) -> bool:
    """Whether more than half of the utterances are alone in their clusters.

    The few pairs that are left then are the easiest ones, and their error rate says nothing.
    """
    return bool((np.bincount(labels)[labels] == 1).mean() > 0.5)


def plda_features(chain: PldaChain, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return left and right (N, F), whose inner products are the log-likelihood ratios of vectors (N, D)."""
    projected = _projected(chain, vectors)
    return chain.plda.comparison_features(projected, 1, projected)


def _projected(chain: PldaChain, vectors: np.ndarray) -> np.ndarray:
    return chain.plda.project(normalise_length(apply_affine(chain.transform, vectors - chain.mean)))


def weighted_graph(indices: np.ndarray, similarities: np.ndarray):
    """Return the graph of mutual nearest neighbours (:func:`.neighbours.mutual_neighbours`) with the weights
    of label propagation (:func:`.propagation.edge_weights`).
    """
    graph = mutual_neighbours(indices, similarities)
    graph.data = edge_weights(graph.data)
    return graph
