"""Classifiers and regressions on frozen embeddings. Each is a path of scorers from strong to weak
regularisation, of which cross-validation inside the training part chooses one
(:mod:`pydino.downstream.frozen`).

All train on standardised vectors (N, D) float64, with balanced class weights: every class weighs the same.
"""

import warnings
from collections.abc import Iterator

import numpy as np

from pydino.backend import group_means, train_plda_chain

from .scorers import Linear, PldaScorer

INVERSE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of logistic regression and of the linear SVM
PENALTIES = (1e5, 1e4, 1e3, 1e2, 1e1, 1.0)  # of ridge regression
LDA_DIMENSIONS = (8, 16, 32, 64, 128)  # of PLDA


def logistic_regression(x: np.ndarray, y: np.ndarray, seed: int) -> Iterator[Linear]:
    """L2-regularised multinomial logistic regression.

    Args:
        x: (N, D); y: (N,) ints from 0 to K - 1, all present.
        seed: not used, the problem is convex.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # From strong to weak regularisation, with warm starts.
    model = LogisticRegression(class_weight="balanced", max_iter=100, tol=1e-3, warm_start=True)
    for strength in INVERSE_STRENGTHS:
        model.C = strength
        with warnings.catch_warnings():  # full convergence is not needed at weak regularisation
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        yield _linear(model.coef_, model.intercept_)


def linear_svm(x: np.ndarray, y: np.ndarray, seed: int) -> Iterator[Linear]:
    """Linear support vector machines, one class against the others (squared hinge loss).

    The decision values have no scale of their own; they are divided by their standard deviation on the
    training part, and a temperature makes posteriors of them.

    Args as :func:`logistic_regression`; the seed is that of the order of the coordinate descent.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    for strength in INVERSE_STRENGTHS:
        model = LinearSVC(C=strength, class_weight="balanced", dual="auto", random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        found = _linear(model.coef_, model.intercept_)
        spread = found(x).std() or 1.0
        yield Linear(found.weight / spread, found.bias / spread)


def plda(x: np.ndarray, y: np.ndarray, seed: int) -> Iterator[PldaScorer]:
    """PLDA with the classes as speakers, after LDA to some of ``LDA_DIMENSIONS``: the chain that verification
    uses. LDA keeps more dimensions than the classes can tell apart, because length normalisation would leave
    only a sign of one.

    Args as :func:`logistic_regression`.
    """
    count = int(y.max()) + 1
    most = min(x.shape[1], len(y) - count - 1)
    means, counts = group_means(x, y, count)
    for dim in dict.fromkeys(min(dim, most) for dim in LDA_DIMENSIONS):
        yield PldaScorer(train_plda_chain(x, y, dim, num_em_iterations=10), means, counts)


def ridge_regression(x: np.ndarray, y: np.ndarray, seed: int) -> Iterator[Linear]:
    """Ridge regression, b = (X'X + a I)^-1 X'(y - mean y).

    Args:
        x: (N, D), of mean zero; y: (N,) floats; seed: not used.
    """
    mean = y.mean()
    left, singular, right = np.linalg.svd(x, full_matrices=False)
    part = left.T @ (y - mean)
    for penalty in PENALTIES:
        weight = right.T @ (singular / (singular**2 + penalty) * part)
        yield Linear(weight[None, :], np.array([mean]))


PATHS = {
    "logreg": logistic_regression,
    "svm": linear_svm,
    "plda": plda,
    "ridge": ridge_regression,
}


def _linear(weight: np.ndarray, bias: np.ndarray) -> Linear:
    """The classifier of scikit-learn, which has one row for two classes, with a logit for each class."""
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return Linear(weight, bias)
