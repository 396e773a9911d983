"""Training of PLDA by expectation maximisation: the two-covariance model as Kaldi trains it
(``src/ivector/plda.cc``), and simplified PLDA, whose between-class covariance has a limited rank.

Work is done in the basis in which both covariances are diagonal: there the posterior of every class is a
product of scalars, so an iteration is three matrix products over the class means and one eigenvalue
decomposition, 4 C D^2 + O(D^3) operations, whatever the sizes of the classes. (Kaldi's program inverts a
matrix for each size and updates matrices class by class.)
"""

import numpy as np

from .plda import Plda, diagonalise
from .vectors import group_means, scatter_within

_BLOCK_ROWS = 1 << 15


def train_plda(vectors: np.ndarray, classes: np.ndarray, num_em_iterations: int = 10) -> Plda:
    """Fit a two-covariance PLDA model (``ivector-compute-plda``).

    Both covariances start at the unit matrix. With S the scatter within classes, n and m the size and mean of
    a class (after subtracting the mean of the class means), an iteration is, summed over classes,

        V = (B^-1 + n W^-1)^-1,   w = V n W^-1 m,
        B <- sum (V + w w') / C,  W <- (S + sum n (V + (m - w)(m - w)')) / N.

    Where W is the unit matrix and B = diag(psi), V = diag(psi / (1 + n psi)) and w = n psi / (1 + n psi) m.
    Classes of a single vector are included.

    Args:
        vectors: (N, D), N above D.
        classes: (N,) ints from 0 to C - 1, none empty, at least one with two members.
    """
    mean, means, members, scatter = _statistics(vectors, classes)
    count, dim = len(vectors), len(mean)
    if count <= dim:
        raise ValueError(f"PLDA of dimension {dim} needs more than {dim} vectors, got {count}")
    model = Plda(mean, np.eye(dim), np.ones(dim))
    for _ in range(num_em_iterations):
        between, within = np.zeros((dim, dim)), np.zeros((dim, dim))
        for start in range(0, len(means), _BLOCK_ROWS):
            n = members[start : start + _BLOCK_ROWS, None].astype(np.float64)
            projected = means[start : start + _BLOCK_ROWS] @ model.transform.T
            left_over = 1.0 / (1.0 + n * model.psi)  # share of the mean that is not y
            variance = model.psi * left_over
            expected = projected * (n * variance)
            rest = projected * (np.sqrt(n) * left_over)
            between += np.diag(variance.sum(axis=0)) + expected.T @ expected
            within += np.diag((n * variance).sum(axis=0)) + rest.T @ rest
        back = np.linalg.inv(model.transform)
        within = (scatter + back @ within @ back.T) / count
        model = diagonalise(mean, within, back @ between @ back.T / len(means))
    return model


def train_simplified_plda(
    vectors: np.ndarray, classes: np.ndarray, between_dim: int, num_em_iterations: int = 10
) -> Plda:
    """Fit simplified PLDA (Kenny 2010, "Bayesian speaker verification with heavy-tailed priors", section 2,
    with a full residual covariance): x = mean + V y + e with y ~ N(0, I) of ``between_dim`` dimensions and
    e ~ N(0, W), so that B = V V'.

    With n and m the size and mean of a class (after subtracting the mean of the class means) and T the
    scatter of all vectors, an iteration is

        L = I + n V' W^-1 V,   y = L^-1 V' W^-1 n m,
        R = sum n (L^-1 + y y'),   C = sum n m y',
        V <- C R^-1,   W <- (T - V C') / N,   V <- V chol(sum (L^-1 + y y') / C_classes).

    The last is the minimum-divergence step, after which y has unit variance again. V starts at the leading
    directions between class means, W at the covariance within classes. The model is written as any other: the
    last psi are 0.

    Args:
        vectors: (N, D).
        classes: (N,) ints from 0 to C - 1, none empty; N - C at least D.
        between_dim: from 1 to D; above C - 1 there is nothing to learn.
    """
    mean, means, members, scatter = _statistics(vectors, classes)
    count, dim, num_classes = len(vectors), len(mean), len(means)
    if not 1 <= between_dim <= dim:
        raise ValueError(
            f"a between-class dimension of {between_dim} does not fit vectors of dimension {dim}"
        )
    if count - num_classes < dim:
        raise ValueError(
            f"simplified PLDA of dimension {dim} needs {dim} vectors more than classes, got {count} of "
            f"{num_classes}"
        )
    within = scatter / (count - num_classes)
    start = diagonalise(mean, within, means.T @ means / num_classes)
    loading = np.linalg.inv(start.transform)[:, :between_dim] * np.sqrt(start.psi[:between_dim])
    total = scatter + (means * members[:, None]).T @ means
    for _ in range(num_em_iterations):
        weighted = np.linalg.solve(within, loading)  # (D, d): W^-1 V
        gains, rotation = np.linalg.eigh(loading.T @ weighted)
        weighted = weighted @ rotation  # y is rotated such that every L is diagonal
        of_y, of_y_unweighted = np.zeros((2, between_dim, between_dim))
        cross = np.zeros((dim, between_dim))
        for first in range(0, num_classes, _BLOCK_ROWS):
            part = slice(first, first + _BLOCK_ROWS)
            n = members[part, None].astype(np.float64)
            variance = 1.0 / (1.0 + n * np.maximum(gains, 0.0))
            y = means[part] @ weighted * (n * variance)
            of_y += np.diag((n * variance).sum(axis=0)) + (n * y).T @ y
            of_y_unweighted += np.diag(variance.sum(axis=0)) + y.T @ y
            cross += means[part].T @ (n * y)
        loading = np.linalg.solve(of_y, cross.T).T
        within = (total - loading @ cross.T) / count
        within = (within + within.T) / 2
        loading = loading @ np.linalg.cholesky(of_y_unweighted / num_classes)
    return diagonalise(mean, within, loading @ loading.T)


def _statistics(vectors, classes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The mean of the class means (D,), the class means less it (C, D), the sizes (C,) and the scatter within
    classes (D, D).
    """
    vectors = np.asarray(vectors)
    means, members = group_means(vectors, classes, int(np.max(classes)) + 1)
    if members.max() < 2:
        raise ValueError("PLDA needs a class with two vectors or more; every class has one")
    scatter = scatter_within(vectors, classes, means)
    mean = means.mean(axis=0)
    return mean, means - mean, members, scatter
