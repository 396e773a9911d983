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

from .shard import Shard

if TYPE_CHECKING:
    import torch

_FULL_ITERATIONS = 1  # that are never among candidates only
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class KMeans:
    """The result of :func:`kmeans`.

    Attributes:
        centroids: (K, D) float32 of unit length, the same on all processes.
        labels: (n,) int64, the nearest centroid (among the candidates) of each vector of this process's
            shard.
        similarities: (n,) float32, the cosine with it.
        objective: mean cosine of the vectors that were trained on with their centroids, at the start and
            after each iteration.
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
    num_candidates: int | None = None,
    plus_plus: bool = False,
    device: str = "cpu",
    precision: str = "auto",
    sharded: bool = True,
) -> KMeans:
    """Cluster vectors by direction.

    The first centroids are vectors drawn by their hashes. Where torch.distributed is initialised, every
    process of the default group calls this with its shard, unless ``sharded`` is False. Draws depend on seed
    and hashes only: the result is, up to rounding, the same for any number of processes, and exactly the same
    for the same shards.

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
        num_candidates: from the second iteration on, compare a vector only with so many centroids, those
            nearest to its own centroid (k^2-means: Agustsson, Timofte and Van Gool 2017), which takes
            K / num_candidates times fewer operations; the objective still rises in each iteration. After a
            centroid was put elsewhere, all are compared once. For many centroids on a CPU.
        plus_plus: k-means++ (Arthur and Vassilvitskii 2007): draw each centroid with probability proportional
            to the squared distance from those before; K passes over the vectors, so for a small K.
        device: where products are computed; the vectors may be on the CPU, and are then copied in chunks.
        precision: of the cosines that decide the assignment. auto is bfloat16 on a GPU, float32 on a CPU;
            some CPUs are several times faster with bfloat16. Sums are float32 in any case.
        sharded: False: the vectors are all there are, whatever other processes do.

    Raises:
        ValueError: more clusters than vectors, or hashes that are not one a vector.
    """
    import torch

    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision '{precision}'; it is one of {', '.join(PRECISIONS)}")
    if len(hashes) != len(vectors):
        raise ValueError(f"{len(vectors)} vectors have {len(hashes)} hashes")
    shard = Shard(torch.as_tensor(vectors), np.asarray(hashes, np.uint64), seed, device, precision, sharded)
    total = int(shard.reduce(torch.tensor([shard.count], dtype=torch.float64))[0])
    if not 1 <= num_clusters <= total:
        raise ValueError(f"{num_clusters} clusters of {total} vectors; possible are 1 to {total}")
    sample = shard
    if max_points_per_centroid is not None and num_clusters * max_points_per_centroid < total:
        sample = shard.draw(num_clusters * max_points_per_centroid / total, num_clusters)
    centroids = (sample.plus_plus if plus_plus else sample.first)(num_clusters)
    labels, similarities = sample.assign(centroids)
    objective = [sample.mean(similarities)]
    for iteration in range(num_iterations):
        centroids, moved = sample.update(centroids, labels, similarities)
        # Neighbours of the first centroids, which are single vectors, would be a poor choice.
        wide = iteration < _FULL_ITERATIONS or moved
        if num_candidates is None or num_candidates >= num_clusters or wide:
            labels, similarities = sample.assign(centroids)
        else:
            labels, similarities = sample.assign_near(centroids, labels, num_candidates)
        objective.append(sample.mean(similarities))
        if objective[-1] - objective[-2] <= tolerance * (1 - objective[-1]):
            break
    if sample is not shard:
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

    shard = Shard(torch.as_tensor(vectors), None, 0, device, precision)
    indices, cosines = shard.nearest(torch.as_tensor(centroids).to(device, torch.float32), count)
    return indices.numpy(), cosines.numpy()
