"""Linear discriminant analysis as Kaldi's ``ivector-compute-lda`` defines it
(``src/ivectorbin/ivector-compute-lda.cc``).
"""

import numpy as np

from .vectors import group_means, scatter_within


def estimate_lda(
    vectors: np.ndarray,
    classes: np.ndarray,
    dim: int,
    total_covariance_factor: float = 0.0,
    covariance_floor: float = 1e-6,
) -> np.ndarray:
    """Estimate the affine transform to the ``dim`` directions that discriminate best between the classes,
    with unit within-class covariance.

    With mu the mean of all N vectors, x = vector - mu and m_s the mean of the n_s vectors of class s (after
    subtracting mu),

        T = sum_i x_i x_i' / N,     B = sum_s n_s m_s m_s' / N,     W = T - B,     M = f T + (1 - f) W

    (W is computed as the scatter around the class means, M as W + f B, which are the same).

    M = U diag(s) U' gives the whitening P = diag(max(s, floor max(s)))^-1/2 U'; the rows of the result are
    the leading eigenvectors of P B P' times P, and its last column is -A mu, which maps the mean of the
    training vectors to zero. Note that W is divided by N, not by N less the number of classes. All in
    float64.

    Args:
        vectors: (N, D).
        classes: (N,) ints from 0 to S - 1, none of them empty.
        dim: d, directions to keep, at most D; only S - 1 of them can discriminate between classes.
        total_covariance_factor: f, between 0 (plain LDA) and 1.
        covariance_floor: floor of the eigenvalues of M, relative to the largest.

    Returns:
        (d, D + 1) float64, rows by falling between-class variance. The sign of a row is arbitrary.
    """
    count, full_dim = vectors.shape
    if not 0 < dim <= full_dim:
        raise ValueError(f"an LDA dimension of {dim} does not fit vectors of dimension {full_dim}")
    class_means, members = group_means(vectors, classes, int(np.max(classes)) + 1)
    within = scatter_within(vectors, classes, class_means) / count
    mean = members @ class_means / count
    class_means -= mean
    between = (class_means * members[:, None]).T @ class_means / count
    mixed = within + total_covariance_factor * between
    variance, directions = np.linalg.eigh(mixed)
    whitening = (directions / np.sqrt(np.maximum(variance, covariance_floor * variance.max()))).T
    _, rotation = np.linalg.eigh(whitening @ between @ whitening.T)  # eigenvalues rise, so the best are last
    linear = rotation[:, ::-1][:, :dim].T @ whitening
    return np.hstack([linear, -(linear @ mean)[:, None]])
