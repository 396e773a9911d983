"""Training of PLDA against loops over the formulas of its docstrings, and against the likelihood."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from pydino.backend import plda_training as module
from pydino.backend import train_plda, train_plda_chain, train_simplified_plda


@pytest.fixture(scope="module")
def data():
    """(vectors (N, 6), speakers): 70 speakers of 1 to 8 vectors who differ in two directions."""
    rng = np.random.default_rng(7)
    speakers = np.repeat(np.arange(70), rng.integers(1, 9, 70))
    loading = rng.standard_normal((6, 2)) * [2.0, 1.0]
    noise = rng.standard_normal((len(speakers), 6)) @ rng.standard_normal((6, 6)) * 0.5
    return rng.standard_normal((70, 2))[speakers] @ loading.T + noise + 3, speakers


def covariances(model):
    back = np.linalg.inv(model.transform)
    return back @ back.T, back @ np.diag(model.psi) @ back.T


def centred(vectors, speakers):
    """Per speaker its vectors, less the mean of the speakers' means."""
    groups = [vectors[speakers == s] for s in range(speakers.max() + 1)]
    mean = np.mean([group.mean(axis=0) for group in groups], axis=0)
    return [group - mean for group in groups]


def likelihood(model, vectors, speakers):
    within, between = covariances(model)
    total = 0.0
    for group in centred(vectors, speakers):
        covariance = np.kron(np.eye(len(group)), within) + np.kron(np.ones((len(group), len(group))), between)
        total += multivariate_normal(np.zeros(group.size), covariance).logpdf(group.ravel())
    return total


def naive_two_covariance(groups, iterations):
    dim = groups[0].shape[1]
    within, between = np.eye(dim), np.eye(dim)
    for _ in range(iterations):
        new_within, new_between = np.zeros((dim, dim)), np.zeros((dim, dim))
        for group in groups:
            n, m = len(group), group.mean(axis=0)
            variance = np.linalg.inv(np.linalg.inv(between) + n * np.linalg.inv(within))
            w = variance @ (n * np.linalg.inv(within) @ m)
            new_between += variance + np.outer(w, w)
            new_within += (group - m).T @ (group - m) + n * (variance + np.outer(m - w, m - w))
        within, between = new_within / sum(map(len, groups)), new_between / len(groups)
    return within, between


def naive_simplified(groups, within, loading, iterations):
    count = sum(map(len, groups))
    for _ in range(iterations):
        of_y, plain, cross = 0.0, 0.0, 0.0
        for group in groups:
            n, weighted = len(group), loading.T @ np.linalg.inv(within)
            variance = np.linalg.inv(np.eye(loading.shape[1]) + n * weighted @ loading)
            y = variance @ weighted @ group.sum(axis=0)
            plain = plain + variance + np.outer(y, y)
            of_y = of_y + n * (variance + np.outer(y, y))
            cross = cross + np.outer(group.sum(axis=0), y)
        loading = cross @ np.linalg.inv(of_y)
        within = (sum(group.T @ group for group in groups) - loading @ cross.T) / count
        loading = loading @ np.linalg.cholesky(plain / len(groups))
    return within, loading @ loading.T


def test_an_iteration_is_the_formula_class_by_class(data, monkeypatch):
    vectors, speakers = data
    expected = naive_two_covariance(centred(vectors, speakers), 10)
    for block in (1 << 15, 7):
        monkeypatch.setattr(module, "_BLOCK_ROWS", block)
        for ours, reference in zip(covariances(train_plda(vectors, speakers, 10)), expected, strict=True):
            np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-10)


def test_simplified_plda_is_the_formula_class_by_class(data, monkeypatch):
    vectors, speakers = data
    start = covariances(train_simplified_plda(vectors, speakers, 2, 0))
    variance, directions = np.linalg.eigh(start[1])
    loading = (directions * np.sqrt(np.maximum(variance, 0)))[:, -2:]
    expected = naive_simplified(centred(vectors, speakers), start[0], loading, 5)
    for block in (1 << 15, 7):
        monkeypatch.setattr(module, "_BLOCK_ROWS", block)
        ours = covariances(train_simplified_plda(vectors, speakers, 2, 5))
        for one, reference in zip(ours, expected, strict=True):
            np.testing.assert_allclose(one, reference, rtol=1e-8, atol=1e-9)


def test_simplified_plda_has_the_rank_asked_for_and_climbs(data):
    vectors, speakers = data
    values = []
    for iterations in (0, 1, 2, 5, 30):
        model = train_simplified_plda(vectors, speakers, 2, iterations)
        assert np.all(model.psi[2:] <= 1e-10 * model.psi[0]) and model.psi[1] > 0.1
        values.append(likelihood(model, vectors, speakers))
    assert values == sorted(values) and values[-1] > values[0] + 0.01


def test_simplified_plda_of_full_rank_converges_to_the_two_covariance_model(data):
    vectors, speakers = data
    vectors = vectors + 2 * np.random.default_rng(0).standard_normal((70, 6))[speakers]
    limits = [train_plda(vectors, speakers, 1000), train_simplified_plda(vectors, speakers, 6, 1000)]
    assert likelihood(limits[0], vectors, speakers) == pytest.approx(
        likelihood(limits[1], vectors, speakers), abs=0.02
    )
    for first, second in zip(*map(covariances, limits), strict=True):
        np.testing.assert_allclose(first, second, atol=0.01 * np.abs(first).max())


def test_simplified_plda_refuses_ranks_and_counts_that_do_not_fit(data):
    vectors, speakers = data
    for rank in (0, 7):
        with pytest.raises(ValueError, match="does not fit"):
            train_simplified_plda(vectors, speakers, rank)
    with pytest.raises(ValueError, match="6 vectors more than classes"):
        train_simplified_plda(vectors[:5], np.array([0, 0, 0, 1, 1]), 1)


def test_an_adapted_chain_takes_the_mean_of_its_vectors(data):
    vectors, speakers = data
    chain = train_plda_chain(vectors, speakers, 4, 10)
    moved = chain.adapt(vectors + 2.0)
    np.testing.assert_allclose(moved.mean, chain.mean + 2.0)
    # Vectors of the same spread elsewhere: after their own mean is taken off they are the same domain.
    np.testing.assert_allclose(moved.plda.psi, chain.adapt(vectors).plda.psi, rtol=1e-9)
