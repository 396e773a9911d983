"""The k nearest neighbours as a probe: do utterances lie beside their own kind? Nothing is trained."""

import numpy as np

from .vectors import normalise_length

_BLOCK_CELLS = 4 << 20


def knn_accuracy(vectors: np.ndarray, labels: np.ndarray, k: int = 10) -> float:
    """Return the share of vectors whose k nearest others, by cosine, elect their label; leave-one-out.

    The label with most of the k votes wins; among equals, the one whose voters have the greater sum of
    cosines. Where fewer than k others are there, all vote. A vector whose label no other has cannot be right:
    it votes and is not judged.

    Args:
        vectors: (N, D) finite; they are scaled to unit length here.
        labels: (N,) of any kind that can be sorted.
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
    """Return the label (R,) that the k nearest of each row elect; cosines (R, N) are overwritten."""
    places = np.arange(len(rows))
    cosines[places, rows] = -np.inf  # nobody votes for himself
    nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    votes = np.zeros((len(rows), num_labels))
    # All cosines together weigh less than half a vote: they only decide between equals.
    weights = 1 + np.take_along_axis(cosines, nearest, axis=1) / (4 * k)
    np.add.at(votes, (places[:, None], labels[nearest]), weights)
    return votes.argmax(axis=1)
