"""Score normalisation, WCCN and scores averaged over crops, against loops over their formulas."""

import numpy as np
import pytest

from pydino.backend import (
    cohort_moments,
    cosine_features,
    estimate_wccn,
    fit_centring,
    mean_of_crops,
    normalise_scores,
    score_pairs,
    train_plda,
    within_class_covariance,
)
from pydino.backend import score_normalisation as module

DIM = 6


@pytest.fixture(scope="module")
def vectors():
    """(models, tests, cohort)"""
    rng = np.random.default_rng(1)
    return tuple(rng.standard_normal((count, DIM)) + 0.3 for count in (5, 7, 40))


def cosine(models, tests):
    return cosine_features(models, tests)


@pytest.fixture(scope="module")
def plda():
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(50), 4)
    model = train_plda(rng.standard_normal((50, DIM))[labels] + rng.standard_normal((200, DIM)), labels)

    def features(models, tests):
        return model.comparison_features(model.project(models), 1, model.project(tests))

    return features


def naive(kind, features, models, tests, cohort, top):
    """The formulas of the module's docstring, one trial at a time."""
    left, right = features(models, tests)
    of_models, of_tests = features(models, cohort), features(cohort, tests)
    out = np.empty((len(models), len(tests)))
    for e in range(len(models)):
        for t in range(len(tests)):
            score = float(np.dot(left[e], right[t]))
            with_model = sorted(float(np.dot(of_models[0][e], right_c)) for right_c in of_models[1])
            with_test = sorted(float(np.dot(left_c, of_tests[1][t])) for left_c in of_tests[0])
            if kind == "as-norm":
                with_model, with_test = with_model[-top:], with_test[-top:]
            z, t_norm = (
                (score - sum(s) / len(s)) / np.sqrt(sum((x - sum(s) / len(s)) ** 2 for x in s) / len(s))
                for s in (with_model, with_test)
            )
            out[e, t] = {"z-norm": z, "t-norm": t_norm}.get(kind, (z + t_norm) / 2)
    return out


def normalised(kind, features, models, tests, cohort, top=None):
    left, right = features(models, tests)
    cohort_left, cohort_right = features(cohort, cohort)
    rows, columns = (places.ravel() for places in np.indices((len(models), len(tests))))
    top = top if kind == "as-norm" else None
    scores = normalise_scores(
        score_pairs(left, right, rows, columns),
        rows,
        columns,
        None if kind == "t-norm" else cohort_moments(left, cohort_right, top),
        None if kind == "z-norm" else cohort_moments(right, cohort_left, top),
    )
    return scores.reshape(len(models), len(tests))


@pytest.mark.parametrize("kind", ["z-norm", "t-norm", "s-norm", "as-norm"])
@pytest.mark.parametrize("backend", ["cosine", "plda"])
def test_normalised_scores_are_those_of_a_loop_over_the_formulas(kind, backend, vectors, plda, monkeypatch):
    features = cosine if backend == "cosine" else plda
    monkeypatch.setattr(module, "_BLOCK_BYTES", 8 * 40 * 2)  # two models at a time
    np.testing.assert_allclose(
        normalised(kind, features, *vectors, top=9), naive(kind, features, *vectors, 9), rtol=1e-9, atol=1e-9
    )


def test_adaptive_s_norm_with_the_whole_cohort_is_s_norm(vectors):
    expected = normalised("s-norm", cosine, *vectors)
    for top in (40, 41, 10**6):
        np.testing.assert_allclose(normalised("as-norm", cosine, *vectors, top=top), expected, atol=1e-12)
    assert np.abs(normalised("as-norm", cosine, *vectors, top=5) - expected).max() > 0.1


def test_normalised_scores_forget_scale_and_offset(vectors):
    """s -> 3 s + 7 of every score changes nothing: that is what normalisation is for."""

    def moved(models, tests):
        left, right = cosine(models, tests)
        return np.hstack([3 * left, np.full((len(left), 1), 7.0)]), np.hstack(
            [right, np.ones((len(right), 1))]
        )

    for kind in ("z-norm", "t-norm", "as-norm"):
        np.testing.assert_allclose(
            normalised(kind, moved, *vectors, top=9), normalised(kind, cosine, *vectors, top=9), atol=1e-9
        )


def test_a_cohort_that_says_nothing_is_refused(vectors):
    models, _, cohort = vectors
    left, right = cosine(models, cohort)
    with pytest.raises(ValueError, match="two cohort scores"):
        cohort_moments(left, right[:1])
    with pytest.raises(ValueError, match="two cohort scores"):
        cohort_moments(left, right, top=1)
    for side, others in ((left, np.repeat(right[:1], 5, axis=0)), (0 * left, right)):
        with pytest.raises(ValueError, match="do not vary"):
            cohort_moments(side, others)


@pytest.fixture(scope="module")
def crops():
    """(crops, utterance of each): utterances of 2 to 5 crops, within which three directions vary little."""
    rng = np.random.default_rng(4)
    utterances = np.repeat(np.arange(80), rng.integers(2, 6, 80))
    mixing = rng.standard_normal((DIM, DIM)) * np.array([1, 1, 1, 0.01, 0.01, 0.01])
    own = 3 * rng.standard_normal((80, DIM))
    return own[utterances] + rng.standard_normal((len(utterances), DIM)) @ mixing.T + 5, utterances


def test_after_wccn_the_covariance_within_utterances_is_the_unit_matrix(crops):
    vectors, utterances = crops
    transform = estimate_wccn(vectors, utterances, shrinkage=0.0)
    np.testing.assert_allclose(
        within_class_covariance(vectors @ transform.T, utterances), np.eye(DIM), atol=1e-9
    )
    shrunk = estimate_wccn(vectors, utterances, shrinkage=0.3)
    within = within_class_covariance(vectors, utterances)
    expected = 0.7 * within + 0.3 * np.trace(within) / DIM * np.eye(DIM)
    np.testing.assert_allclose(np.linalg.inv(shrunk.T @ shrunk), expected, rtol=1e-9, atol=1e-12)


def test_the_covariance_within_classes_does_not_depend_on_their_number():
    """Divided by N - C: with two vectors a class it would come out at half of it if divided by N."""
    rng = np.random.default_rng(0)
    for size in (2, 20):
        classes = np.repeat(np.arange(40_000 // size), size)
        own = rng.standard_normal((classes[-1] + 1, 2))
        covariance = within_class_covariance(own[classes] + rng.standard_normal((40_000, 2)), classes)
        np.testing.assert_allclose(covariance, np.eye(2), atol=0.05)


def test_wccn_refuses_what_it_cannot_be_estimated_from(crops):
    vectors, utterances = crops
    with pytest.raises(ValueError, match="one vector"):
        estimate_wccn(vectors[:9], np.arange(9))
    with pytest.raises(ValueError, match="all equal"):
        estimate_wccn(np.ones((6, 2), dtype=np.float32), np.array([0, 0, 0, 1, 1, 1]))
    with pytest.raises(ValueError, match="fewer than their 6"):
        estimate_wccn(vectors[:5], np.array([0, 0, 0, 1, 1]), shrinkage=0.0)
    assert np.isfinite(estimate_wccn(vectors[:5], np.array([0, 0, 0, 1, 1]), shrinkage=0.1)).all()
    with pytest.raises(ValueError, match="from 0 to 1"):
        estimate_wccn(vectors, utterances, shrinkage=1.5)


def test_wccn_as_a_centring(crops):
    vectors, utterances = crops
    transform = estimate_wccn(vectors, utterances)
    other = vectors[:50] + 1
    np.testing.assert_allclose(
        fit_centring("wccn", other, transform)(vectors), (vectors - other.mean(axis=0)) @ transform.T
    )
    with pytest.raises(ValueError, match="transform of dimension 6, got none"):
        fit_centring("wccn", other)
    with pytest.raises(ValueError, match="got one of dimension 2"):
        fit_centring("wccn", other, np.eye(2))


def test_the_inner_product_of_means_of_crops_is_the_mean_of_all_cosines(crops):
    vectors, utterances = crops
    means = mean_of_crops(vectors, utterances, 80)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for a, b in ((0, 1), (3, 70), (5, 5)):
        expected = np.mean([x @ y for x in unit[utterances == a] for y in unit[utterances == b]])
        assert means[a] @ means[b] == pytest.approx(expected, abs=1e-12)
