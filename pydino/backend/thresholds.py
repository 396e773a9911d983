"""The threshold for a wanted false-alarm rate, with its interval.

Axes: N pairs, B resamples.
"""

from dataclasses import dataclass

import numpy as np

from .bootstrap import TrialWeights, draw_counts, percentile_interval

_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class Threshold:
    """Pairs that score ``score`` or more are accepted.

    Attributes:
        score, miss: the threshold, and the share of target pairs below it, in [0, 1].
        score_interval, miss_interval: 95 %, or None where there are too few units.
    """

    score: float
    miss: float
    score_interval: list[float] | None
    miss_interval: list[float] | None


def false_alarm_threshold(
    scores: np.ndarray,
    is_target: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    rate: float,
    same_share: float = 0.0,
    resamples: int = 1000,
    seed: int = 0,
) -> Threshold:
    """Return the lowest threshold from which on the false-alarm rate is at most ``rate``.

    Where a share c of the nontarget pairs are really of one speaker, the rate of acceptance that is observed
    among them, A(t), is (1 - c) FA(t) + c (1 - miss(t)), so FA(t) = (A(t) - c (1 - miss(t))) / (1 - c). The
    miss rate is that of the target pairs; if they are easier than those hidden among the nontarget pairs,
    FA(t) is underestimated.

    Args:
        scores: (N,) finite floats; is_target: (N,) bools, both kinds present.
        left, right: (N,) ints, the unit (utterance) of each side, for the intervals; numbered from 0.
        rate: in (0, 1).
        same_share: c, in [0, 1).

    Raises:
        ValueError: values outside these ranges, or one kind only.
    """
    scores, is_target = np.asarray(scores, dtype=np.float64), np.asarray(is_target, dtype=bool)
    if is_target.all() or not is_target.any():
        raise ValueError("a threshold needs target and nontarget pairs")
    if not (0 < rate < 1 and 0 <= same_share < 1):
        raise ValueError(f"the rate {rate} must be in (0, 1), the share {same_share} in [0, 1)")
    targets, nontargets = np.flatnonzero(is_target), np.flatnonzero(~is_target)
    targets = targets[np.argsort(-scores[targets], kind="stable")]
    nontargets = nontargets[np.argsort(-scores[nontargets], kind="stable")]
    levels = np.unique(scores[nontargets])[::-1]  # thresholds lie just above one of these
    # How many are above each level, in the falling order of scores.
    above = [np.searchsorted(-scores[kind], -levels, side="left") for kind in (targets, nontargets)]

    def solve(target_weights, nontarget_weights):
        """(b, N) weights -> (b,) places in levels and miss rates."""
        hits = _shares(target_weights, above[0])
        accepted = _shares(nontarget_weights, above[1])
        within = accepted - same_share * hits <= rate * (1.0 - same_share) + 1e-12
        place = np.where(within.all(axis=1), len(levels), within.argmin(axis=1)) - 1
        return place, 1.0 - hits[np.arange(len(hits)), place]

    place, miss = solve(np.ones((1, len(targets))), np.ones((1, len(nontargets))))
    units = int(max(left.max(), right.max())) + 1
    counts = draw_counts(units, resamples, seed)
    weights = [TrialWeights(left[kind], right[kind], units) for kind in (targets, nontargets)]
    drawn_scores, drawn_miss = np.empty(resamples), np.empty(resamples)
    step = max(1, _BLOCK_BYTES // (8 * len(scores)))
    for start in range(0, resamples, step):
        part = slice(start, start + step)
        with np.errstate(invalid="ignore"):
            some, drawn_miss[part] = solve(*(weight(counts[part]) for weight in weights))
        drawn_scores[part] = levels[some]
    drawn_scores[~np.isfinite(drawn_miss)] = np.nan  # no target pair was drawn
    return Threshold(
        float(np.nextafter(levels[place[0]], np.inf)),
        float(miss[0]),
        percentile_interval(drawn_scores),
        percentile_interval(drawn_miss),
    )


def _shares(weights: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(b, N) weights -> (b, levels) the share of the first ``counts`` of them."""
    sums = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(weights, axis=1, dtype=np.float64)], axis=1)
    return sums[:, counts] / sums[:, -1:]
