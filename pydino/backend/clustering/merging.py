"""Clusters by the evidence of a PLDA: the two are merged for which "one class" is most probable against
"two", again and again, as long as the log Bayes factor is above a bound. No number of clusters is given.

In the diagonal space of a PLDA (within-class variance 1, between-class variance psi_i), n vectors of one
class with the sum s have, against n vectors that do not vary between classes, the log-likelihood

    f(n, s) = 1/2 sum_i [ psi_i s_i^2 / (1 + n psi_i) - ln(1 + n psi_i) ],

and the log Bayes factor of one class against two is f(n + m, s + t) - f(n, s) - f(m, t), in nats (two-
covariance model of Brümmer and de Villiers 2010, "The speaker partitioning problem").
"""

import heapq

import numpy as np

from .numbering import number_clusters

MOST_CANDIDATES = 128  # of a cluster to be merged with; of more the best are kept


def class_evidence(psi: np.ndarray, counts: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Return f(n, s) of classes, (C,) nats.

    Args:
        psi: (D,) between-class variances.
        counts: (C,) n.
        sums: (C, D) s.
    """
    spread = 1.0 + counts[:, None] * psi
    return 0.5 * (psi * sums**2 / spread - np.log(spread)).sum(axis=1)


def merge_by_evidence(
    psi: np.ndarray,
    projected: np.ndarray,
    candidates: np.ndarray,
    bound: float,
    labels: np.ndarray | None = None,
) -> np.ndarray:
    """Return clusters (N,) int64, numbered from 0 in the order of the first member.

    Greedy: always the pair of the largest log Bayes factor; a heap holds the best partner of every cluster
    and is corrected when that has changed. Only pairs of clusters with members that are candidates of each
    other are looked at; where all are, the result is that of looking at all pairs.

    Args:
        psi: (D,) between-class variances.
        projected: (N, D) vectors in the diagonal space (:meth:`pydino.backend.Plda.project`).
        candidates: (N, k) numbers of vectors that each may be merged with, such as its nearest by score.
        bound: nats; pairs with a log Bayes factor above it are merged.
        labels: (N,) clusters to begin with, numbered from 0 without a gap; None: every vector is one.
    """
    start = np.arange(len(projected)) if labels is None else number_clusters(labels)
    merging = _Merging(psi, projected, candidates, start)
    merging.run(bound)
    return number_clusters(merging.roots()[start])


class _Merging:
    """The state of a greedy merging; a cluster is known by the number of one of its first ones."""

    def __init__(self, psi, projected, candidates, start):
        number = int(start.max(initial=-1)) + 1
        self.psi = psi
        self.counts = np.bincount(start, minlength=number).astype(np.float64)
        self.sums = np.zeros((number, len(psi)))
        np.add.at(self.sums, start, projected)
        self.own = class_evidence(psi, self.counts, self.sums)
        self.parent = np.arange(number)
        self.version = np.zeros(number, dtype=np.int64)
        self.partners = _symmetric(
            np.repeat(start, candidates.shape[1]), start[candidates.reshape(-1)], number
        )
        self.heap: list[tuple[float, int, int, int, int]] = []

    def run(self, bound: float) -> None:
        for one in range(len(self.parent)):
            self._offer(one, bound)
        while self.heap:
            _, one, other, version, other_version = heapq.heappop(self.heap)
            if version != self.version[one]:
                continue  # it was merged, and has an entry of its own since
            if other_version != self.version[other]:
                self._offer(one, bound)
                continue
            self._merge(one, other)
            self._offer(one, bound)

    def roots(self) -> np.ndarray:
        """Return the cluster that each first one is in now."""
        while (self.parent[self.parent] != self.parent).any():
            self.parent = self.parent[self.parent]
        return self.parent

    def _offer(self, one: int, bound: float) -> None:
        """Put the best partner of a cluster on the heap, if it is good enough."""
        partners = self._living(one)
        if not len(partners):
            return
        counts = self.counts[partners] + self.counts[one]
        sums = self.sums[partners] + self.sums[one]
        gain = class_evidence(self.psi, counts, sums) - self.own[partners] - self.own[one]
        if len(partners) > MOST_CANDIDATES:
            kept = np.sort(np.argpartition(-gain, MOST_CANDIDATES)[:MOST_CANDIDATES])
            partners, gain = partners[kept], gain[kept]
        self.partners[one] = partners
        best = int(gain.argmax())
        if gain[best] > bound:
            other = int(partners[best])
            entry = (-float(gain[best]), one, other, int(self.version[one]), int(self.version[other]))
            heapq.heappush(self.heap, entry)

    def _living(self, one: int) -> np.ndarray:
        partners = self.partners[one]
        while len(stale := np.flatnonzero(self.parent[partners] != partners)):
            partners[stale] = self.parent[partners[stale]]
        partners = np.unique(partners)
        return partners[partners != one]

    def _merge(self, one: int, other: int) -> None:
        self.counts[one] += self.counts[other]
        self.sums[one] += self.sums[other]
        self.own[one] = class_evidence(self.psi, self.counts[[one]], self.sums[[one]])[0]
        self.parent[other] = one
        self.version[one] += 1
        self.version[other] = -1  # of no entry
        self.partners[one] = np.concatenate([self.partners[one], self.partners[other]])
        self.partners[other] = np.empty(0, dtype=np.int64)


def _symmetric(rows: np.ndarray, columns: np.ndarray, number: int) -> list[np.ndarray]:
    """Return the partners of each of ``number`` clusters, of pairs that count in both directions."""
    pairs = np.concatenate([rows * number + columns, columns * number + rows])
    rows, columns = np.divmod(np.unique(pairs[_differ(pairs, number)]), number)
    return np.split(columns, np.searchsorted(rows, np.arange(1, number)))


def _differ(pairs: np.ndarray, number: int) -> np.ndarray:
    """Return which pairs, coded as row * number + column, are of two different clusters."""
    return pairs // number != pairs % number
