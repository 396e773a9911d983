"""Nearest neighbours by an inner product: exact in blocks, or among the members of the nearest cells."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_BLOCK_CELLS = 16 << 20
_GROUP = 64


@dataclass(frozen=True)
class Cells:
    """A partition of N vectors, and where to look for the neighbours of each (an inverted file: Sivic and
    Zisserman 2003, "Video Google"; Jégou et al. 2011, "Product quantization for nearest neighbor search").

    Attributes:
        labels: (N,) int64, the cell of each vector.
        probes: (N, P) ints, the cells in which its neighbours are sought, nearest first.
        count: number of cells.
    """

    labels: np.ndarray
    probes: np.ndarray
    count: int


def make_cells(vectors: np.ndarray, seed: int, hashes: np.ndarray, num_cells: int, num_probes: int) -> Cells:
    """Partition vectors (N, D) by spherical k-means (:func:`~.kmeans.kmeans`, on 64 vectors a cell) for
    :func:`nearest_neighbours`.

    A search then costs about 2 N^2 D num_probes / num_cells operations, and the partition 2 N num_cells D an
    iteration; num_cells = 4 sqrt(N) balances the two for 16 probes.
    """
    from .kmeans import kmeans, nearest_centroids

    centroids = kmeans(
        vectors, num_cells, seed, hashes, num_iterations=8, max_points_per_centroid=64, sharded=False
    ).centroids
    probes, _ = nearest_centroids(vectors, centroids, min(num_probes, num_cells))
    return Cells(probes[:, 0].astype(np.int64), probes, num_cells)


def nearest_neighbours(
    left: np.ndarray, right: np.ndarray, k: int, cells: Cells | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest other vectors of each vector, by similarity left[i] @ right[j].

    With unit vectors on both sides the similarity is the cosine; with the comparison features of a PLDA model
    (:meth:`~pydino.backend.Plda.comparison_features`) it is the log-likelihood ratio. The products are
    computed in the type of the arrays; float32 is enough for ranks.

    Exact without ``cells``: 2 N^2 K operations, in blocks of 64 MB (float32); meant for N up to about
    100,000. With them, only vectors of the cells that are probed are compared; a vector with fewer than k of
    these has the places that are left over filled with -1.

    Equal similarities are ordered by index. The result depends neither on block sizes nor on the order of the
    cells, but for rounding of the products.

    Args:
        left, right: (N, K), of the same N vectors.
        k: number of neighbours, 1 to N - 1.
        cells: where to search.

    Returns:
        (N, k) int64 indices, the nearest first, and (N, k) similarities (-inf where the index is -1).
    """
    if len(left) != len(right):
        raise ValueError(f"{len(left)} vectors on the left, {len(right)} on the right")
    count = len(left)
    if not 1 <= k < count:
        raise ValueError(f"{k} neighbours of {count} vectors; possible are 1 to {count - 1}")
    found = np.full((count, k), -1, dtype=np.int64)
    similarities = np.full((count, k), -np.inf, dtype=np.result_type(left, right))
    if cells is None:
        everything = np.arange(count)
        step = max(1, _BLOCK_CELLS // count)
        for start in range(0, count, step):
            rows = everything[start : start + step]
            found[rows], similarities[rows] = _best(left[rows], rows, right, everything, k)
        return found, similarities
    members = _lists(cells.labels, cells.count)
    probers = _lists(cells.probes.ravel(), cells.count)
    for cell in range(cells.count):
        columns = members[cell]
        queries = probers[cell] // cells.probes.shape[1]
        if not len(columns):
            continue
        inside = right[columns]
        step = max(1, _BLOCK_CELLS // len(columns))
        for start in range(0, len(queries), step):
            rows = queries[start : start + step]
            new = _best(left[rows], rows, inside, columns, min(k, len(columns)))
            indices = np.hstack([found[rows], new[0]])
            values = np.hstack([similarities[rows], new[1]])
            order = np.lexsort((indices, -values))[:, :k]
            found[rows] = np.take_along_axis(indices, order, axis=1)
            similarities[rows] = np.take_along_axis(values, order, axis=1)
    return found, similarities


def _best(left, rows, right, columns, k):
    """Return the k nearest of ``columns`` (ascending indices of ``right``) for each of ``rows`` but itself.

    The k-th largest of the maxima of groups of columns is a lower bound of the k-th largest similarity. Only
    what reaches it is sorted, so that ties are decided by index at no cost.
    """
    similarities = left @ right.T
    place = np.searchsorted(columns, rows)
    place[place == len(columns)] = 0
    own = columns[place] == rows
    similarities[np.flatnonzero(own), place[own]] = -np.inf
    width = similarities.shape[1]
    groups = max(k, width // _GROUP)
    if groups < width // 2:
        whole = width // groups * groups
        # A group is every groups-th column: near vectors often stand side by side, and would share a group.
        maxima = similarities[:, :whole].reshape(len(rows), -1, groups).max(axis=1)
        bound = np.partition(maxima, groups - k, axis=1)[:, groups - k]
    else:
        bound = np.partition(similarities, width - k, axis=1)[:, width - k]
    row, column = np.nonzero(similarities >= bound[:, None])
    values = similarities[row, column]
    order = np.lexsort((column, -values, row))
    first = np.searchsorted(row, np.arange(len(rows)))
    chosen = order[first[:, None] + np.arange(k)]
    indices, values = columns[column[chosen]], values[chosen]
    return np.where(np.isneginf(values), -1, indices), values


def _lists(labels, count):
    """Return the places of each of ``count`` labels, ascending."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.cumsum(np.bincount(labels, minlength=count))[:-1])


def mutual_neighbours(indices: np.ndarray, similarities: np.ndarray) -> "csr_array":
    """Return the graph of mutual neighbours: i and j are joined if each is among the k nearest of the other.

    Args:
        indices: (N, k) from :func:`nearest_neighbours`; -1 is no neighbour.
        similarities: (N, k); the weight of an edge is the mean of its two.

    Returns:
        (N, N) symmetric float64, columns ascending within a row. A similarity of 0 is stored as any other.
    """
    from scipy.sparse import csr_array

    count, k = indices.shape
    kept = indices.ravel() >= 0
    row = np.repeat(np.arange(count), k)[kept]
    column = indices.ravel()[kept].astype(np.int64)
    weight = similarities.ravel()[kept].astype(np.float64)
    forward = row * count + column
    order, reverse = np.argsort(forward), np.argsort(column * count + row)
    # The edges (j, i) sorted by (i, j) stand beside the edges (i, j), where both exist.
    edges, there, back = np.intersect1d(
        forward[order], (column * count + row)[reverse], assume_unique=True, return_indices=True
    )
    weights = (weight[order[there]] + weight[reverse[back]]) / 2
    row, column = np.divmod(edges, count)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=count))])
    return csr_array((weights, column, starts), shape=(count, count))


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Return the share of the exact neighbours (N, k) that are among the neighbours found (N, k)."""
    base = np.int64(max(found.max(), exact.max()) + 2)
    rows = np.arange(len(exact))[:, None] * base
    return float(np.isin(rows + exact, rows + found).mean())
