"""Agglomerative clustering (AHC) by nearest-neighbour chains, of vectors or of clusters that another
algorithm has found.

The mean over all pairs of members of two clusters of an inner product left[i] @ right[j] is the inner product
of the means of left and right. So average link of *all utterances*, begun at the clusters of k-means, needs
nothing but the means and sizes of these clusters. This holds for the cosine, and as well for the
log-likelihood ratio of PLDA, which is an inner product of features of the two vectors.
"""

import numpy as np

from .numbering import number_clusters

_CHUNK = 1 << 16


def average_link(
    left: np.ndarray,
    right: np.ndarray,
    *,
    threshold: float | None = None,
    num_clusters: int | None = None,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Merge the two clusters whose members are most similar on average, again and again (UPGMA; Sokal and
    Michener 1958).

    The similarity of vectors i and j is the mean of left[i] @ right[j] and left[j] @ right[i]; of two
    clusters its mean over all pairs with one member in each. With unit vectors on both sides it is the
    cosine; with ``Plda.comparison_features(y, 1, y)`` of projected vectors y the log-likelihood ratio in
    nats. Time K^2, memory 4 K^2 bytes for K clusters at the start (2.5 GB for 25,000).

    Args:
        left, right: (N, F), of the same N vectors.
        threshold: merge while the mean similarity is at least this.
        num_clusters: or until so many clusters are left.
        start: (N,) ints from 0 to K - 1, none empty: the clusters to begin with; without, each
            vector is one.

    Returns:
        (N,) int64 labels in [0, C), numbered by first member. Between equal similarities the order of the
        vectors decides.
    """
    start = np.arange(len(left)) if start is None else np.asarray(start)
    count = _check(left, start, threshold, num_clusters)
    left_means, sizes = _means(left, start, count)
    right_means = left_means if right is left else _means(right, start, count)[0]
    similarity = left_means @ right_means.T
    if right is not left:
        _symmetrise(similarity)

    def join(first, second, between, sizes):
        weight = sizes[first] / (sizes[first] + sizes[second])
        return weight * similarity[first] + (1 - weight) * similarity[second]

    merges = _chain(similarity, sizes, join)
    return number_clusters(_cut(merges, count, threshold, num_clusters)[start])


def ward(
    vectors: np.ndarray,
    *,
    threshold: float | None = None,
    num_clusters: int | None = None,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Merge the two clusters whose union adds least to the sum of squared distances from the means (Ward
    1963).

    For means a, b of n and m vectors that is n m / (n + m) |a - b|^2; merging goes on by the formula of Lance
    and Williams (1967). Time and memory as :func:`average_link`.

    Args:
        vectors: (N, D); of unit length, for directions.
        threshold: merge while sqrt(2 n m / (n + m)) |a - b|, the distance of two vectors if n = m = 1, is at
            most this (the scale of scipy and scikit-learn).
        num_clusters: or until so many clusters are left.
        start: (N,) ints from 0 to K - 1, none empty: the clusters to begin with.

    Returns:
        (N,) int64 labels in [0, C), numbered by first member.
    """
    start = np.arange(len(vectors)) if start is None else np.asarray(start)
    count = _check(vectors, start, threshold, num_clusters)
    means, sizes = _means(vectors, start, count)
    means -= means.mean(axis=0)  # smaller numbers, smaller rounding
    # Minus twice the increase: the similarity whose largest value is merged.
    similarity = means @ means.T
    energy = np.diag(similarity).copy()
    similarity *= 2
    similarity -= energy
    similarity -= energy[:, None]
    for row, size in enumerate(sizes):
        similarity[row] *= 2 * size * sizes / (size + sizes)
    np.minimum(similarity, 0, out=similarity)

    def join(first, second, between, sizes):
        n, m = sizes[first], sizes[second]
        return ((n + sizes) * similarity[first] + (m + sizes) * similarity[second] - sizes * between) / (
            n + m + sizes
        )

    merges = _chain(similarity, sizes, join)
    limit = None if threshold is None else -(threshold**2)
    return number_clusters(_cut(merges, count, limit, num_clusters)[start])


def kmeans_average_link(
    vectors: np.ndarray,
    num_centroids: int,
    seed: int,
    hashes: np.ndarray,
    *,
    threshold: float | None = None,
    num_clusters: int | None = None,
    features: tuple[np.ndarray, np.ndarray] | None = None,
    **options,
) -> np.ndarray:
    """Cluster in two levels: spherical k-means, then average link begun at its clusters.

    The form of the published systems for VoxCeleb2: N / 4 or 50,000 centroids, then AHC of them to a
    threshold or 7,500 clusters (Thienpondt et al. 2020; hyperion's ``cos_ahc_plda_ahc``). Departure: there a
    centroid counts once in the averages; here as many times as it has members, so that they are averages over
    utterances.

    Args:
        vectors: (N, D) float32.
        num_centroids: K of k-means; the second level needs 4 K^2 bytes.
        seed, hashes, options: as in :func:`~.kmeans.kmeans`.
        threshold, num_clusters: as in :func:`average_link`, for cosines or what ``features`` give.
        features: left and right (N, F) of :func:`average_link`, for a similarity other than the cosine.

    Returns:
        (N,) int64 labels in [0, C), numbered by first member.
    """
    from .kmeans import kmeans

    start = number_clusters(kmeans(vectors, num_centroids, seed, hashes, **options).labels)
    if features is None:
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = vectors / np.where(norms > 0, norms, 1)
        features = unit, unit
    return average_link(*features, threshold=threshold, num_clusters=num_clusters, start=start)


def _check(vectors, start, threshold, num_clusters):
    """Return the number of clusters to begin with."""
    if (threshold is None) == (num_clusters is None):
        raise ValueError("say where to stop: a threshold or a number of clusters, one of the two")
    if len(start) != len(vectors):
        raise ValueError(f"{len(vectors)} vectors have {len(start)} labels to begin with")
    count = int(start.max()) + 1 if len(start) else 0
    if num_clusters is not None and not 1 <= num_clusters <= count:
        raise ValueError(f"{num_clusters} clusters of {count}; possible are 1 to {count}")
    return count


def _means(vectors, labels, count):
    """Return float32 means (K, F), summed in float64 a chunk at a time, and float32 sizes (K,)."""
    from scipy.sparse import csr_array

    sizes = np.bincount(labels, minlength=count)
    if not sizes.all():
        raise ValueError(f"cluster {int(np.argmin(sizes))} has no vector to begin with")
    sums = np.zeros((count, vectors.shape[1]))
    for first in range(0, len(vectors), _CHUNK):
        part = labels[first : first + _CHUNK]
        own, place = np.unique(part, return_inverse=True)
        members = csr_array((np.ones(len(part)), (place, np.arange(len(part)))), shape=(len(own), len(part)))
        sums[own] += members @ np.asarray(vectors[first : first + _CHUNK], dtype=np.float64)
    return (sums / sizes[:, None]).astype(np.float32), sizes.astype(np.float32)


def _symmetrise(matrix):
    """Average with the transpose, in place, in blocks."""
    step = 1024
    for i in range(0, len(matrix), step):
        for j in range(i, len(matrix), step):
            mean = (matrix[i : i + step, j : j + step] + matrix[j : j + step, i : i + step].T) / 2
            matrix[i : i + step, j : j + step] = mean
            matrix[j : j + step, i : i + step] = mean.T


def _chain(similarity, sizes, join):
    """Return all K - 1 merges of a reducible linkage: (K - 1, 2) members of the two clusters, and the
    (K - 1,) similarities at which they merge.

    Follow nearest neighbours until two are each other's nearest, merge these, go on from what is left of the
    chain (Murtagh 1983; Müllner 2011, "Modern hierarchical, agglomerative clustering algorithms"). The merges
    are those of the greedy order, found in another. ``similarity`` and ``sizes`` are overwritten: the row of
    the second cluster becomes that of the union.
    """
    count = len(similarity)
    np.fill_diagonal(similarity, -np.inf)
    sizes = sizes.copy()
    alive = np.ones(count, dtype=bool)
    pairs, heights, chain, lowest = np.empty((count - 1, 2), np.int64), np.empty(count - 1), [], 0
    for step in range(count - 1):
        if not chain:
            while not alive[lowest]:
                lowest += 1
            chain = [lowest]
        while True:
            row = similarity[chain[-1]]
            nearest = int(row.argmax())
            # Among equals the one before in the chain, or the chain would never end.
            if len(chain) > 1 and row[chain[-2]] >= row[nearest]:
                break
            chain.append(nearest)
        second, first = chain.pop(), chain.pop()
        between = similarity[first, second]
        pairs[step], heights[step] = (first, second), between
        union = join(first, second, between, sizes)
        sizes[second] += sizes[first]
        alive[first] = False
        union[~alive] = union[second] = -np.inf
        similarity[second] = similarity[:, second] = union
        similarity[:, first] = -np.inf
    return pairs, heights


def _cut(merges, count, threshold, num_clusters):
    """Return the labels (K,) after the merges at or above the threshold, or the first K - C of them."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs, heights = merges
    if threshold is not None:
        pairs = pairs[heights >= threshold]
    else:
        pairs = pairs[np.argsort(-heights, kind="stable")[: count - num_clusters]]
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]
