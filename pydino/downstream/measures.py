"""Metrics of classification and regression, with intervals by bootstrap over speakers. They are functions of
the speakers' confusion counts (or sums of errors), so that a resample is a weighted sum of these.
"""

import numpy as np

from pydino.backend import draw_counts


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


def bootstrap_error(
    errors: np.ndarray, speakers: np.ndarray, resamples: int = 1000, seed: int = 0
) -> np.ndarray:
    """Return the mean absolute error (B,) of resamples of whole speakers; errors (N,) absolute, speakers (N,)
    ints.
    """
    sums, sizes = np.bincount(speakers, weights=errors), np.bincount(speakers)
    counts = draw_counts(len(sums), resamples, seed)
    return (counts @ sums) / (counts @ sizes)
