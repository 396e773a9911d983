"""Pseudo-speakers: clusters of utterances that a PLDA can be trained on, found without labels and without a
number of clusters.

    start    vectors of several treatments, compared by cosine: mutual nearest neighbours, label propagation
    round    a PLDA trained on the clusters scores all pairs: mutual nearest neighbours, label propagation; a
             PLDA trained on these clusters: utterances are merged by its evidence

What is left to choose (treatment, number of neighbours, bound of the merging) is chosen by split self-EER.
Few parameters, such as a PLDA's, are estimated well from clusters of which a third of the pairs is wrong, and
give better clusters in turn; an encoder would fit the errors.

Utterances are in the order of their hashes throughout, so that names have no influence.
"""

from dataclasses import dataclass, field

import numpy as np

from pydino.base import check_at_least, check_fraction

from ..plda_chain import PldaChain
from .merging import merge_by_evidence
from .neighbours import make_cells, mutual_neighbours, nearest_neighbours
from .propagation import edge_weights, propagate_labels
from .self_eer import pseudo_plda, split_self_eer
from .treatments import BESIDE

JOINT = "all"  # the start of what clusterings of all starts agree on
EXACT = 50_000  # utterances; of more, neighbours are sought in cells
_PROBES = 16


@dataclass
class PseudoSpeakersConfig:
    """Settings; lists are alternatives among which split self-EER chooses."""

    # treatments to begin with; []: all, or, with a second embedding, all that have it
    starts: list[str] = field(default_factory=list)
    neighbours: list[int] = field(default_factory=lambda: [8, 6, 10])  # of the mutual neighbour graph
    rounds: int = 5  # of clusters by PLDA score, merged by evidence
    joint_rounds: int = 2  # from what the clusterings agree on; 0: that is not tried
    lda_dim: int = 64
    num_em_iters: int = 10
    bounds: list[float] = field(default_factory=lambda: [0.0, 12.0])  # of the merging, nats; []: none
    candidates: int = 30  # nearest utterances by score that each may be merged with
    splits: int = 3  # of split self-EER, over which it is averaged
    seed: int = 0  # of these
    shrinkage: float = 0.1  # of the within-class covariance of crops

    def __post_init__(self):
        check_at_least(self, 0, "rounds", "joint_rounds", "seed")
        check_at_least(self, 1, "lda_dim", "num_em_iters", "candidates", "splits")
        check_fraction(self, "shrinkage")
        if not self.neighbours or min(self.neighbours) < 1:
            raise ValueError(f"neighbours must be a list of numbers from 1 on, got {self.neighbours}")


@dataclass(frozen=True)
class Candidate:
    """Clusters that were considered.

    Attributes:
        start: name of the treatment; ``JOINT``: what the others agree on.
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

    The bound is chosen for the first start and number of neighbours. Then every start is followed to the end
    with every number of neighbours. What at least half of these clusterings agree on is one more start, of
    ``joint_rounds`` rounds. Of all clusters, those of the smallest split self-EER are kept, where equal the
    first.

    Args:
        starts: name of a treatment -> (N, D') vectors, compared by their inner product.
        vectors: (N, D), which the PLDA is trained on.
        hashes: (N,) uint64, ascending: the order of the utterances.
        config: settings.

    Raises:
        ValueError: fewer than three utterances, hashes that do not ascend, or an unknown start.
    """
    config = config or PseudoSpeakersConfig()
    if len(hashes) < 3:
        raise ValueError("three or more are needed")
    if (hashes[1:] <= hashes[:-1]).any():
        raise ValueError("the hashes must ascend")
    search = _Search(vectors, hashes, config)
    names = _starts(starts, config)
    counts = list(dict.fromkeys(min(k, len(hashes) - 1) for k in config.neighbours))
    pairs = [(name, k) for name in names for k in counts]
    for bound in config.bounds or [None]:
        name, k = pairs[0]
        search.follow(name, search.by_cosine(starts[name], k), k, bound, config.rounds)
    bound = search.best.bound
    for name, k in pairs[1:]:
        search.follow(name, search.by_cosine(starts[name], k), k, bound, config.rounds)
    if config.joint_rounds and len(search.of_bound(bound)) > 1:
        k = search.best.neighbours
        search.follow(JOINT, search.joint(search.of_bound(bound)), k, bound, config.joint_rounds)
    return PseudoSpeakers(search.found[search.chosen], search.candidates, search.chosen)


def _starts(known: dict[str, np.ndarray], config: PseudoSpeakersConfig) -> list[str]:
    for name in config.starts:
        if name not in known:
            raise ValueError(f"starts: '{name}' is none of {', '.join(known)}")
    return config.starts or [name for name in known if name.endswith(BESIDE)] or list(known)


class _Search:
    """What the steps of the chain have in common."""

    def __init__(self, vectors: np.ndarray, hashes: np.ndarray, config: PseudoSpeakersConfig):
        self.vectors, self.hashes, self.config = vectors, hashes, config
        self.candidates: list[Candidate] = []
        self.found: list[np.ndarray] = []

    @property
    def chosen(self) -> int:
        return int(np.argmin([candidate.self_eer for candidate in self.candidates]))

    @property
    def best(self) -> Candidate:
        return self.candidates[self.chosen]

    def of_bound(self, bound: float | None) -> list[np.ndarray]:
        """Return the clusters found with a bound, without those that leave most utterances alone."""
        pairs = zip(self.candidates, self.found, strict=True)
        return [labels for one, labels in pairs if one.bound == bound and not _mostly_alone(labels)]

    def follow(self, start: str, labels: np.ndarray, k: int, bound: float | None, rounds: int) -> None:
        """Add the clusters after ``rounds`` rounds from ``labels`` on to those found."""
        for _ in range(rounds):
            labels = self.by_score(labels, k)
            if bound is not None:
                labels = self.merged(labels, bound)
            if _mostly_alone(labels):
                break  # the bound is too high for these vectors
        self.candidates.append(self.candidate(start, k, bound, labels))
        self.found.append(labels)

    def joint(self, partitions: list[np.ndarray]) -> np.ndarray:
        """Return the clusters that half of the partitions agree on: label propagation on the pairs that share
        a cluster in at least half of them, weighted by their number (evidence accumulation: Fred and Jain
        2005). Only utterances that are near by the scores of the PLDA of the best clusters are looked at.
        """
        from scipy.sparse import csr_array

        count = len(self.vectors)
        chain = self._plda(self.found[self.chosen])
        if chain is None:
            return self.found[self.chosen]
        near, _ = self._nearest(chain, min(self.config.candidates, count - 1))
        rows, columns = np.repeat(np.arange(count), near.shape[1]), near.reshape(-1)
        rows, columns = rows[columns >= 0], columns[columns >= 0]
        votes = sum((labels[rows] == labels[columns]).astype(np.float64) for labels in partitions)
        kept = votes >= len(partitions) / 2
        one_way = csr_array((votes[kept], (rows[kept], columns[kept])), shape=(count, count))
        graph = one_way.maximum(one_way.T).tocsr()
        graph.sort_indices()
        return propagate_labels(graph)

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
        return merge_by_evidence(chain.plda.psi, chain.project(self.vectors), near, bound)

    def _plda(self, labels: np.ndarray) -> PldaChain | None:
        return pseudo_plda(self.vectors, labels, self.config.lda_dim, self.config.num_em_iters)

    def _nearest(self, chain: PldaChain, k: int):
        projected = chain.project(self.vectors)
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


def weighted_graph(indices: np.ndarray, similarities: np.ndarray):
    """Return the graph of mutual nearest neighbours (:func:`.neighbours.mutual_neighbours`) with the weights
    of label propagation (:func:`.propagation.edge_weights`).
    """
    graph = mutual_neighbours(indices, similarities)
    graph.data = edge_weights(graph.data)
    return graph
