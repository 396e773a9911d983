"""Error rates of a part of the trials, such as those whose two sides have one emotion: at the threshold of
all trials, and at one of their own.
"""

from dataclasses import dataclass

import numpy as np

from .bootstrap import bootstrap_means, bootstrap_trials, percentile_interval
from .metrics import TrialCurve, equal_error_rate_of

FEW_TRIALS = 20  # of either kind, below which no rate is given
FEW_SPEAKERS = 5


@dataclass(frozen=True)
class Rate:
    """A rate in [0, 1] with its 95 % interval over speakers, or None."""

    value: float
    interval: list[float] | None


@dataclass(frozen=True)
class SubsetErrors:
    """Errors of some trials; None where there are too few.

    Attributes:
        targets, nontargets: numbers of trials.
        eer: equal error rate of these trials alone, with a threshold of their own.
        miss, false_alarm: at the threshold of all trials.
    """

    targets: int
    nontargets: int
    eer: Rate | None
    miss: Rate | None
    false_alarm: Rate | None


def eer_threshold(scores: np.ndarray, is_target: np.ndarray) -> float:
    """Return the score from which on a trial is accepted at the operating point nearest to miss =
    false alarm.
    """
    curve = TrialCurve(scores, is_target)
    miss, false_alarm = curve.rates()
    # Points 1 + 2 l and 2 + 2 l are just below (accepting) and just above the level l.
    place = int(np.argmin(np.abs(miss - false_alarm)[1:-1]))
    level = curve.levels[place // 2]
    return float(level if place % 2 == 0 else np.nextafter(level, np.inf))


def subset_errors(
    scores: np.ndarray,
    is_target: np.ndarray,
    left: np.ndarray | None,
    right: np.ndarray | None,
    threshold: float,
    resamples: int = 300,
    seed: int = 0,
) -> SubsetErrors:
    """Return the errors of trials.

    A rate of fewer than ``FEW_TRIALS`` trials is None, and so is the equal error rate if either kind has so
    few. Intervals need ``FEW_SPEAKERS`` speakers.

    Args:
        scores: (N,); is_target: (N,) bools, of one kind only if need be.
        left, right: (N,) ints, the speaker of each side, numbered from 0; None: no intervals.
        threshold: of all trials (:func:`eer_threshold`).
        resamples: of the bootstrap; 0: no intervals.
    """
    scores, is_target = np.asarray(scores, dtype=np.float64), np.asarray(is_target, dtype=bool)
    targets, nontargets = int(is_target.sum()), int((~is_target).sum())
    drawn = bool(resamples) and left is not None and len(np.unique([left, right])) >= FEW_SPEAKERS

    def rate_of(kind: np.ndarray, wrong: np.ndarray) -> Rate | None:
        if kind.sum() < FEW_TRIALS:
            return None
        interval = None
        if drawn:
            units = int(max(left.max(), right.max())) + 1
            values = wrong[kind][None].astype(np.float64)
            means = bootstrap_means(values, left[kind], right[kind], units, resamples, seed)
            interval = percentile_interval(means[0])
        return Rate(float(wrong[kind].mean()), interval)

    eer = None
    if min(targets, nontargets) >= FEW_TRIALS:
        curve = TrialCurve(scores, is_target)
        rates = bootstrap_trials(curve, left, right, (), resamples, seed)[0] if drawn else None
        eer = Rate(
            float(equal_error_rate_of(*curve.rates())), None if rates is None else percentile_interval(rates)
        )
    return SubsetErrors(
        targets,
        nontargets,
        eer,
        rate_of(is_target, scores < threshold),
        rate_of(~is_target, scores >= threshold),
    )
