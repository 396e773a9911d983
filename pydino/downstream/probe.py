"""Probes on frozen embeddings: logistic regression for classes, ridge regression for numbers.

Each fold is predicted by a model trained on the other folds. Features are standardised with the mean and
standard deviation of the training folds, and the strength of the regularisation is chosen by cross-validation
inside the training folds, by speaker there too: the test fold is never used.
"""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from .folds import assign_folds
from .measures import class_measures, speaker_confusions

INVERSE_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of logistic regression on standardised features
PENALTIES = (1e5, 1e4, 1e3, 1e2, 1e1, 1.0)  # of ridge regression on standardised features
_INNER_FOLDS = 3


def predict_classes(
    vectors: np.ndarray, labels: np.ndarray, speakers: np.ndarray, folds: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Predict the class of every utterance by L2-regularised multinomial logistic regression with balanced
    class weights.

    C is the one of ``INVERSE_STRENGTHS`` with the best unweighted average recall inside the training folds.

    Args:
        vectors: (N, D); labels: (N,) ints from 0 to K - 1; speakers, folds: (N,) ints.

    Returns:
        (N,) predicted classes.
    """
    classes = int(labels.max()) + 1

    def path(train_x, train_y, test_x):
        # From strong to weak regularisation, with warm starts.
        model = LogisticRegression(class_weight="balanced", max_iter=100, tol=1e-3, warm_start=True)
        for strength in INVERSE_STRENGTHS:
            model.C = strength
            with warnings.catch_warnings():  # full convergence is not needed at weak regularisation
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(train_x, train_y)
            yield model.predict(test_x)

    def recall(truth, predicted):
        confusion = speaker_confusions(truth, predicted, np.zeros_like(truth), classes)[0]
        return class_measures(confusion)["uar"]

    return _cross_predict(vectors, labels, speakers, folds, path, recall, labels, seed).astype(np.int64)


def predict_numbers(
    vectors: np.ndarray, values: np.ndarray, speakers: np.ndarray, folds: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Predict a number for every utterance by ridge regression, b = (X'X + a I)^-1 X'(y - mean y) on
    standardised X.

    a is the one of ``PENALTIES`` with the least mean absolute error inside the training folds.

    Args and returns as :func:`predict_classes`, with ``values`` (N,) floats.
    """

    def path(train_x, train_y, test_x):
        mean = train_y.mean()
        left, singular, right = np.linalg.svd(train_x, full_matrices=False)
        part, projected = left.T @ (train_y - mean), test_x @ right.T
        for penalty in PENALTIES:
            yield mean + projected @ (singular / (singular**2 + penalty) * part)

    def closeness(truth, predicted):
        return -np.abs(truth - predicted).mean()

    return _cross_predict(
        vectors, np.asarray(values, dtype=np.float64), speakers, folds, path, closeness, None, seed
    )


def _cross_predict(vectors, targets, speakers, folds, path, goodness, strata, seed) -> np.ndarray:
    """Predict each fold from the others. ``path(train_x, train_y, test_x)`` yields predictions from strong to
    weak regularisation.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    predicted = np.empty(len(targets))
    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        chosen = _choose(
            vectors[train],
            targets[train],
            speakers[train],
            path,
            goodness,
            None if strata is None else strata[train],
            seed,
        )
        train_x, test_x = _standardise(vectors[train], vectors[test])
        for step, prediction in enumerate(path(train_x, targets[train], test_x)):
            if step == chosen:
                predicted[test] = prediction
                break
    return predicted


def _choose(vectors, targets, speakers, path, goodness, strata, seed) -> int:
    """The index on the path that predicts held-out speakers best; the strongest regularisation on a tie."""
    _, numbers = np.unique(speakers, return_inverse=True)
    folds = (
        assign_folds(numbers, min(_INNER_FOLDS, int(numbers.max()) + 1), strata, seed)
        if numbers.max() > 0
        else None
    )
    if folds is None or (strata is not None and not _all_classes_everywhere(strata, folds)):
        return 1  # no inner cross-validation is possible: default to the second strongest
    predictions = []
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        train_x, test_x = _standardise(vectors[train], vectors[test])
        predictions.append((np.flatnonzero(test), list(path(train_x, targets[train], test_x))))
    places = np.concatenate([test for test, _ in predictions])
    scores = [
        goodness(targets[places], np.concatenate([steps[i] for _, steps in predictions]))
        for i in range(len(predictions[0][1]))
    ]
    return int(np.argmax(scores))


def _all_classes_everywhere(labels: np.ndarray, folds: np.ndarray) -> bool:
    """Whether the training part of every inner fold has every class."""
    return all(len(np.unique(labels[folds != fold])) == len(np.unique(labels)) for fold in np.unique(folds))


def _standardise(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Zero mean and unit variance on the training part; a dimension that is constant there becomes zero."""
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    constant = deviation <= 1e-6 * np.abs(mean)  # up to the rounding of float32
    scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation))
    return (train - mean) * scale, (test - mean) * scale
