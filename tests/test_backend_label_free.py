"""Scores that need no label, against their definitions and where their values are known."""

import numpy as np
import pytest

from pydino.backend.label_free import alignment, label_free_scores, lidar, rankme, self_eer, uniformity


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def random_views(seed=0, utterances=40, q=6, dim=5, within=0.6):
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(utterances, 1, dim)) * np.linspace(0.3, 2, dim) + 0.4
    return centres + within * draw.normal(size=(utterances, q, dim))


def entropy_rank(p):
    p = p[p > 1e-14] / p.sum()
    return np.exp(-(p * np.log(p)).sum())


def test_lidar_equals_its_definition_with_symmetric_roots():
    views = random_views().astype(np.float32)
    x = unit(views.astype(np.float64)) * np.sqrt(views.shape[-1])
    mean, dim = x.reshape(-1, x.shape[-1]).mean(0), x.shape[-1]
    between, within = np.zeros((dim, dim)), 1e-4 * np.eye(dim)
    for utterance in x:
        m = utterance.mean(0)
        between += np.outer(m - mean, m - mean) / len(x)
        for view in utterance:
            within += np.outer(view - m, view - m) / (len(x) * x.shape[1])
    values, vectors = np.linalg.eigh(within)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    assert lidar(views) == pytest.approx(entropy_rank(np.linalg.eigvalsh(root @ between @ root)), rel=1e-9)


def test_lidar_of_isotropic_classes_is_the_dimension():
    dim = 6
    corners = np.concatenate([np.eye(dim), -np.eye(dim)])[:, None]
    assert lidar(np.repeat(corners, 3, axis=1)) == pytest.approx(dim)  # views without any variation
    # only two directions tell utterances apart, the others vary as much within an utterance
    draw = np.random.default_rng(1)
    noise = 0.05 * draw.normal(size=(12, 200, dim))
    noise -= noise.mean(axis=1, keepdims=True)
    two = corners[[0, 1, 6, 7]].repeat(3, axis=0)
    assert lidar(two + noise) == pytest.approx(2, abs=0.05)


def test_directions_that_vary_within_utterances_lower_lidar_but_not_rankme():
    draw = np.random.default_rng(2)
    centres = draw.normal(size=(300, 1, 8))
    calm = centres + 0.1 * draw.normal(size=(300, 4, 8))
    loud = centres * np.array([1.0] * 2 + [0.05] * 6) + draw.normal(size=(300, 4, 8)) * (
        [0.05] * 2 + [1.0] * 6
    )
    assert lidar(calm) > 7.5 and lidar(loud) < 3
    assert rankme(loud.reshape(-1, 8)) > 6


def test_rankme_where_it_is_known():
    assert rankme(3 * np.eye(7)) == pytest.approx(7)
    assert rankme(np.eye(7)[[0, 0, 1, 1]]) == pytest.approx(2)
    assert rankme(np.ones((5, 7))) == pytest.approx(1)
    x = unit(random_views().reshape(-1, 5))
    assert rankme(x) == pytest.approx(entropy_rank(np.sqrt(np.linalg.eigvalsh(x.T @ x))), rel=1e-9)


def test_self_eer_is_nothing_where_views_agree_and_half_where_they_are_drawn_at_random():
    same = np.repeat(random_views(dim=16)[:, :1], 6, axis=1)
    assert self_eer(same) == 0
    assert self_eer(np.ones((20, 4, 3))) == pytest.approx(0.5)
    draw = np.random.default_rng(3)
    assert self_eer(draw.normal(size=(400, 6, 8))) == pytest.approx(0.5, abs=0.03)


def test_self_eer_compares_the_pairs_it_says():
    """Views 1 and 2 agree, as 3 and 4 do; 2 and 3 do not."""
    draw = np.random.default_rng(4)
    pairs = draw.normal(size=(30, 2, 10))
    assert self_eer(np.repeat(pairs, 2, axis=1)) == 0
    assert self_eer(np.roll(np.repeat(pairs, 2, axis=1), 1, axis=1)) > 0.3


def test_alignment_and_uniformity_are_means_over_pairs():
    views = random_views(utterances=9, q=3)
    x = unit(views)
    pairs = [((x[:, a] - x[:, b]) ** 2).sum(1).mean() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert alignment(views) == pytest.approx(np.mean(pairs))
    kernel = [np.exp(-2 * ((x[i, 0] - x[j, 0]) ** 2).sum()) for i in range(9) for j in range(9) if i != j]
    assert uniformity(views) == pytest.approx(np.log(np.mean(kernel)))
    assert alignment(np.ones((4, 3, 2))) == pytest.approx(0) and uniformity(
        np.ones((4, 3, 2))
    ) == pytest.approx(0)


def test_the_scores_of_any_scale_and_order_of_dimensions_are_the_same():
    views = random_views()
    turned = (7 * views)[..., ::-1]
    assert label_free_scores(turned) == pytest.approx(label_free_scores(views), rel=1e-9)
