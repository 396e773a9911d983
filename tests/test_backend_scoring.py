"""Cosine, centring and PLDA scores: numbers worked out by hand, and what must not change them."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pydino.backend import cosine_features, fit_centring, normalise_length, score_pairs, train_plda


@pytest.fixture(scope="module")
def speakers():
    """(vectors of a two-covariance model, their speakers): 60 speakers with 1 to 6 vectors of dimension 5"""
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(60), rng.integers(1, 7, 60))
    return 2 * rng.standard_normal((60, 5))[labels] @ rng.standard_normal((5, 5)) + rng.standard_normal(
        (len(labels), 5)
    ) + 4, labels


def plda_scores(model, models, num_utts, tests):
    left, right = model.comparison_features(model.project(models, num_utts), num_utts, model.project(tests))
    return left @ right.T


def test_cosine_by_hand():
    left, right = cosine_features(
        np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[4.0, 3.0], [-6.0, -8.0], [8.0, -6.0]])
    )
    np.testing.assert_allclose(left @ right.T, [[0.96, -1.0, 0.0], [0.0, 0.0, 0.0]], atol=1e-15)


def test_length_normalisation_by_hand():
    np.testing.assert_allclose(
        normalise_length(np.array([[3.0, 4.0], [0.0, 0.0]])), np.array([[0.6, 0.8], [0, 0]]) * np.sqrt(2)
    )


@pytest.mark.parametrize("count", [7, 50_000])
def test_few_pairs_and_many_pairs_are_scored_alike(count):
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((130, 16)), rng.standard_normal((170, 16))
    rows, columns = rng.integers(0, 130, count), rng.integers(0, 170, count)
    np.testing.assert_allclose(
        score_pairs(left, right, rows, columns), (left @ right.T)[rows, columns], atol=1e-12
    )


def test_blocks_do_not_show(monkeypatch):
    monkeypatch.setattr("pydino.backend.cosine._BLOCK_BYTES", 3000)
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((30, 4)), rng.standard_normal((40, 4))
    rows, columns = rng.integers(0, 30, 999), rng.integers(0, 40, 999)
    np.testing.assert_allclose(
        score_pairs(left, right, rows, columns), (left @ right.T)[rows, columns], atol=1e-12
    )


def test_centring_takes_the_training_mean_off():
    centring = fit_centring("centred", np.array([[1.0, 2.0], [3.0, 6.0]]))
    np.testing.assert_allclose(centring(np.array([[2.0, 5.0]])), [[0.0, 1.0]])
    assert fit_centring("raw")(np.array([[2.0, 5.0]])).tolist() == [[2.0, 5.0]]


def test_whitened_training_embeddings_have_unit_covariance(speakers):
    vectors, _ = speakers
    white = fit_centring("whitened", vectors)(vectors)
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(5), atol=1e-10)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-10)


def test_whitened_cosines_do_not_depend_on_an_affine_map(speakers):
    vectors, _ = speakers
    mixing = np.random.default_rng(1).standard_normal((5, 5))
    cosines = []
    for x in (vectors, vectors @ mixing + 7):
        left, right = cosine_features(*(2 * [fit_centring("whitened", x)(x)]))
        cosines.append(left @ right.T)
    np.testing.assert_allclose(cosines[0], cosines[1], atol=1e-8)


def test_whitening_leaves_out_dimensions_without_variance(speakers):
    vectors, _ = speakers
    padded = np.hstack([vectors, np.full((len(vectors), 2), 3.0)])
    centring = fit_centring("whitened", padded)
    assert centring.projection.shape == (5, 7)
    off = padded[:4].copy()
    off[:, 5] += 1.0  # what training never saw must not count
    np.testing.assert_allclose(centring(off), centring(padded[:4]), atol=1e-8)
    few = fit_centring("whitened", vectors[:3])
    assert few.projection.shape[0] == 2


def test_centring_refuses_what_it_cannot_be_estimated_from():
    with pytest.raises(ValueError, match="embeddings are equal"):
        fit_centring("whitened", np.full((5, 3), 0.1, dtype=np.float32))
    with pytest.raises(ValueError, match="training embeddings"):
        fit_centring("centred")
    with pytest.raises(ValueError, match="unknown centring"):
        fit_centring("whitend", np.eye(3))


def test_plda_scores_are_the_ratio_of_gaussians(speakers):
    """ln p(u, v | one speaker) - ln p(u) p(v), from the full covariances, for a model u of n vectors."""
    vectors, labels = speakers
    model = train_plda(vectors, labels)
    inverse = np.linalg.inv(model.transform)
    within, between = inverse @ inverse.T, inverse @ np.diag(model.psi) @ inverse.T
    for n in (1, 3):
        u, v = vectors[:4], vectors[10:14]
        left, right = model.comparison_features(
            model.project(u, n, normalise=False), n, model.project(v, 1, normalise=False)
        )
        joint = np.block([[between + within / n, between], [between, between + within]])
        expected = [
            multivariate_normal(np.tile(model.mean, 2), joint).logpdf(np.concatenate([a, b]))
            - multivariate_normal(model.mean, between + within / n).logpdf(a)
            - multivariate_normal(model.mean, between + within).logpdf(b)
            for a, b in zip(u, v, strict=True)
        ]
        np.testing.assert_allclose(np.einsum("nk,nk->n", left, right), expected, rtol=1e-9, atol=1e-9)


def test_plda_scores_are_symmetric_for_single_utterances_only(speakers):
    vectors, labels = speakers
    model = train_plda(vectors, labels)
    one = plda_scores(model, vectors[:20], 1, vectors[:20])
    np.testing.assert_allclose(one, one.T, atol=1e-9)
    three = plda_scores(model, vectors[:20], 3, vectors[:20])
    assert np.abs(three - three.T).max() > 0.1


def test_plda_finds_the_model_the_data_came_from():
    """Many speakers of a known model: the covariances come back. (Those of Kaldi's 10 iterations: EM is not
    at its end.)
    """
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(2000), 5)
    spread = np.array([3.0, 1.0, 0.5])
    vectors = (rng.standard_normal((2000, 3)) * np.sqrt(spread))[labels] + rng.standard_normal((10_000, 3))
    np.testing.assert_allclose(train_plda(vectors, labels, 50).psi, spread, rtol=0.1)


def test_trained_plda_scores_do_not_depend_on_rotation_and_shift(speakers):
    vectors, labels = speakers
    rotation, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((5, 5)))
    scores = [plda_scores(train_plda(x, labels), x[:30], 2, x) for x in (vectors, vectors @ rotation.T - 9)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


def test_converged_plda_scores_do_not_depend_on_any_affine_map(speakers):
    """Kaldi starts EM at the unit matrix, so that only its limit is free of the scale of the input."""
    vectors, labels = speakers
    mixing = np.eye(5) + 0.3 * np.random.default_rng(2).standard_normal((5, 5))
    scores = [plda_scores(train_plda(x, labels, 3000), x[:30], 1, x) for x in (vectors, vectors @ mixing + 1)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-3)


def test_plda_refuses_single_utterances_and_few_vectors():
    with pytest.raises(ValueError, match="two vectors or more"):
        train_plda(np.random.default_rng(0).standard_normal((9, 3)), np.arange(9))
    with pytest.raises(ValueError, match="more than 3"):
        train_plda(np.zeros((3, 3)), np.array([0, 0, 1]))
