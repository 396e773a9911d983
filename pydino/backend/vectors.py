"""Operations on single vectors: means, length normalisation, affine transforms. Arrays in, arrays out."""

import numpy as np

_BLOCK_ROWS = 1 << 16  # of float32 vectors at a time in double precision


def group_means(vectors: np.ndarray, groups: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the number of the vectors of each group (Kaldi's ``ivector-mean``,
    ``num_utts``).

    Args:
        vectors: (N, D).
        groups: (N,) ints in [0, count); every group must have a member.
        count: number of groups G.

    Returns:
        (G, D) float64 means and (G,) int64 counts.
    """
    sums = np.zeros((count, vectors.shape[1]))
    for start in range(0, len(vectors), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        np.add.at(sums, groups[part], np.asarray(vectors[part], dtype=np.float64))
    members = np.bincount(groups, minlength=count)
    if not members.all():
        raise ValueError(f"group {int(np.argmin(members))} has no vector")
    return sums / members[:, None], members


def scatter_within(vectors: np.ndarray, groups: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return the scatter of vectors (N, D) around the means (G, D) of their groups (N,): sum over i of
    (x_i - m_i)(x_i - m_i)', (D, D) float64.
    """
    scatter = np.zeros((means.shape[1], means.shape[1]))
    for start in range(0, len(vectors), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        spread = vectors[part] - means[groups[part]]
        scatter += spread.T @ spread
    return scatter


def normalise_length(vectors: np.ndarray, scale_up: bool = True) -> np.ndarray:
    """Scale each row to the length sqrt(D), or to 1 (Kaldi's ``ivector-normalize-length [--scaleup=false]``).

    Args:
        vectors: (N, D). A row of zeros is kept.
        scale_up: True for length sqrt(D), the length of a standard normal vector; False for unit length.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    target = np.sqrt(vectors.shape[1]) if scale_up else 1.0
    return vectors * np.where(length > 0, target / np.where(length > 0, length, 1.0), 1.0)


def apply_affine(transform: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Apply a Kaldi transform (d, D) or, with the offset in the last column, (d, D + 1) to each row of
    ``vectors`` (N, D).
    """
    transform, vectors = np.asarray(transform, dtype=np.float64), np.asarray(vectors, dtype=np.float64)
    dim = vectors.shape[1]
    if transform.shape[1] not in (dim, dim + 1):
        raise ValueError(
            f"a transform of {transform.shape[1]} columns does not fit vectors of dimension {dim}"
        )
    out = vectors @ transform[:, :dim].T
    return out + transform[:, dim] if transform.shape[1] == dim + 1 else out
