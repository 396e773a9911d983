"""Metrics of classification and regression, with intervals by bootstrap over speakers. They are functions of
the speakers' confusion counts (or sums over their numbers), so that a resample is a weighted sum of these.
"""

import numpy as np

from .bootstrap import draw_counts


def speaker_confusions(
    truth: np.ndarray, predicted: np.ndarray, speakers: np.ndarray, classes: int
) -> np.ndarray:
    """Count (S, K, K): utterances of speaker s, of class i, classified as j. All arguments (N,) ints."""
    counts = np.zeros((int(speakers.max()) + 1, classes, classes), dtype=np.int64)
    np.add.at(counts, (speakers, truth, predicted), 1)
    return counts


def class_measures(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return the measures, in [0, 1], of confusion counts (..., K, K), truth along rows.

    uar       unweighted average recall: mean recall over classes.
    f1_macro  mean over classes of 2 TP / (2 TP + FP + FN).
    f1_micro  the same of the summed counts; every utterance has one label, so it equals the accuracy.
    accuracy  fraction of utterances classified correctly.
    Classes without an utterance (in a resample) are omitted from the means.
    """
    confusion = np.asarray(confusion, dtype=np.float64)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    actual, claimed, total = confusion.sum(-1), confusion.sum(-2), confusion.sum((-2, -1))
    present = actual > 0
    recall = hits / np.where(present, actual, 1.0)
    f1 = 2 * hits / np.where(present, actual + claimed, 1.0)
    accuracy = hits.sum(-1) / total
    return {
        "uar": recall.sum(-1) / present.sum(-1),
        "f1_micro": accuracy,
        "f1_macro": np.where(present, f1, 0.0).sum(-1) / present.sum(-1),
        "accuracy": accuracy,
    }


def bootstrap_classes(confusions: np.ndarray, resamples: int = 1000, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the measures (B,) of resamples of whole speakers, from their confusion counts (S, K, K)."""
    speakers, classes = confusions.shape[:2]
    counts = draw_counts(speakers, resamples, seed)
    return class_measures((counts @ confusions.reshape(speakers, -1)).reshape(resamples, classes, classes))


def speaker_sums(truth: np.ndarray, predicted: np.ndarray, speakers: np.ndarray) -> np.ndarray:
    """Sum over the utterances of each speaker, for :func:`number_measures`.

    Args:
        truth, predicted: (N,) numbers y and p; speakers: (N,) ints.

    Returns:
        (S, 8): the count, |p - y|, (p - y)^2, and y, p, y^2, p^2, y p, with y and p around their means,
        because the correlation is a difference of these.
    """
    y, p, error = truth - truth.mean(), predicted - predicted.mean(), predicted - truth
    columns = (np.ones(len(y)), np.abs(error), error**2, y, p, y * y, p * p, y * p)
    return np.stack([np.bincount(speakers, weights=column) for column in columns], axis=1)


def number_measures(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Return the measures of sums (..., 8) of :func:`speaker_sums`.

    mae      mean absolute error.
    rmse     root of the mean squared error.
    pearson  correlation of truth and prediction; 0 where one of them is constant.
    """
    count, absolute, squared, y, p, yy, pp, yp = np.moveaxis(np.asarray(sums, dtype=np.float64), -1, 0)
    variances = (yy - y * y / count) * (pp - p * p / count)
    constant = variances <= 1e-20 * yy * pp
    correlation = (yp - y * p / count) / np.sqrt(np.where(constant, 1.0, variances))
    return {
        "mae": absolute / count,
        "rmse": np.sqrt(squared / count),
        "pearson": np.where(constant, 0.0, correlation),
    }


def bootstrap_numbers(sums: np.ndarray, resamples: int = 1000, seed: int = 0) -> dict[str, np.ndarray]:
    """Return the measures (B,) of resamples of whole speakers, from their sums (S, 8)."""
    return number_measures(draw_counts(len(sums), resamples, seed) @ sums)
