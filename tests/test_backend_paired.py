"""Paired differences: by hand, by brute force, and whether the intervals cover; McNemar by scipy."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import recall_score

from pydino.backend import draw_counts, mcnemar, paired_difference


@pytest.fixture(scope="module")
def answers():
    """Truth, speakers and three runs of each of two systems, of which the first is right more often."""
    rng = np.random.default_rng(0)
    truth, speakers = rng.integers(0, 3, 240), np.arange(240) % 12
    runs = [np.where(rng.random((3, 240)) < rate, truth, rng.integers(0, 3, (3, 240))) for rate in (0.7, 0.4)]
    return truth, speakers, *runs


def test_a_system_ties_with_itself(answers):
    truth, speakers, one, _ = answers
    found = paired_difference("uar", one, one, truth, speakers, 3)
    assert (found.value, found.interval, found.verdict()) == (0, [0, 0], "tie")


def test_it_changes_its_sign_with_the_order(answers):
    truth, speakers, one, other = answers
    there, back = (
        paired_difference("uar", *pair, truth, speakers, 3) for pair in ((one, other), (other, one))
    )
    assert there.value == -back.value > 0
    assert there.interval == pytest.approx([-back.interval[1], -back.interval[0]])
    assert (there.verdict(), back.verdict()) == ("better", "worse")
    assert (there.verdict(lower_is_better=True), back.verdict(lower_is_better=True)) == ("worse", "better")


def test_it_is_what_resampled_units_give(answers):
    """The units of the drawn speakers are copied, as often as each is drawn, and measured by scikit-learn."""
    truth, speakers, one, other = answers
    found = paired_difference("uar", one, other[:2], truth, speakers, 3, resamples=60, seed=5)

    def difference(units):
        values = [
            np.mean([recall_score(truth[units], run[units], average="macro") for run in runs])
            for runs in (one, other[:2])
        ]
        return values[0] - values[1]

    drawn = [
        difference(np.concatenate([np.tile(np.flatnonzero(speakers == s), n) for s, n in enumerate(draws)]))
        for draws in draw_counts(12, 60, 5)
    ]
    assert found.value == pytest.approx(difference(np.arange(240)))
    assert found.interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist())


def test_numbers_are_compared_by_their_errors():
    rng = np.random.default_rng(1)
    truth, speakers = rng.normal(60, 10, 200), np.arange(200) % 20
    near, far = truth + rng.normal(0, 2, (1, 200)), truth + rng.normal(0, 6, (2, 200))
    found = paired_difference("mae", near, far, truth, speakers)
    assert found.value == pytest.approx(abs(near - truth).mean() - abs(far - truth).mean())
    assert found.verdict(lower_is_better=True) == "better"
    assert found.interval[0] < found.value < found.interval[1] < 0


def test_one_speaker_has_no_interval():
    truth = np.array([0, 1, 0, 1])
    found = paired_difference("uar", truth[None], 1 - truth[None], truth, np.zeros(4, dtype=int), 2)
    assert (found.value, found.interval, found.verdict()) == (1, None, "")


def test_the_interval_covers_the_true_difference_and_is_narrower_than_unpaired():
    """Speakers differ in how hard they are, for both systems alike: accuracies of 0.75 and 0.70 on average."""
    rng = np.random.default_rng(2)
    speakers, truth = np.repeat(np.arange(40), 15), np.zeros(600, dtype=int)
    covered, widths = [], []
    for trial in range(200):
        hard = rng.uniform(-0.2, 0.2, 40)[speakers]
        both = rng.random(600)  # what is hard for one is hard for the other
        one, other = (np.where(both < rate + hard, 0, 1)[None] for rate in (0.75, 0.70))
        low, high = paired_difference("accuracy", one, other, truth, speakers, 2, 300, trial).interval
        covered.append(low <= 0.05 <= high)
        widths.append(high - low)
    assert 0.9 <= np.mean(covered) <= 0.99
    assert np.mean(widths) < 0.5 * 2 * 1.96 * np.sqrt(2 * (0.04 / 3 + 0.2 / 15) / 40)


def test_mcnemar_is_the_binomial_test_of_the_units_on_which_they_differ():
    rng = np.random.default_rng(3)
    for count in (1, 10, 71):
        one, other = rng.random(count) < 0.8, rng.random(count) < 0.6
        b, c = int((one & ~other).sum()), int((~one & other).sum())
        expected = binomtest(b, b + c).pvalue if b + c else 1.0
        assert mcnemar(one, other) == pytest.approx(expected) == mcnemar(other, one)
    assert mcnemar(np.ones(5, bool), np.ones(5, bool)) == 1
