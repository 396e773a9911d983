"""What may be reached by chance: the smallest value that is significantly above it."""

import math

import numpy as np

LEVEL = 0.05  # one-sided


def independent_draws(per_class: np.ndarray) -> int:
    """Return the number of draws whose fraction of hits varies as much as the unweighted average recall does
    for answers that are independent of the labels.

    With n_k draws of class k, of which each is hit with probability 1 / K, the average recall has the
    variance (1 / K^2) sum_k p (1 - p) / n_k, p = 1 / K, and the fraction of hits of n draws has p (1 - p) /
    n; they are equal for n = K^2 / sum_k (1 / n_k), K times the harmonic mean. For classes of equal size that
    is the number of all draws, and average recall is accuracy, so the binomial bound below is exact. It is
    rounded.

    Args:
        per_class: (K,) counts; classes without any are left out.
    """
    counts = np.asarray(per_class, dtype=np.float64)
    counts = counts[counts > 0]
    return round(float(len(counts) ** 2 / (1 / counts).sum())) if len(counts) else 0


def smallest_significant(draws: int, classes: int, level: float = LEVEL) -> float:
    """Return the smallest fraction of hits in [0, 1] that is above chance: h / n with the least h for which
    P(B >= h) <= level, where B is binomial with n draws of probability 1 / K.

    Infinite where even n hits of n are not significant. Examples for two classes at 5 %: 31 of 48, 43 of 71,
    64 of 108, 95 of 166.

    Args:
        draws: n, independent of each other.
        classes: K.
        level: one-sided.
    """
    if draws < 1:
        return math.inf
    from scipy.stats import binom  # slow to import, and most verbs do not need it

    hits = int(binom.isf(level, draws, 1 / classes)) + 1
    return hits / draws if hits <= draws else math.inf
