"""Error rates on lists that can be worked out by hand, and intervals on data whose truth is known."""

import numpy as np
import pytest
from scipy.stats import norm

from pydino.backend import (
    TrialCurve,
    bootstrap,
    bootstrap_trials,
    draw_counts,
    equal_error_rate,
    kaldi_eer,
    min_dcf,
    percentile_interval,
    thin_curve,
)


def trials(target, nontarget):
    return np.array([*target, *nontarget], dtype=float), np.array(
        [True] * len(target) + [False] * len(nontarget)
    )


@pytest.mark.parametrize(
    "target, nontarget, expected",
    [
        ([2, 3], [0, 1], 0.0),  # separable
        ([0, 1], [2, 3], 1.0),  # separable the wrong way round
        ([1, 2, 3], [1, 2, 3], 0.5),  # identical
        ([5], [5, 5, 5], 0.5),  # all equal
        ([1, 3, 4, 5], [0, 0.5, 2, 2.5], 0.25),  # one of four on the wrong side
        # crossing on the level miss 1/2 ... false alarm falls through 1/2 at score 2
        ([1, 3], [0, 0, 2], 1 / 3),
        ([0, 2], [0, 0], 1 / 3),  # a tie: from (0, 1) to (1/2, 0) in a straight line
    ],
)
def test_equal_error_rate_by_hand(target, nontarget, expected):
    # The sixth list: below 1 (miss 0, fa 1/3), above 1 (1/2, 1/3): the line between crosses the diagonal at
    # 1/3.
    assert equal_error_rate(*trials(target, nontarget)) == pytest.approx(expected, abs=1e-12)


def test_equal_error_rate_does_not_see_order_and_monotone_maps():
    rng = np.random.default_rng(0)
    scores, labels = np.round(rng.standard_normal(500), 1), rng.random(500) < 0.2
    order = rng.permutation(500)
    rate = equal_error_rate(scores, labels)
    assert equal_error_rate(scores[order], labels[order]) == rate
    assert equal_error_rate(np.exp(scores), labels) == pytest.approx(rate, abs=1e-12)
    assert equal_error_rate(-scores, ~labels) == pytest.approx(rate, abs=1e-12)


def test_equal_error_rate_of_gaussians():
    rng = np.random.default_rng(0)
    scores, labels = trials(rng.standard_normal(200_000) + 2, rng.standard_normal(200_000))
    assert equal_error_rate(scores, labels) == pytest.approx(norm.cdf(-1), abs=2e-3)
    assert kaldi_eer(scores, labels)[0] == pytest.approx(equal_error_rate(scores, labels), abs=1e-4)


def test_min_dcf_by_hand():
    scores, labels = trials([1, 3], [0, 2])
    # Just above 0: miss 0, false alarm 1/2; just above 2: miss 1/2, false alarm 0.
    assert min_dcf(scores, labels, 0.5) == pytest.approx(0.5)
    assert min_dcf(scores, labels, 0.01) == pytest.approx(0.5)
    assert min_dcf(scores, labels, 0.9) == pytest.approx(0.5)
    assert min_dcf(*trials([0], [1]), 0.01) == 1.0  # never worse than rejecting all
    assert min_dcf(*trials([0], [1]), 0.99) == 1.0  # nor than accepting all
    assert min_dcf(*trials([1], [1]), 0.01) == 1.0  # a tie is no decision


def test_one_kind_of_trial_and_nan_are_refused():
    with pytest.raises(ValueError, match="all 2 trials are target"):
        equal_error_rate([1.0, 2.0], [True, True])
    with pytest.raises(ValueError, match="finite"):
        equal_error_rate([1.0, np.nan], [True, False])


def test_curve_runs_from_accepting_all_to_rejecting_all():
    rng = np.random.default_rng(0)
    scores, labels = np.round(rng.standard_normal(5000), 2), rng.random(5000) < 0.3
    miss, false_alarm = TrialCurve(scores, labels).rates()
    assert (miss[0], false_alarm[0], miss[-1], false_alarm[-1]) == (0, 1, 1, 0)
    assert (np.diff(miss) >= 0).all() and (np.diff(false_alarm) <= 0).all()
    thin = thin_curve(miss, false_alarm, 50)
    assert 30 <= len(thin[0]) <= 60 and (thin[0][0], thin[1][-1]) == (0, 0)


def test_weights_are_repetitions():
    """A weighted list has the rates of the list with each trial repeated as often."""
    rng = np.random.default_rng(1)
    scores, labels, times = (
        np.round(rng.standard_normal(300), 1),
        rng.random(300) < 0.4,
        rng.integers(0, 4, 300),
    )
    curve = TrialCurve(scores, labels)
    weighted = curve.rates(times[curve.target_order], times[curve.nontarget_order])
    repeated = np.repeat(scores, times), np.repeat(labels, times)
    from pydino.backend.metrics import equal_error_rate_of, min_dcf_of

    assert equal_error_rate_of(*weighted) == pytest.approx(equal_error_rate(*repeated), abs=1e-12)
    assert min_dcf_of(*weighted, 0.05) == pytest.approx(min_dcf(*repeated, 0.05), abs=1e-12)


def test_bootstrap_is_what_a_loop_would_do():
    rng = np.random.default_rng(2)
    left, right = rng.integers(0, 8, 400), rng.integers(0, 8, 400)
    labels = left == right
    scores = rng.standard_normal(400) + labels
    rates, costs = bootstrap_trials(TrialCurve(scores, labels), left, right, (0.05,), resamples=5, seed=3)
    for counts, rate, cost in zip(draw_counts(8, 5, 3), rates, costs[0], strict=True):
        times = np.where(labels, counts[left], counts[left] * counts[right])
        assert equal_error_rate(np.repeat(scores, times), np.repeat(labels, times)) == pytest.approx(
            rate, abs=1e-12
        )
        assert min_dcf(np.repeat(scores, times), np.repeat(labels, times), 0.05) == pytest.approx(
            cost, abs=1e-12
        )


def test_draws_are_whole_samples_and_seeded():
    counts = draw_counts(30, 2000, 0)
    assert (counts.sum(axis=1) == 30).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(30), abs=0.12)
    assert (draw_counts(30, 2000, 0) == counts).all() and (draw_counts(30, 2000, 1) != counts).any()


def test_intervals_cover_the_truth():
    """Scores with a random effect of each speaker: an interval over speakers holds the true rate about 95
    times of 100.

    One over independent trials would do so about half of the time: that is what the speakers are drawn for.
    """
    rng = np.random.default_rng(4)
    truth = norm.cdf(-1 / np.sqrt(1 + 0.5))
    covered = 0
    for _ in range(100):
        effect = np.sqrt(0.5) * rng.standard_normal(30)  # of a speaker's own trials
        pair = np.sqrt(0.25) * rng.standard_normal((2, 30))
        target = np.repeat(np.arange(30), 10)
        a, b = rng.integers(0, 30, 3000), rng.integers(0, 30, 3000)
        a, b = a[a != b], b[a != b]
        scores = np.concatenate(
            [
                2 + effect[target] + rng.standard_normal(300),
                pair[0][a] + pair[0][b] + rng.standard_normal(len(a)),
            ]
        )
        left, right = np.concatenate([target, a]), np.concatenate([target, b])
        rates, _ = bootstrap_trials(TrialCurve(scores, left == right), left, right, resamples=200, seed=0)
        low, high = percentile_interval(rates)
        covered += low <= truth <= high
    assert 86 <= covered <= 100


def test_too_few_speakers_have_no_interval():
    left, right = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0])
    rates, _ = bootstrap_trials(TrialCurve(np.arange(4.0), left == right), left, right, resamples=100)
    assert np.isnan(rates).any()  # one of the two drawn twice: no nontarget trial
    assert percentile_interval(np.array([np.nan, np.nan, 0.3])) is None


def test_intervals_of_very_many_trials_are_of_a_draw_of_them(monkeypatch):
    """All targets, and about as many nontargets as are wanted; the interval is about that of all."""
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(30), 8)
    left, right = (speaker[side] for side in np.triu_indices(len(speaker), 1))
    same = left == right
    scores = rng.normal(size=len(same)) + 2 * same + rng.normal(size=30)[left]
    assert bootstrap.trials_to_resample(same, 0) is None
    monkeypatch.setattr(bootstrap, "MOST_OF_A_KIND", 5000)
    places = bootstrap.trials_to_resample(same, 0)
    assert same[places].sum() == same.sum() and abs((~same[places]).sum() - 5000) < 300
    assert (np.diff(places) > 0).all() and not np.array_equal(places, bootstrap.trials_to_resample(same, 1))
    intervals = [
        bootstrap.percentile_interval(
            bootstrap_trials(TrialCurve(scores[p], same[p]), left[p], right[p], resamples=300, seed=0)[0]
        )
        for p in (slice(None), places)
    ]
    np.testing.assert_allclose(*intervals, atol=0.015)
