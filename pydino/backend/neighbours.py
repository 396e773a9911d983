"""k-nearest-neighbour classification as a probe, without training."""

import numpy as np

from .vectors import normalise_length

_BLOCK_CELLS = 4 << 20


def knn_accuracy(vectors: np.ndarray, labels: np.ndarray, k: int = 10) -> float:
    """Return the leave-one-out accuracy of the majority label of the k nearest neighbours by cosine.

    Ties go to the label with the larger sum of cosines. With fewer than k other vectors, all vote. A vector
    whose label is unique cannot be classified correctly: it votes but is not counted.

    Args:
        vectors: (N, D) finite; they are scaled to unit length here.
        labels: (N,) of any sortable type.
        k: number of neighbours.

    Raises:
        ValueError: no two vectors have the same label.
    """
    unit = normalise_length(vectors, scale_up=False)
    _, labels, members = np.unique(labels, return_inverse=True, return_counts=True)
    judged = members[labels] > 1
    if not judged.any():
        raise ValueError("no two vectors have the same label")
    k = min(k, len(unit) - 1)
    right = 0
    step = max(1, _BLOCK_CELLS // max(len(unit), len(members)))
    for start in range(0, len(unit), step):
        rows = np.arange(start, min(start + step, len(unit)))
        elected = _elect(unit[rows] @ unit.T, rows, labels, len(members), k)
        right += np.count_nonzero((elected == labels[rows])[judged[rows]])
    return right / np.count_nonzero(judged)


def _elect(cosines: np.ndarray, rows: np.ndarray, labels: np.ndarray, num_labels: int, k: int) -> np.ndarray:
    """Return the majority label (R,) of the k nearest neighbours of each row; overwrites cosines (R, N)."""
    places = np.arange(len(rows))
    cosines[places, rows] = -np.inf  # no vote for itself
    nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    votes = np.zeros((len(rows), num_labels))
    # All cosines together weigh less than half a vote: they only break ties.
    weights = 1 + np.take_along_axis(cosines, nearest, axis=1) / (4 * k)
    np.add.at(votes, (places[:, None], labels[nearest]), weights)
    return votes.argmax(axis=1)
