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
    """L2-regularised multinomial logistic regression: for each C the minimum over W (K, D) and b (K,) of

        sum_n w_n (logsumexp_k z_nk - z_n,y_n) / sum_n w_n + |W|^2 / (2 C sum_n w_n),   z = x W' + b

    with the weights w_n = N / (K N_y) of balanced classes; two classes have one row of W, the logit of the
    second. It is the problem of scikit-learn's LogisticRegression and is solved as there, by L-BFGS until no
    component of the gradient is above 1e-3 or for 100 iterations, each C from the solution of the one
    before. scikit-learn takes five times as long for problems of this size, most of it for checking its
    arguments, and the folds and permutations of a task are thousands of them.

    Args:
        x: (N, D); y: (N,) ints from 0 to K - 1, all present.
        seed: not used, the problem is convex.
    """
    from scipy.optimize import minimize  # slow to import, and most verbs do not need it

    count, dims, classes = len(y), x.shape[1], int(y.max()) + 1
    weights = (count / (classes * np.bincount(y)))[y]
    weights, total = weights / weights.sum(), weights.sum()
    rows = 1 if classes == 2 else classes
    value_of = _two_classes if classes == 2 else _more_classes
    solved = np.zeros(rows * (dims + 1))
    # full convergence is not needed at weak regularisation
    options = {"maxiter": 100, "maxls": 50, "gtol": 1e-3, "ftol": 64 * np.finfo(float).eps}
    for strength in INVERSE_STRENGTHS:
        shared = (x, y, weights, 1.0 / (strength * total))
        solved = minimize(value_of, solved, shared, "L-BFGS-B", jac=True, options=options).x
        table = solved.reshape(rows, dims + 1)
        yield _linear(table[:, :-1], table[:, -1])


def _two_classes(parameters, x, y, weights, penalty):
    """The value that logistic regression minimises, and its gradient; parameters: (D + 1,)."""
    weight, sign = parameters[:-1], 2.0 * y - 1.0
    margin = sign * (x @ weight + parameters[-1])
    small = np.exp(-np.abs(margin))  # of which no logarithm overflows
    value = weights @ (np.log1p(small) + np.maximum(-margin, 0.0)) + 0.5 * penalty * (weight @ weight)
    slope = -weights * sign * np.where(margin >= 0, small, 1.0) / (1.0 + small)
    return value, np.append(slope @ x + penalty * weight, slope.sum())


def _more_classes(parameters, x, y, weights, penalty):
    """The same of K classes; parameters: (K (D + 1),), a row a class."""
    table = parameters.reshape(-1, x.shape[1] + 1)
    weight, places = table[:, :-1], np.arange(len(y))
    scores = x @ weight.T + table[:, -1]
    scores -= scores.max(axis=1, keepdims=True)
    exponentials = np.exp(scores)
    sums = exponentials.sum(axis=1)
    value = weights @ (np.log(sums) - scores[places, y]) + 0.5 * penalty * (weight**2).sum()
    slope = exponentials / sums[:, None]
    slope[places, y] -= 1.0
    slope *= weights[:, None]
    return value, np.column_stack([slope.T @ x + penalty * weight, slope.sum(axis=0)]).ravel()


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
