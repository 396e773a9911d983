"""Spherical k-means, on one or more processes (Dhillon and Modha 2001, "Concept decompositions for large
sparse text data using clustering").

Vectors and centroids have unit length; a vector belongs to the centroid of the largest cosine, and a centroid
is the direction of the sum of its vectors, which maximises the objective, the mean of these cosines. Each
process has a shard of the vectors; sums and counts are reduced over the processes, so all have the same
centroids. torch is imported when a function is called: the room starts without it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pydino.base import keyed_bits, keyed_uniform, purpose

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 16  # vectors that are on the device at once
_SCORES = {"cpu": 32 << 20, "cuda": 512 << 20}  # cosines of a block of vectors with all centroids
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class KMeans:
    """The result of :func:`kmeans`.

    Attributes:
        centroids: (K, D) float32 of unit length, the same on all processes.
        labels: (n,) int64, the nearest centroid of each vector of this process's shard.
        similarities: (n,) float32, the cosine with it.
        objective: mean cosine of the vectors that were trained on with their nearest centroids, at the
            beginning of each iteration.
    """

    centroids: np.ndarray
    labels: np.ndarray
    similarities: np.ndarray
    objective: list[float]


def kmeans(
    vectors: "np.ndarray | torch.Tensor",
    num_clusters: int,
    seed: int,
    hashes: np.ndarray,
    *,
    num_iterations: int = 20,
    tolerance: float = 1e-4,
    max_points_per_centroid: int | None = None,
    plus_plus: bool = False,
    device: str = "cpu",
    precision: str = "auto",
) -> KMeans:
    """Cluster vectors by direction.

    The first centroids are vectors drawn by their hashes. Where torch.distributed is initialised, every
    process of the default group calls this with its shard. Draws depend on seed and hashes only: the result
    is, up to rounding, the same for any number of processes, and exactly the same for the same shards.

    A centroid that has lost its vectors is put onto the vector that is farthest from its own centroid (the
    next farthest for the next, ties by hash).

    Args:
        vectors: (n, D) float32, a shard; scaled to unit length here, a chunk at a time, so that an array that
            is mapped from a file stays there. Zero vectors have the cosine 0 with every centroid.
        num_clusters: K, up to the number of vectors in all.
        seed: of the draws.
        hashes: (n,) uint64, distinct: the stored hashes of the utterances.
        num_iterations: at most.
        tolerance: stop when the objective has risen by less than this share of 1 - objective.
        max_points_per_centroid: train on a keyed draw of about K times this many vectors, if there are more.
            All are assigned in the end.
        plus_plus: k-means++ (Arthur and Vassilvitskii 2007): draw each centroid with probability proportional
            to the squared distance from those before; K passes over the vectors, so for a small K.
        device: where products are computed; the vectors may be on the CPU, and are then copied in chunks.
        precision: of the cosines that decide the assignment. auto is bfloat16 on a GPU, float32 on a CPU;
            some CPUs are several times faster with bfloat16. Sums are float32 in any case.

    Raises:
        ValueError: more clusters than vectors, or hashes that are not one a vector.
    """
    import torch

    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision '{precision}'; it is one of {', '.join(PRECISIONS)}")
    if len(hashes) != len(vectors):
        raise ValueError(f"{len(vectors)} vectors have {len(hashes)} hashes")
    shard = _Shard(torch.as_tensor(vectors), np.asarray(hashes, np.uint64), seed, device, precision)
    total = int(shard.reduce(torch.tensor([shard.count], dtype=torch.float64))[0])
    if not 1 <= num_clusters <= total:
        raise ValueError(f"{num_clusters} clusters of {total} vectors; possible are 1 to {total}")
    sample = shard
    if max_points_per_centroid is not None and num_clusters * max_points_per_centroid < total:
        sample = shard.draw(num_clusters * max_points_per_centroid / total, num_clusters)
    centroids = (sample.plus_plus if plus_plus else sample.first)(num_clusters)
    objective = []
    for _ in range(num_iterations):
        labels, similarities = sample.assign(centroids)
        objective.append(sample.mean(similarities))
        if len(objective) > 1 and objective[-1] - objective[-2] <= tolerance * (1 - objective[-1]):
            break
        centroids = sample.update(centroids, labels, similarities)
    labels, similarities = shard.assign(centroids)
    return KMeans(centroids.cpu().numpy(), labels.numpy(), similarities.numpy(), objective)


def nearest_centroids(
    vectors: "np.ndarray | torch.Tensor",
    centroids: np.ndarray,
    count: int = 1,
    *,
    device: str = "cpu",
    precision: str = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``count`` nearest centroids (K, D) of each vector (N, D) by cosine.

    Returns:
        (N, count) int64 indices, the nearest first, and (N, count) float32 cosines. Equal cosines are in no
        particular order, which is the same in each run.
    """
    import torch

    shard = _Shard(torch.as_tensor(vectors), None, 0, device, precision)
    indices, cosines = shard.nearest(torch.as_tensor(centroids).to(device, torch.float32), count)
    return indices.numpy(), cosines.numpy()


class _Shard:
    """The vectors (n, D) of this process, and what is reduced over all processes."""

    def __init__(self, vectors, hashes, seed, device, precision):
        import torch
        import torch.distributed as dist

        self.vectors, self.hashes, self.seed = vectors, hashes, seed
        self.device, self.precision = torch.device(device), precision
        self.count = len(vectors)
        self.world = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        low = precision == "bfloat16" or (precision == "auto" and self.device.type != "cpu")
        self.dtype = torch.bfloat16 if low else torch.float32

    # Communication. Reductions are on the device, because NCCL knows no other.
    def reduce(self, tensor):
        """Return the sum over the processes."""
        if self.world == 1:
            return tensor
        import torch.distributed as dist

        tensor = tensor.to(self.device)
        dist.all_reduce(tensor)
        return tensor

    def gather(self, rows):
        """Return the rows of all processes, which may differ in number."""
        if self.world == 1:
            return rows
        import torch
        import torch.distributed as dist

        rows = rows.to(self.device)
        counts = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.world)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=self.device))
        longest = int(max(counts))
        padded = torch.cat([rows, rows.new_zeros((longest - len(rows), *rows.shape[1:]))])
        every = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(every, padded)
        return torch.cat([part[: int(number)] for part, number in zip(every, counts, strict=True)])

    def take(self, places, keys, count):
        """Return the vectors of the ``count`` smallest keys over all processes, in their order.

        Args:
            places: (M,) of this shard, with its ``count`` smallest keys among them.
            keys: (M,) float64 or int64 tensor.
        """
        import torch

        threshold = self.gather(keys).sort().values[:count][-1]
        kept = keys <= threshold.to(keys.device)
        rows = self.unit(self.vectors[torch.as_tensor(places)[kept]])
        order = torch.argsort(self.gather(keys[kept]), stable=True)[:count]
        return self.gather(rows)[order.to(self.device)]

    # Draws.
    def draw(self, share, at_least):
        """Return the part of about ``share`` of all vectors, ``at_least`` so many."""
        keys = keyed_uniform(self.seed, self.hashes, purpose("k-means sample"))
        kept = keys < share
        import torch

        smallest = torch.as_tensor(np.sort(keys)[:at_least])
        kept |= keys <= float(self.gather(smallest).sort().values[:at_least][-1])
        chosen = self.vectors[torch.as_tensor(np.flatnonzero(kept))]
        return _Shard(chosen, self.hashes[kept], self.seed, self.device, self.precision)

    def first(self, count):
        """Return ``count`` vectors drawn at random."""
        import torch

        keys = keyed_bits(self.seed, self.hashes, purpose("k-means start")) >> np.uint64(1)
        places = np.argsort(keys)[:count]
        return self.take(places, torch.as_tensor(keys[places].astype(np.int64)), count)

    def plus_plus(self, count):
        """Return ``count`` vectors drawn by k-means++.

        The smallest of -ln(u_i) / w_i, with u_i uniform, is vector i with probability w_i / sum w: a draw
        that does not depend on how the vectors are divided. On the sphere the squared distance is 2 (1 -
        cos).
        """
        import torch

        centroids, nearest = self.first(1), torch.full((self.count,), -1.0)
        while len(centroids) < count:
            for part in self.chunks():
                cosines = self.unit(self.vectors[part]) @ centroids[-1]
                nearest[part] = torch.maximum(nearest[part], cosines.cpu())
            weights = (1 - nearest.double()).clamp_min(1e-12)
            draws = keyed_uniform(self.seed, self.hashes, purpose("k-means++"), len(centroids))
            keys = -torch.log1p(-torch.as_tensor(draws)) / weights
            place = keys.argmin().reshape(1) if self.count else torch.zeros(0, dtype=torch.int64)
            centroids = torch.cat([centroids, self.take(place, keys[place], 1)])
        return centroids

    # The two steps of an iteration.
    def chunks(self):
        return [slice(start, min(start + _CHUNK, self.count)) for start in range(0, self.count, _CHUNK)]

    def unit(self, rows):
        """Return rows on the device, in float32, scaled to unit length."""
        import torch

        return torch.nn.functional.normalize(rows.to(self.device, torch.float32), eps=1e-30)

    def nearest(self, centroids, count):
        """Return the ``count`` nearest centroids of each vector, and the cosines, on the CPU."""
        import torch

        transposed = centroids.to(self.dtype).T
        step = max(64, _SCORES.get(self.device.type, 32 << 20) // len(centroids))
        indices = torch.empty((self.count, count), dtype=torch.int64)
        cosines = torch.empty((self.count, count), dtype=torch.float32)
        for part in self.chunks():
            unit = self.unit(self.vectors[part])
            low, best = unit.to(self.dtype), []
            for start in range(0, len(unit), step):
                scores = low[start : start + step] @ transposed
                best.append(scores.max(1).indices[:, None] if count == 1 else scores.topk(count).indices)
            found = torch.cat(best)
            indices[part] = found.cpu()
            # Cosines in float32, whatever decided.
            for column in range(count):
                cosines[part, column] = (unit * centroids[found[:, column]]).sum(1).cpu()
        return indices, cosines

    def assign(self, centroids):
        indices, cosines = self.nearest(centroids, 1)
        return indices[:, 0], cosines[:, 0]

    def mean(self, similarities):
        import torch

        pair = torch.tensor([similarities.double().sum(), float(self.count)], dtype=torch.float64)
        total, count = self.reduce(pair).tolist()
        return total / count

    def update(self, centroids, labels, similarities):
        """Return the directions of the sums of the vectors of each centroid."""
        import torch

        number = len(centroids)
        sums, counts = torch.zeros_like(centroids), torch.zeros(number, device=self.device)
        for part in self.chunks():
            # A sum over sorted rows: adding at indices is in no fixed order on a GPU.
            own, order = labels[part].to(self.device).sort(stable=True)
            lengths = torch.bincount(own, minlength=number)
            rows = self.unit(self.vectors[part])[order]
            sums += torch.segment_reduce(rows, "sum", lengths=lengths, axis=0, initial=0)
            counts += lengths
        sums, counts = self.reduce(sums), self.reduce(counts)
        norms = sums.norm(dim=1)
        empty = ((counts == 0) | (norms == 0)).nonzero()[:, 0]
        if len(empty):
            sums[empty] = self.farthest(similarities, len(empty))
        return torch.nn.functional.normalize(sums, eps=1e-30)

    def farthest(self, similarities, count):
        """Return the ``count`` vectors that are farthest from their centroids."""
        import torch

        # One key that orders by cosine, then by hash: 31 bits of the first, 32 of the second.
        level = ((similarities.double().clamp(-1, 1) + 1) * 2**29).round().to(torch.int64)
        keys = (level << 32) | torch.as_tensor((self.hashes >> np.uint64(32)).astype(np.int64))
        places = torch.argsort(keys, stable=True)[:count]
        return self.take(places, keys[places], count)
