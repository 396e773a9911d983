"""Clusters of what a network has made so far, in memory that does not grow with the corpus: spherical k-means
on a stream, and of each cluster the latest members.

Spherical k-means (Dhillon and Modha 2001) on a stream of batches, as in OSPS (theolepage/sslsv; unpublished):
K unit centroids c. With the unit vectors z_b of a batch, the clusters a_b = argmax_k c_k . z_b, and of each
cluster k that is among them

    c_k <- v / |v|,  v = m c_k + (1 - m) mean {z_b: a_b = k}.

With m = 0 and all vectors in one batch this is an iteration of Lloyd's algorithm. A centroid that was nearest
to nothing since :meth:`OnlineClusters.revive` is moved to one of the last K vectors; these are kept beside
the centroids, as theirs is not known to us in detail.
"""

import torch
import torch.nn.functional as F
from torch import nn


class OnlineClusters(nn.Module):
    """K centroids of vectors (B, D) of any length, of which the directions count.

    Args:
        number: K.
        dim: D.
        momentum: m, in [0, 1).

    Attributes:
        centroids: (K, D) float32 of length one; random directions at first.
        wins: (K,) int64, vectors that each was nearest to since the last revival.
        recent: (K, D) float32, the last K unit vectors, in a ring.
        seen: () int64, vectors so far.
    """

    def __init__(self, number: int, dim: int, momentum: float):
        super().__init__()
        self.momentum = momentum
        self.register_buffer("centroids", F.normalize(torch.randn(number, dim), dim=-1))
        self.register_buffer("wins", torch.zeros(number, dtype=torch.int64))
        self.register_buffer("recent", torch.zeros(number, dim))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def nearest(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the clusters (B,) int64 of vectors (B, D)."""
        with torch.autocast(vectors.device.type, enabled=False):
            return (vectors.to(self.centroids.dtype) @ self.centroids.T).argmax(1)

    @torch.no_grad()
    def nearest_others(self, clusters: torch.Tensor, count: int) -> torch.Tensor:
        """Return of each of the clusters (B,) the ``count`` other ones whose centroids are nearest to its
        own, (B, count), the nearest first; ``count`` is below K.
        """
        with torch.autocast(clusters.device.type, enabled=False):
            cosines = self.centroids[clusters] @ self.centroids.T
        return cosines.scatter(1, clusters[:, None], -torch.inf).topk(count, dim=1).indices

    @torch.no_grad()
    def update(self, vectors: torch.Tensor) -> torch.Tensor:
        """Move the centroids towards vectors (B, D), in place; return the clusters (B,) that these had
        before.

        The result is the same, bit for bit, wherever it is computed from the same rows in the same order, on
        devices of one kind.
        """
        number, batch = len(self.centroids), len(vectors)
        clusters = self.nearest(vectors)
        with torch.autocast(vectors.device.type, enabled=False):
            unit = F.normalize(vectors.to(self.centroids.dtype), dim=-1)
            together = clusters[:, None] == clusters  # (B, B)
            means = together.to(unit.dtype) @ unit / together.sum(1, keepdim=True)
            moved = self.momentum * self.centroids[clusters] + (1 - self.momentum) * means
            moved = F.normalize(moved, dim=-1)
        rows = torch.arange(batch, device=vectors.device)
        first = torch.where(together, rows, batch).amin(1)  # one row computes for all of its cluster
        self.centroids.index_copy_(0, clusters, moved[first])
        self.wins.index_add_(0, clusters, torch.ones_like(clusters))
        last = slice(max(0, batch - number), None)
        self.recent.index_copy_(0, (self.seen + rows[last]) % number, unit[last])
        self.seen += batch
        return clusters

    @torch.no_grad()
    def revive(self, order: torch.Tensor) -> torch.Tensor:
        """Move the centroids that were nearest to nothing since the last call to recent vectors, and return
        which these are, (M,) int64. It waits for the device.

        Args:
            order: (K,) int64, a permutation: places of the ring, in the order in which they are taken.
        """
        places = order[order < self.seen]
        dead = (self.wins == 0).nonzero().flatten()[: len(places)]
        self.centroids[dead] = self.recent[places[: len(dead)]]
        self.wins.zero_()
        return dead


class ClusterMemory(nn.Module):
    """Of each of K clusters the R latest entries.

    Args:
        number: K.
        length: R.
        shape: of an entry.

    Attributes:
        entries: (K, R, *shape) float32, a ring for each cluster.
        hashes: (K, R) int64, of the utterances that they are of.
        pushed: (K,) int64, entries of each cluster so far.
    """

    def __init__(self, number: int, length: int, shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("entries", torch.zeros(number, length, *shape))
        self.register_buffer("hashes", torch.zeros(number, length, dtype=torch.int64))
        self.register_buffer("pushed", torch.zeros(number, dtype=torch.int64))

    @torch.no_grad()
    def push(self, clusters: torch.Tensor, entries: torch.Tensor, hashes: torch.Tensor) -> None:
        """Put entries (B, *shape) of utterances (B,) into the rings of their clusters (B,), in place, in this
        order; each drives out the oldest where a ring is full.
        """
        number, length = self.hashes.shape
        rows = torch.arange(len(clusters), device=clusters.device)
        earlier = ((clusters[:, None] == clusters) & (rows[:, None] > rows)).sum(1)
        slots = clusters * length + (self.pushed[clusters] + earlier) % length
        # where more than R rows are of one cluster, all that share a slot write what the last of them would
        last = torch.where(slots[:, None] == slots, rows, -1).amax(1)
        self.entries.flatten(0, 1).index_copy_(0, slots, entries[last].to(self.entries.dtype))
        self.hashes.flatten().index_copy_(0, slots, hashes[last])
        self.pushed.index_add_(0, clusters, torch.ones_like(clusters))

    @torch.no_grad()
    def draw(
        self, clusters: torch.Tensor, hashes: torch.Tensor, uniform: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return an entry of another utterance for each of B utterances, (B, *shape), and whether there is
        one, (B,) bool; all that there are are equally likely.

        Args:
            clusters: (B,) whose entries are wanted.
            hashes: (B,) of the utterances.
            uniform: (B,) draws in [0, 1).
        """
        length = self.hashes.shape[1]
        slots = torch.arange(length, device=clusters.device)
        usable = slots < self.pushed[clusters, None]
        usable &= self.hashes[clusters] != hashes[:, None]
        count = usable.sum(1)
        number = torch.minimum((uniform * count).long(), (count - 1).clamp_min(0))
        # the place of usable entry ``number``: as many cumulative counts are not above it
        place = (usable.cumsum(1) <= number[:, None]).sum(1).clamp_max(length - 1)
        return self.entries[clusters, place], count > 0

    @torch.no_grad()
    def forget(self, clusters: torch.Tensor) -> None:
        """Empty the rings of clusters (M,)."""
        self.pushed[clusters] = 0
