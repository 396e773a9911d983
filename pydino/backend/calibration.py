"""Calibration of posteriors: a temperature fitted on held-out utterances, and how far probabilities are from
what happens.

Temperature scaling and the calibration error are those of Guo, Pleiss, Sun and Weinberger, "On calibration of
modern neural networks" (ICML 2017); bins of equal counts instead of equal widths, as Nguyen and O'Connor
(EMNLP 2015) have them, so that no bin rests on a handful of utterances.

Axes: N utterances, K classes.
"""

from dataclasses import dataclass

import numpy as np

LOWEST, HIGHEST = 0.1, 100.0  # temperatures
FLOOR = -1000.0  # of log-posteriors: log 0 has a value, so that a product with 0 is defined


def fit_temperature(
    log_posteriors: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> float:
    """Return the temperature T that minimises the cross-entropy of softmax(log-posteriors / T).

    In b = 1 / T the cross-entropy ``sum_n w_n (logsumexp_k(b z_nk) - b z_n,y)`` is convex, and its
    derivative, ``sum_n w_n (E_softmax(b z_n)[z_n] - z_n,y)``, is increasing: its zero is found by Brent's
    method, to within 1e-10.

    T is between 0.1 and 100: 100 where the posteriors are no better than chance. Where there is nothing to
    fit, T is 1: no utterance, one class only among the labels, or every label the most probable class, so
    that the cross-entropy decreases without end as T does and a handful of utterances would justify any
    confidence.

    Args:
        log_posteriors: (N, K), of any sum (logits will do).
        labels: (N,) class numbers.
        weights: (N,) of the utterances, not negative; None: all equal.

    Raises:
        ValueError: shapes that do not match, NaN or +infinity, a label that is no class, or a negative
            weight.
    """
    scores, labels = _checked(log_posteriors, labels)
    weights = _weights(weights, len(labels))
    scores, labels, weights = scores[weights > 0], labels[weights > 0], weights[weights > 0]
    own = scores[np.arange(len(labels)), labels]
    if len(np.unique(labels)) < 2 or (own >= scores.max(axis=1)).all():
        return 1.0

    def slope(inverse: float) -> float:
        posteriors = np.exp(_log_softmax(inverse * scores))
        return float(weights @ ((posteriors * scores).sum(axis=1) - own))

    least, most = 1 / HIGHEST, 1 / LOWEST
    if slope(least) >= 0:
        return HIGHEST
    if slope(most) <= 0:
        return LOWEST
    from scipy.optimize import brentq  # slow to import, and most verbs do not need it

    return 1 / brentq(slope, least, most, xtol=1e-12, rtol=1e-10)


def cross_entropy(log_posteriors: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the mean over utterances of -log softmax(log-posteriors)[label], in nats; arguments and errors
    as of :func:`fit_temperature`. Not a number where no utterance has a weight.
    """
    scores, labels = _checked(log_posteriors, labels)
    weights = _weights(weights, len(labels))
    if not weights.sum() > 0:
        return float("nan")
    losses = -_log_softmax(scores)[np.arange(len(labels)), labels]
    return float(weights @ losses / weights.sum())


@dataclass(frozen=True)
class Reliability:
    """Utterances sorted by the probability of their most probable class, in bins of (almost) equal counts:
    (bins,) each.
    """

    confidence: np.ndarray  # mean of that probability
    accuracy: np.ndarray  # share of the utterances of which that class is the label
    count: np.ndarray  # utterances


def reliability(log_posteriors: np.ndarray, labels: np.ndarray, bins: int = 15) -> Reliability:
    """Return confidence and accuracy by bin; fewer than ``bins`` bins where there are fewer utterances.

    Utterances of equal confidence may be in two bins, in the order in which they are given.

    Args:
        log_posteriors: (N, K), of any sum.
        labels: (N,) class numbers.
        bins: their number.

    Raises:
        ValueError: as of :func:`fit_temperature`.
    """
    scores, labels = _checked(log_posteriors, labels)
    confidence = np.exp(_log_softmax(scores)).max(axis=1)
    right = scores.argmax(axis=1) == labels
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return Reliability(
        np.array([confidence[part].mean() for part in parts]),
        np.array([right[part].mean() for part in parts]),
        np.array([len(part) for part in parts], dtype=np.int64),
    )


def calibration_error(log_posteriors: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error, 0 to 1: the mean over utterances of |accuracy - confidence| of
    their bin (:func:`reliability`). Not a number where there is no utterance.

    It is not zero for perfect posteriors of few utterances: a bin of n has a standard error of accuracy of up
    to 0.5 / sqrt(n).
    """
    found = reliability(log_posteriors, labels, bins)
    if not found.count.sum():
        return float("nan")
    return float(found.count @ np.abs(found.accuracy - found.confidence) / found.count.sum())


def calibration_summary(log_posteriors: np.ndarray, labels: np.ndarray, temperature: float) -> dict:
    """Return what a report says of a temperature, on utterances that it was not fitted on: ``temperature``,
    ``n``, and ``cross_entropy`` (nats) and ``calibration_error`` (0 to 1), each as [before, after] it.
    Arguments and errors as of :func:`fit_temperature`.
    """
    both = (log_posteriors, np.asarray(log_posteriors, dtype=np.float64) / temperature)
    return {
        "temperature": temperature,
        "n": len(labels),
        "cross_entropy": [cross_entropy(scores, labels) for scores in both],
        "calibration_error": [calibration_error(scores, labels) for scores in both],
    }


def _checked(log_posteriors, labels) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(log_posteriors, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(f"log-posteriors of shape {scores.shape} and labels of shape {labels.shape}")
    if np.isnan(scores).any() or np.isposinf(scores).any():
        raise ValueError("log-posteriors that are NaN or infinite")
    if len(labels) and not (labels.min() >= 0 and labels.max() < scores.shape[1]):
        raise ValueError(f"labels from {labels.min()} to {labels.max()} of {scores.shape[1]} classes")
    return np.maximum(scores, FLOOR), labels.astype(np.int64, copy=False)


def _weights(weights, count: int) -> np.ndarray:
    weights = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    if weights.shape != (count,) or not (weights >= 0).all() or not np.isfinite(weights).all():
        raise ValueError(f"weights: {count} numbers that are not negative are needed")
    return weights


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    """Return the logarithm of the softmax of (N, K) over K."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
