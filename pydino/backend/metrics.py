"""Error rates of detection trials: miss and false-alarm rates, equal error rate, detection cost.

The results reported are those of :func:`equal_error_rate` and :func:`min_dcf`: ties are merged,
every threshold is considered (including accepting all and rejecting all), and the equal error rate is
interpolated linearly between operating points. Kaldi's own definitions, which are quantised and depend on the
order of ties, are in ``kaldi_metrics.py`` for comparison.
"""

from functools import cached_property

import numpy as np


class TrialCurve:
    """Trials sorted once, so that the operating points under any weighting of the trials are cumulative sums.

    A trial is accepted when its score is at least the threshold. Only thresholds at the L distinct scores of
    target trials, just below or just above, can be corners: between two of them the miss rate is constant and
    the false-alarm rate falls in a straight line. The curve therefore has V = 2 L + 2 points, by rising
    threshold, from (miss 0, false alarm 1) to (1, 0).

    Args:
        scores: (N,) finite floats.
        is_target: (N,) bools, with both kinds present.
    """

    def __init__(self, scores: np.ndarray, is_target: np.ndarray):
        scores, is_target = np.asarray(scores, dtype=np.float64), np.asarray(is_target, dtype=bool)
        if not np.isfinite(scores).all():
            raise ValueError("scores must be finite numbers")
        if is_target.all() or not is_target.any():
            raise ValueError(
                f"all {len(scores)} trials are {'target' if is_target.any() else 'nontarget'}: error rates "
                "need both"
            )
        self._scores, self._is_target = scores, is_target
        sorted_targets, sorted_nontargets = scores[is_target], scores[~is_target]
        sorted_targets.sort()
        sorted_nontargets.sort()  # their order, which only weights need, would take several times as much
        self._counts = len(sorted_targets), len(sorted_nontargets)
        self.levels, self._level_start = np.unique(sorted_targets, return_index=True)
        self._targets_up_to = np.append(self._level_start[1:], len(sorted_targets))
        self._nontargets_below = np.searchsorted(sorted_nontargets, self.levels, side="left")
        self._nontargets_up_to = np.searchsorted(sorted_nontargets, self.levels, side="right")

    @cached_property
    def target_order(self) -> np.ndarray:
        """(Nt,) positions of the target trials by rising score, the order in which weights are given."""
        return self._order(self._is_target)

    @cached_property
    def nontarget_order(self) -> np.ndarray:
        """(Nn,) positions of the nontarget trials by rising score."""
        return self._order(~self._is_target)

    def _order(self, kind: np.ndarray) -> np.ndarray:
        places = np.flatnonzero(kind)
        return places[np.argsort(self._scores[places], kind="stable")]

    def rates(self, target_weights=None, nontarget_weights=None) -> tuple[np.ndarray, np.ndarray]:
        """Return miss and false-alarm rates, each (..., V).

        Args:
            target_weights: (..., Nt) in the order of ``target_order``; None for equal weights.
            nontarget_weights: (..., Nn) in the order of ``nontarget_order``; None for equal weights.
        """
        missed = _corners(target_weights, self._counts[0], self._level_start, self._targets_up_to)
        rejected = _corners(
            nontarget_weights, self._counts[1], self._nontargets_below, self._nontargets_up_to
        )
        return missed, 1.0 - rejected


def _running_sum(weights: np.ndarray) -> np.ndarray:
    """(..., N) -> (..., N + 1), the sum of the first k weights at k."""
    sums = np.zeros(
        (*weights.shape[:-1], weights.shape[-1] + 1),
        dtype=np.int64 if weights.dtype.kind in "iub" else np.float64,
    )
    np.cumsum(weights, axis=-1, out=sums[..., 1:])
    return sums


def _corners(weights: np.ndarray | None, count: int, below: np.ndarray, up_to: np.ndarray) -> np.ndarray:
    """Interleave the sums of the ``count`` weights just below and just above each level, between 0 and 1, as
    parts of the total.
    """
    places = np.concatenate([[0], np.stack([below, up_to], axis=1).ravel(), [count]])
    if weights is None:
        return places / count
    sums = _running_sum(weights)
    with np.errstate(invalid="ignore"):  # with no trial of a kind there are no rates: NaN
        return np.take(sums, places, axis=-1) / sums[..., -1:]


def equal_error_rate_of(miss: np.ndarray, false_alarm: np.ndarray) -> np.ndarray:
    """Return the rate, in [0, 1], where the lines between operating points (..., V) cross miss = false
    alarm.
    """
    gap = false_alarm - miss  # falls from 1 to -1
    # first point at or past the crossing; never the first of all
    after = np.argmax(gap <= 0, axis=-1, keepdims=True)
    before = np.maximum(after - 1, 0)
    gap_before, gap_after = np.take_along_axis(gap, before, -1), np.take_along_axis(gap, after, -1)
    miss_before, miss_after = np.take_along_axis(miss, before, -1), np.take_along_axis(miss, after, -1)
    rate = miss_before + gap_before / (gap_before - gap_after) * (miss_after - miss_before)
    return rate[..., 0]


def min_dcf_of(
    miss: np.ndarray, false_alarm: np.ndarray, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> np.ndarray:
    """Return the least normalised detection cost over operating points (..., V).

    min over points of (c_miss p miss + c_fa (1 - p) false_alarm) / min(c_miss p, c_fa (1 - p)); at most 1,
    the cost of the better of accepting all and rejecting all (NIST SRE 2008 and later plans).
    """
    miss_cost, fa_cost = c_miss * p_target, c_fa * (1.0 - p_target)
    return (miss_cost * miss + fa_cost * false_alarm).min(axis=-1) / min(miss_cost, fa_cost)


def equal_error_rate(scores: np.ndarray, is_target: np.ndarray) -> float:
    """Return the equal error rate in [0, 1]: interpolated, ties merged; 0.5 when all scores are equal.

    Args:
        scores: (N,); is_target: (N,) bools.
    """
    return float(equal_error_rate_of(*TrialCurve(scores, is_target).rates()))


def min_dcf(
    scores: np.ndarray, is_target: np.ndarray, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Return the minimum normalised detection cost, see :func:`min_dcf_of`."""
    return float(min_dcf_of(*TrialCurve(scores, is_target).rates(), p_target, c_miss, c_fa))


def thin_curve(miss: np.ndarray, false_alarm: np.ndarray, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return at most about ``points`` of the points (V,) of a curve, spread evenly over both axes of a DET
    plot.

    A DET plot has normal-deviate axes, so the ends, where rates are small, keep as much detail as the middle.
    """
    from scipy.special import ndtri

    if len(miss) <= points:
        return miss, false_alarm
    floor = 1e-6
    place = ndtri(np.clip(miss, floor, 1 - floor)) - ndtri(np.clip(false_alarm, floor, 1 - floor))
    wanted = np.linspace(place[0], place[-1], points)
    kept = np.unique(
        np.concatenate([[0, len(miss) - 1], np.clip(np.searchsorted(place, wanted), 0, len(miss) - 1)])
    )
    return miss[kept], false_alarm[kept]
