"""Equal error rate and minimum detection cost exactly as Kaldi's programs compute them, for comparison with
Kaldi's results.
"""

import numpy as np


def kaldi_eer(scores: np.ndarray, is_target: np.ndarray) -> tuple[float, float]:
    """Return (equal error rate in [0, 1], threshold) of ``ivectorbin/compute-eer.cc``.

    The rate is the place in the sorted targets p/T of the first target above the nontarget that leaves the
    same fraction of nontargets accepted: quantised to 1/T, never 1, and 0 for a single target.

    Args:
        scores: (N,), compared as float32; is_target: (N,) bools.
    """
    scores, is_target = np.asarray(scores, dtype=np.float32), np.asarray(is_target, dtype=bool)
    targets, nontargets = np.sort(scores[is_target]), np.sort(scores[~is_target])
    if not len(targets) or not len(nontargets):
        raise ValueError("error rates need trials of both kinds")
    places = np.arange(len(targets) - 1)
    opposite = np.maximum(len(nontargets) - 1 - len(nontargets) * places // len(targets), 0)
    crossed = np.flatnonzero(nontargets[opposite] < targets[places])
    place = int(crossed[0]) if len(crossed) else len(targets) - 1
    return place / len(targets), float(targets[place])


def kaldi_min_dcf(
    scores: np.ndarray, is_target: np.ndarray, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Return the cost of ``egs/sre08/v1/sid/compute_min_dcf.py``.

    Thresholds are after each trial of the stably sorted list, so ties are not merged, the result depends on
    their order, and accepting all trials is not an operating point.
    """
    order = np.argsort(np.asarray(scores, dtype=np.float64), kind="stable")
    targets = np.asarray(is_target, dtype=bool)[order]
    miss = np.cumsum(targets) / targets.sum()
    false_alarm = 1.0 - np.cumsum(~targets) / (~targets).sum()
    cost = c_miss * miss * p_target + c_fa * false_alarm * (1.0 - p_target)
    return float(cost.min() / min(c_miss * p_target, c_fa * (1.0 - p_target)))
