"""Within-class covariance normalisation (Hatch, Kajarekar and Stolcke 2006), with augmented crops of one
utterance as a class: what tells them apart is noise, room and words, and no label is needed.
"""

import numpy as np

from .vectors import group_means, scatter_within


def within_class_covariance(vectors: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the pooled covariance within classes (D, D), with N vectors x of C classes with means m:

        W = sum_i (x_i - m_class(i)) (x_i - m_class(i))' / (N - C)

    which is unbiased: each class mean costs one vector. (Kaldi's LDA divides by N.)

    Args:
        vectors: (N, D).
        classes: (N,) ints from 0 to C - 1, none empty.

    Raises:
        ValueError: no class of two vectors or more.
    """
    means, members = group_means(vectors, classes, int(np.max(classes)) + 1)
    if len(vectors) == len(means):
        raise ValueError("every class has one vector: nothing varies within a class")
    return scatter_within(vectors, classes, means) / (len(vectors) - len(means))


def estimate_wccn(vectors: np.ndarray, classes: np.ndarray, shrinkage: float = 0.1) -> np.ndarray:
    """Return the transform (D, D) after which the covariance within classes is the unit matrix.

    W (:func:`within_class_covariance`) is first shrunk towards a multiple of the unit matrix with the same
    trace, which bounds the inverse where crops hardly vary:

        W_s = (1 - shrinkage) W + shrinkage tr(W) / D I,     transform = L'  with  L L' = W_s^-1.

    The transform is applied as x -> L' (x - mean). A cosine after it does not depend on which square root of
    W_s^-1 is taken.

    Args:
        vectors: (N, D).
        classes: (N,) ints from 0 to C - 1, none empty.
        shrinkage: from 0 (none) to 1 (a multiple of the unit matrix).

    Raises:
        ValueError: nothing varies within a class, or, without shrinkage, not in every direction.
    """
    if not 0.0 <= shrinkage <= 1.0:
        raise ValueError(f"shrinkage is a share from 0 to 1, not {shrinkage:g}")
    within = within_class_covariance(vectors, classes)
    dim = len(within)
    level = np.trace(within) / dim
    # Rounding of single-precision embeddings alone causes a variance of this order.
    if level <= (np.finfo(np.float32).eps * np.abs(vectors).max()) ** 2:
        raise ValueError("the vectors of a class are all equal: nothing varies within a class")
    within = (1.0 - shrinkage) * within + shrinkage * level * np.eye(dim)
    variance, directions = np.linalg.eigh(within)
    if variance[0] <= np.finfo(np.float64).eps * dim * variance[-1]:
        raise ValueError(
            f"within classes, the vectors vary in fewer than their {dim} dimensions: give more classes, or a "
            "shrinkage above 0"
        )
    return np.linalg.cholesky((directions / variance) @ directions.T).T
