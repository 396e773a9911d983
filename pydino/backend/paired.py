"""Is one system better than another on the same test units? Differences of their measures, with intervals by
paired bootstrap over speakers, and McNemar's test.

Two systems that are tested on the same units err on the same difficult speakers. The interval of their
difference is therefore narrower than those of the two values suggest, and is the one to look at (Efron and
Tibshirani 1993, ch. 8; for classifiers Dror et al., ACL 2018).
Axes: R, Q runs (seeds) of the two systems, N units, S speakers, B resamples.
"""

from dataclasses import dataclass

import numpy as np

from .bootstrap import draw_counts, percentile_interval
from .measures import class_measures, number_measures, speaker_confusions, speaker_sums


@dataclass(frozen=True)
class PairedDifference:
    """The measure of one system minus that of another.

    Attributes:
        value: the difference, in the unit of the measure; those of classes are in [-1, 1].
        interval: its 95 % interval [low, high]; None where there is none, as with a single speaker.
    """

    value: float
    interval: list[float] | None

    def verdict(self, lower_is_better: bool = False) -> str:
        """Return whether the first system is ``better`` or ``worse``; ``tie`` where the interval holds 0, and
        an empty string where there is none.
        """
        if self.interval is None:
            return ""
        low, high = self.interval
        if low <= 0 <= high:
            return "tie"
        return "better" if (low > 0) != lower_is_better else "worse"


def paired_difference(
    metric: str,
    first: np.ndarray,
    second: np.ndarray,
    truth: np.ndarray,
    speakers: np.ndarray,
    classes: int = 0,
    resamples: int = 1000,
    seed: int = 0,
) -> PairedDifference:
    """Return the difference of a measure, m(first) - m(second), each the mean over the system's runs.

    A resample draws whole speakers with replacement, the same for both systems and all of their runs:

        d_b = mean_r m(first_r, b) - mean_q m(second_q, b)

    and the interval is that of the middle 95 % of d_b. It is about other speakers, and not about other seeds.

    Args:
        metric: of :func:`class_measures`, or for numbers of :func:`number_measures`.
        first, second: (R, N) and (Q, N) class numbers or numbers that were predicted.
        truth: (N,); speakers: (N,) ints from 0 to S - 1.
        classes: the number of classes K; 0: numbers.
        resamples: B; seed: of the bootstrap.
    """
    tables = [[_of_speakers(run, truth, speakers, classes) for run in runs] for runs in (first, second)]
    one, other = (np.mean([_measure(t.sum(0), metric, classes) for t in runs]) for runs in tables)
    value = float(one - other)
    count = int(speakers.max()) + 1
    if count < 2:
        return PairedDifference(value, None)
    draws = draw_counts(count, resamples, seed).astype(np.float64)
    drawn = [np.mean([_measure(draws @ t, metric, classes) for t in runs], axis=0) for runs in tables]
    return PairedDifference(value, percentile_interval(drawn[0] - drawn[1]))


def _of_speakers(predicted, truth, speakers, classes) -> np.ndarray:
    """(S, K * K) confusion counts, or (S, 8) sums, whose weighted sums have the measures of a resample."""
    if classes:
        return speaker_confusions(truth, predicted, speakers, classes).reshape(-1, classes * classes)
    return speaker_sums(truth, predicted, speakers)


def _measure(tables: np.ndarray, metric: str, classes: int) -> np.ndarray:
    if not classes:
        return number_measures(tables)[metric]
    return class_measures(tables.reshape(*tables.shape[:-1], classes, classes))[metric]


def mcnemar(first_is_right: np.ndarray, second_is_right: np.ndarray) -> float:
    """Return the two-sided p of McNemar's exact test that two classifiers are right equally often.

    Of the b + c units on which one of them alone is right, b by the first, b is binomial with probability
    1/2: p = min(1, 2 P(B <= min(b, c))) (McNemar 1947). It takes the units as independent: one a speaker.

    Args:
        first_is_right, second_is_right: (N,) bools.
    """
    first, second = np.asarray(first_is_right, dtype=bool), np.asarray(second_is_right, dtype=bool)
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    from scipy.special import bdtr  # slow to import, and most verbs do not need it

    return min(1.0, 2.0 * float(bdtr(min(b, c), b + c, 0.5)))
