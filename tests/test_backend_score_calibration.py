"""Calibration of scores against closed forms and other programs, and what is drawn without labels."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from pydino.backend import min_dcf
from pydino.backend.bootstrap import bootstrap_means, draw_counts
from pydino.backend.crop_pairs import cluster_pairs, crop_pairs, utterance_pairs
from pydino.backend.quality import pair_measures
from pydino.backend.score_calibration import (
    act_dcf,
    bayes_threshold,
    cllr,
    fit_calibration,
    llr_measures,
    min_cllr,
)
from pydino.backend.thresholds import false_alarm_threshold


def gaussian_scores(targets=3000, nontargets=20_000, seed=0):
    """Scores whose LLR is 2 s - 2: of N(2, 1) and N(0, 1)."""
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(2, 1, targets), rng.normal(0, 1, nontargets)])
    return scores, np.arange(targets + nontargets) < targets


@pytest.mark.parametrize("prior", [0.01, 0.5])
def test_two_levels_have_a_closed_form(prior):
    """With two score values the model is saturated: each LLR is the logarithm of a ratio of shares."""
    scores = np.repeat([1.0, 3.0, 1.0, 3.0], [20, 60, 900, 100])
    is_target = np.repeat([True, False], [80, 1000])
    llrs = fit_calibration(scores, is_target, prior)(np.array([1.0, 3.0]))
    np.testing.assert_allclose(llrs, np.log([(20 / 80) / 0.9, (60 / 80) / 0.1]), atol=1e-3)


@pytest.mark.parametrize("prior", [0.05, 0.5])
def test_fusion_is_that_of_scikit_learn(prior):
    rng = np.random.default_rng(1)
    is_target = rng.random(4000) < 0.1
    scores = rng.normal(size=(4000, 3)) * [1.0, 50.0, 0.01] + [5.0, 1e3, 0.0]
    scores[is_target] += [1.5, 40.0, 0.0]
    ours = fit_calibration(scores, is_target, prior)
    standard = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    weights = np.where(is_target, prior / is_target.sum(), (1 - prior) / (~is_target).sum())
    theirs = LogisticRegression(C=1e6, tol=1e-10, max_iter=10_000)
    theirs.fit(standard, is_target, sample_weight=weights)  # C is of the sum: RIDGE is 1 / C
    log_odds = np.log(prior / (1 - prior))
    np.testing.assert_allclose(ours(scores), theirs.decision_function(standard) - log_odds, atol=1e-3)


def test_calibration_finds_the_likelihood_ratio_whatever_the_scale_and_the_counts():
    scores, is_target = gaussian_scores()
    fitted = fit_calibration(scores, is_target)
    assert (fitted.weights[0], fitted.offset) == (pytest.approx(2, abs=0.1), pytest.approx(-2, abs=0.1))
    scaled = fit_calibration(1e-3 * scores + 7, is_target)
    np.testing.assert_allclose(scaled(1e-3 * scores + 7), fitted(scores), atol=1e-6)
    twice = np.concatenate([scores, scores[~is_target]]), np.concatenate([is_target, is_target[~is_target]])
    np.testing.assert_allclose(fit_calibration(*twice)(scores), fitted(scores), atol=1e-3)


def test_degenerate_columns_and_separable_trials():
    scores, is_target = gaussian_scores(200, 800)
    alone = fit_calibration(scores, is_target)
    columns = np.column_stack([scores, np.full(1000, 3.0), scores])
    fused = fit_calibration(columns, is_target)
    assert fused.weights[1] == 0 and not fused.separable
    np.testing.assert_allclose(fused(columns), alone(scores), atol=1e-3)
    apart = fit_calibration(np.where(is_target, 1.0, -1.0), is_target)
    assert apart.separable and np.isfinite(apart(scores)).all()
    with pytest.raises(ValueError, match="all 5 trials are target"):
        fit_calibration(np.arange(5.0), np.ones(5, dtype=bool))
    with pytest.raises(ValueError, match="finite"):
        fit_calibration(np.array([np.inf, 1.0]), np.array([True, False]))


def test_cllr_of_known_ratios():
    is_target = np.array([True, False, False])
    assert cllr(np.zeros(3), is_target) == pytest.approx(1)
    assert cllr(np.array([40.0, -40.0, -40.0]), is_target) == pytest.approx(0, abs=1e-12)
    by_hand = 0.5 * (np.log2(1 + np.exp(-1)) + (np.log2(1 + np.exp(2)) + np.log2(1 + np.exp(-3))) / 2)
    assert cllr(np.array([1.0, 2.0, -3.0]), is_target) == pytest.approx(by_hand)


def test_min_cllr_is_isotonic_regression_and_no_monotone_map_is_better():
    rng = np.random.default_rng(2)
    scores, is_target = gaussian_scores(100, 400)
    scores = np.round(scores, 1)  # with ties
    share = IsotonicRegression(y_min=0, y_max=1).fit_transform(scores, is_target)
    with np.errstate(divide="ignore"):
        llrs = np.log(share) - np.log1p(-share) - np.log(100 / 400)
    assert min_cllr(scores, is_target) == pytest.approx(cllr(llrs, is_target), abs=1e-12)
    order = rng.permutation(500)
    assert min_cllr(np.exp(scores[order]), is_target[order]) == pytest.approx(min_cllr(scores, is_target))
    for slope, offset in rng.normal([2, -2], 1, (50, 2)):
        assert min_cllr(scores, is_target) <= cllr(abs(slope) * scores + offset, is_target) + 1e-12
    assert min_cllr(np.ones(500), is_target) == pytest.approx(1)
    assert min_cllr(is_target.astype(float), is_target) == 0


def test_act_dcf_by_hand_and_against_the_minimum():
    is_target = np.array([True, True, False, False, False, False])
    llrs = np.array([5.0, 1.0, 3.0, -1.0, -2.0, -3.0])
    assert bayes_threshold(0.05) == pytest.approx(np.log(19))  # 2.94: one of two missed, one of four accepted
    assert act_dcf(llrs, is_target, 0.05) == pytest.approx((0.05 * 0.5 + 0.95 * 0.25) / 0.05)
    assert act_dcf(llrs, is_target, 0.5, c_miss=1, c_fa=10) == pytest.approx((0.5 * 0.5 + 5 * 0.25) / 0.5)
    scores, is_target = gaussian_scores()
    for p_target in (0.01, 0.05):
        least = min_dcf(scores, is_target, p_target)
        assert least <= act_dcf(2 * scores - 2, is_target, p_target) < least + 0.02
        assert act_dcf(2 * scores + 2, is_target, p_target) > least + 0.3


def test_intervals_are_those_of_resampled_trials():
    rng = np.random.default_rng(3)
    left, right = rng.integers(0, 12, (2, 3000))
    is_target = left == right
    llrs = rng.normal(np.where(is_target, 2, -2), 2)
    counts = draw_counts(12, 50, 7)
    weights = counts[:, left] * np.where(is_target, 1, counts[:, right])
    means = bootstrap_means(np.array([llrs, llrs**2]), left, right, 12, 50, 7)
    np.testing.assert_allclose(means[1], (weights @ llrs**2) / weights.sum(axis=1))
    measures = {name: (value, ci) for name, value, ci in llr_measures(llrs, is_target, left, right)}
    assert list(measures) == ["actdcf_0.01", "actdcf_0.05", "cllr", "min_cllr"]
    for name, expected in (("cllr", cllr(llrs, is_target)), ("actdcf_0.05", act_dcf(llrs, is_target, 0.05))):
        value, (low, high) = measures[name]
        assert value == pytest.approx(expected) and low < value < high


def test_a_planted_effect_of_quality_is_found():
    """Scores of short utterances are worth less: fused with the duration, they are worth more than alone."""
    rng = np.random.default_rng(4)
    durations = np.log(rng.uniform(1, 20, (2, 20_000)))
    is_target = rng.random(20_000) < 0.2
    scores = rng.normal(np.where(is_target, 2.0, 0.0) + 1.5 * durations.min(axis=0), 1.0)
    measures = pair_measures(*durations)
    np.testing.assert_allclose(measures, pair_measures(*durations[::-1]))
    columns = np.column_stack([scores, measures])
    half = np.arange(20_000) < 10_000
    alone, fused = (
        fit_calibration(scores[half], is_target[half]),
        fit_calibration(columns[half], is_target[half]),
    )
    np.testing.assert_allclose(fused.weights / fused.weights[0], [1, -1.5, 0], atol=0.05)
    rest = is_target[~half]
    assert cllr(fused(columns[~half]), rest) < 0.8 * cllr(alone(scores[~half]), rest)


# Pairs without labels, and thresholds


def crops_of(utterances, each):
    return np.repeat(np.arange(utterances), each), np.tile(np.arange(1, each + 1), utterances)


def test_pairs_are_what_they_say():
    of, numbers = crops_of(40, 3)
    hashes = np.random.default_rng(5).integers(0, 2**63, 40).astype(np.uint64)
    first, second = crop_pairs(of, numbers, hashes, 10_000, seed=0)
    assert (
        len(first) == 40 * 3 and (of[first] == of[second]).all() and (numbers[first] < numbers[second]).all()
    )
    some = crop_pairs(of, numbers, hashes, 50, seed=0)
    assert len(some[0]) == 50 and set(zip(*some, strict=True)) < set(zip(first, second, strict=True))
    clusters = np.arange(40) // 4
    first, second = utterance_pairs(hashes, 10_000, 0, clusters)
    assert len(first) == 360  # half of the 40 * 36 / 2 pairs
    assert (clusters[first] != clusters[second]).all() and (hashes[first] < hashes[second]).all()
    assert len(set(zip(first, second, strict=True))) == 360
    assert len(utterance_pairs(hashes, 10_000, 0, np.zeros(40))[0]) == 0


def test_pairs_of_clusters_are_all_there_are_or_a_uniform_part_of_them():
    rng = np.random.default_rng(7)
    hashes, clusters = rng.integers(0, 2**63, 60).astype(np.uint64), rng.integers(0, 9, 60)
    clusters[clusters == 3] = 4  # a number that no utterance has
    expected = {
        (i, j) for i in range(60) for j in range(60) if hashes[i] < hashes[j] and clusters[i] == clusters[j]
    }
    assert set(zip(*cluster_pairs(hashes, clusters, 10_000, 0), strict=True)) == expected
    drawn = np.zeros((60, 60))
    for wanted in (20, len(expected) - 5):  # by draws, and of all
        for seed in range(400):
            pairs = cluster_pairs(hashes, clusters, wanted, seed)
            assert len(set(zip(*pairs, strict=True)) & expected) == wanted
            drawn[pairs] += wanted == 20
    counts = np.array([drawn[pair] for pair in expected])
    assert abs(counts.var() / (400 * 20 / len(expected) * (1 - 20 / len(expected))) - 1) < 0.3  # binomial
    renamed = rng.permutation(60)
    theirs = cluster_pairs(hashes[renamed], (8 - clusters)[renamed], 20, 1)
    assert [list(hashes[renamed][side]) for side in theirs] == [
        list(hashes[side]) for side in cluster_pairs(hashes, clusters, 20, 1)
    ]
    assert len(cluster_pairs(hashes, np.arange(60), 20, 0)[0]) == 0


def test_pairs_of_utterances_are_uniform():
    hashes = np.random.default_rng(5).integers(0, 2**63, 1000).astype(np.uint64)
    counts = np.bincount(np.concatenate(utterance_pairs(hashes, 50_000, 1)), minlength=1000)
    assert abs(counts.var() / 100 - 1) < 0.2  # Poisson


def test_pairs_depend_on_hashes_and_not_on_order():
    rng = np.random.default_rng(6)
    of, numbers = crops_of(30, 4)
    hashes = rng.integers(0, 2**63, 30).astype(np.uint64)
    order, renamed = rng.permutation(120), rng.permutation(30)
    place = np.argsort(renamed)

    def crops(of, hashes, numbers, seed):
        pairs = crop_pairs(of, numbers, hashes, 60, seed)
        return [(hashes[of[i]], numbers[i], hashes[of[j]], numbers[j]) for i, j in zip(*pairs, strict=True)]

    def utterances(hashes, clusters, seed):
        return [
            tuple(hashes[list(pair)])
            for pair in zip(*utterance_pairs(hashes, 60, seed, clusters), strict=True)
        ]

    ours = crops(of, hashes, numbers, 3), utterances(hashes, np.arange(30) // 3, 3)
    theirs = (
        crops(place[of[order]], hashes[renamed], numbers[order], 3),
        utterances(hashes[renamed], (np.arange(30) // 3)[renamed], 3),
    )
    assert ours == theirs
    assert ours[0] != crops(of, hashes, numbers, 4) and ours[1] != utterances(hashes, np.arange(30) // 3, 4)


def test_a_threshold_gives_the_rate_it_is_for():
    scores, is_target = gaussian_scores(2000, 50_000)
    units = np.random.default_rng(7).integers(0, 300, (2, len(scores)))
    found = false_alarm_threshold(scores, is_target, *units, rate=0.01, resamples=200)
    assert (scores[~is_target] >= found.score).sum() == 500  # the lowest such threshold
    assert (scores[~is_target] >= np.nextafter(found.score, -np.inf)).sum() == 501
    assert found.score == pytest.approx(norm.isf(0.01), abs=0.05)
    assert found.miss == (scores[is_target] < found.score).mean()
    low, high = found.score_interval
    assert low < norm.isf(0.01) < high and high - low < 0.2


def test_a_threshold_allows_for_hidden_targets():
    rng = np.random.default_rng(8)
    scores, is_target = gaussian_scores(5000, 100_000)
    hidden = rng.normal(2, 1, 2000)  # 2 % of what is taken for nontarget
    mixed = np.concatenate([scores[is_target], hidden, scores[~is_target][:98_000]])
    labels = np.arange(len(mixed)) < 5000
    units = rng.integers(0, 300, (2, len(mixed)))
    plain = false_alarm_threshold(mixed, labels, *units, 0.01, resamples=2).score
    corrected = false_alarm_threshold(mixed, labels, *units, 0.01, same_share=0.02, resamples=2).score
    assert plain > norm.isf(0.01) + 0.15
    assert corrected == pytest.approx(norm.isf(0.01), abs=0.06)
    with pytest.raises(ValueError, match="target and nontarget"):
        false_alarm_threshold(mixed, np.ones_like(labels), *units, 0.01)
