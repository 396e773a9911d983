"""Cosine scoring, and the scoring of many trials at once."""

import numpy as np

from .vectors import group_means, normalise_length

# A cell of a matrix product costs about this fraction of gathering two rows for one trial.
_CELLS_PER_GATHERED_TRIAL = 32
_BLOCK_BYTES = 64 << 20


def cosine_features(models: np.ndarray, tests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale models (E, D) and tests (T, D) to unit length: the cosine of e and t is then left[e] @ right[t].

    The cosine of a zero vector with any other is 0.
    """
    return normalise_length(models, scale_up=False), normalise_length(tests, scale_up=False)


def mean_of_crops(crops: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Return the mean of the crops of each group, every crop at unit length: (count, D).

    The inner product of two such means is the mean, over all pairs of a crop of the one and a crop of the
    other, of their cosines: averaging scores costs no more than averaging vectors.

    Args:
        crops: (N, D); groups: (N,) ints in [0, count), none empty.
    """
    return group_means(normalise_length(crops, scale_up=False), groups, count)[0]


def score_pairs(left: np.ndarray, right: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the inner products left[rows[k]] @ right[columns[k]] for many pairs k.

    Whole blocks of the matrix left @ right' are computed where the pairs are dense (a matrix product is far
    faster per cell than gathering two rows per pair), and single products where they are sparse.

    Args:
        left: (E, K); right: (T, K).
        rows, columns: (N,) ints.

    Returns:
        (N,) float64 scores in the order of the pairs.
    """
    scores = np.empty(len(rows))
    if len(left) * len(right) > _CELLS_PER_GATHERED_TRIAL * len(rows):
        step = max(1, _BLOCK_BYTES // (16 * left.shape[1]))
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            scores[part] = np.einsum("nk,nk->n", left[rows[part]], right[columns[part]])
        return scores
    step = max(1, _BLOCK_BYTES // (8 * max(1, len(right))))
    order = np.argsort(rows, kind="stable") if np.any(rows[1:] < rows[:-1]) else None
    sorted_rows = rows if order is None else rows[order]
    starts = np.arange(0, len(left), step)
    # in the type of the rows: with another, every search would make a copy of them
    firsts = np.append(np.searchsorted(sorted_rows, starts.astype(rows.dtype)), len(rows))
    for start, first, last in zip(starts.tolist(), firsts[:-1].tolist(), firsts[1:].tolist(), strict=True):
        block = left[start : start + step] @ right.T
        pairs = slice(first, last) if order is None else order[first:last]
        scores[pairs] = block[sorted_rows[first:last] - start, columns[pairs]]
    return scores
