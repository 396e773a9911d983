"""Temperature and calibration error against closed forms, a brute-force search, and data whose truth is
known.
"""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from pydino.backend import (
    calibration_error,
    calibration_summary,
    cross_entropy,
    fit_temperature,
    reliability,
)


def drawn(n=4000, k=4, scale=1.0, seed=0):
    """Logits, and labels drawn from softmax(logits / scale)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, k)) * 2
    noise = rng.gumbel(size=(n, k))
    return logits, (logits / scale + noise).argmax(axis=1)


def test_two_logits_have_a_closed_form():
    """Margin m of the first class, a share p of first labels: the best T has sigmoid(m / T) = p."""
    for margin, right in ((3.0, 30), (0.4, 25)):
        logits = np.tile([margin, 0.0], (40, 1))
        labels = np.array([0] * right + [1] * (40 - right))
        p = right / 40
        assert fit_temperature(logits, labels) == pytest.approx(margin / np.log(p / (1 - p)), rel=1e-8)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.7, 8.0])
def test_it_is_the_minimum_that_a_search_finds(scale):
    logits, labels = drawn(600, scale=scale)
    weights = np.random.default_rng(1).uniform(size=600)

    def loss(log_t):
        return weights @ -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(600), labels]

    best = minimize_scalar(loss, bounds=(-2.3, 4.6), method="bounded", options={"xatol": 1e-9})
    assert fit_temperature(logits, labels, weights) == pytest.approx(np.exp(best.x), rel=1e-4)


def test_the_temperature_that_labels_were_drawn_with_comes_back():
    logits, labels = drawn(40_000, scale=2.0)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(2, rel=0.03)
    summary = calibration_summary(logits, labels, found)
    assert (summary["temperature"], summary["n"]) == (found, 40_000)
    before, after = summary["cross_entropy"]
    assert after == cross_entropy(logits / found, labels) < cross_entropy(logits, labels) == before
    before, after = summary["calibration_error"]
    assert after < 0.02 < 0.1 < before


def test_what_cannot_matter_does_not():
    logits, labels = drawn(300, scale=1.7)
    found = fit_temperature(logits, labels)
    shift = np.random.default_rng(2).normal(size=(300, 1)) * 50
    assert fit_temperature(log_softmax(logits, axis=1), labels) == pytest.approx(found, rel=1e-8)
    assert fit_temperature(logits + shift, labels) == pytest.approx(found, rel=1e-8)
    assert fit_temperature(logits * 3, labels) == pytest.approx(3 * found, rel=1e-8)
    assert fit_temperature(logits[::-1], labels[::-1]) == pytest.approx(found, rel=1e-8)
    twice = np.ones(300)
    twice[:50] = 2
    repeated = fit_temperature(np.vstack([logits, logits[:50]]), np.append(labels, labels[:50]))
    assert fit_temperature(logits, labels, twice) == pytest.approx(repeated, rel=1e-8)


def test_where_there_is_nothing_to_fit_nothing_changes():
    logits, _ = drawn(50)
    assert fit_temperature(logits, logits.argmax(axis=1)) == 1  # separated
    assert fit_temperature(logits, np.zeros(50, dtype=int)) == 1  # one class
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int)) == 1
    assert fit_temperature(np.zeros((4, 2)), np.array([0, 1, 0, 1])) == 1  # no opinion: T does not matter
    one_label_counts = np.append(np.ones(1), np.zeros(49))
    assert fit_temperature(logits, (logits.argmax(axis=1) + 1) % 4, one_label_counts) == 1


def test_bounds():
    logits, labels = drawn(200, scale=1.0)
    assert fit_temperature(-logits, labels) == 100  # worse than chance
    assert fit_temperature(logits * 1e-3, labels) == 0.1


def test_an_impossible_class_has_a_finite_loss():
    logits = np.array([[0.0, -np.inf], [-np.inf, 0.0], [0.0, -np.inf]])
    assert fit_temperature(logits, np.array([0, 1, 1])) == 100
    assert np.isfinite(cross_entropy(logits, np.array([0, 1, 1])))


def test_calibration_error_by_hand():
    """Two bins of two: confidences 0.6, 0.6 (one right) and 0.9, 0.9 (both right)."""
    p = np.array([[0.6, 0.4], [0.9, 0.1], [0.6, 0.4], [0.1, 0.9]])
    labels = np.array([0, 0, 1, 1])
    found = reliability(np.log(p), labels, bins=2)
    np.testing.assert_allclose(found.confidence, [0.6, 0.9])
    np.testing.assert_allclose(found.accuracy, [0.5, 1.0])
    assert found.count.tolist() == [2, 2]
    assert calibration_error(np.log(p), labels, bins=2) == pytest.approx(0.1)
    assert len(reliability(np.log(p), labels, bins=15).count) == 4
    assert np.isnan(calibration_error(np.zeros((0, 2)), np.zeros(0, dtype=int)))


def test_cross_entropy_by_hand():
    p = np.array([[0.5, 0.5], [0.25, 0.75]])
    assert cross_entropy(np.log(p) + 3, np.array([0, 1])) == pytest.approx(-np.log([0.5, 0.75]).mean())
    assert cross_entropy(np.log(p), np.array([0, 1]), np.array([0, 1])) == pytest.approx(-np.log(0.75))


@pytest.mark.parametrize(
    "scores, labels, weights",
    [
        (np.zeros((3, 2)), np.zeros(4, dtype=int), None),
        (np.zeros(3), np.zeros(3, dtype=int), None),
        (np.full((3, 2), np.nan), np.zeros(3, dtype=int), None),
        (np.zeros((3, 2)), np.array([0, 1, 2]), None),
        (np.zeros((3, 2)), np.array([0, 1, -1]), None),
        (np.zeros((3, 2)), np.array([0, 1, 1]), np.array([1, 1, -1])),
    ],
)
def test_what_cannot_be_meant_is_refused(scores, labels, weights):
    with pytest.raises(ValueError):
        fit_temperature(scores, labels, weights)
