"""Score normalisation by a cohort: z-norm (Li and Porter 1988), t-norm (Auckenthaler, Carey and Lloyd-Thomas
2000), s-norm (Kenny 2010) and adaptive s-norm (Cumani, Batzu, Colibro, Vair, Laface and Vasilakakis 2011;
"AS-norm1" of Matejka et al. 2017).

A score s(e, t) of model e and test vector t is shifted and scaled by the scores that either has with a cohort
of vectors of other speakers. With mean m_e and standard deviation d_e of s(e, c) over the cohort, and m_t and
d_t of s(c, t),

    z-norm  (s - m_e) / d_e
    t-norm  (s - m_t) / d_t
    s-norm  the mean of the two
    as-norm s-norm with m and d of the N highest scores of each side, chosen for e and for t separately.

The standard deviation is that of the population (divided by the number of scores, not by one less). With the
whole cohort, adaptive s-norm is s-norm.

Scores are inner products, s(e, t) = left[e] @ right[t], of cosine and PLDA alike, so moments over the whole
cohort need no cohort score: m_e = left[e] @ mean(right), d_e^2 = left[e] @ covariance(right) @ left[e]. The
highest are chosen from blocks of the matrix of cohort scores.
"""

from dataclasses import dataclass

import numpy as np

NORMALISATIONS = ("none", "z-norm", "t-norm", "s-norm", "as-norm")
_BLOCK_BYTES = 64 << 20
# Rounding of cohort scores of this magnitude explains a standard deviation below this share of it.
_SPREAD_FLOOR = 1e-10


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation (N,) of the cohort scores of each vector of one side."""

    mean: np.ndarray
    deviation: np.ndarray


def cohort_moments(side: np.ndarray, cohort: np.ndarray, top: int | None = None) -> Moments:
    """Return the moments of the scores of each vector with the cohort.

    Args:
        side: (N, K) left features of the models, or right ones of the tests.
        cohort: (C, K) the cohort's features of the other side.
        top: take only so many of the highest scores of each vector; None, or a number not below C, takes all.

    Raises:
        ValueError: less than two scores to take the deviation of, or scores that do not vary: nothing can be
            divided by their deviation.
    """
    count = len(cohort) if top is None else min(top, len(cohort))
    if count < 2:
        raise ValueError(f"score normalisation needs two cohort scores or more, not {count}")
    side, cohort = np.asarray(side, dtype=np.float64), np.asarray(cohort, dtype=np.float64)
    if count == len(cohort):
        centre = cohort.mean(axis=0)
        spread = cohort - centre
        covariance = spread.T @ spread / count
        mean = side @ centre
        variance = np.einsum("nk,nk->n", side @ covariance, side)
        deviation = np.sqrt(np.maximum(variance, 0.0))
    else:
        mean, deviation = np.empty(len(side)), np.empty(len(side))
        step = max(1, _BLOCK_BYTES // (8 * len(cohort)))
        for start in range(0, len(side), step):
            part = slice(start, start + step)
            scores = side[part] @ cohort.T
            scores.partition(len(cohort) - count, axis=1)
            highest = scores[:, len(cohort) - count :]
            mean[part], deviation[part] = highest.mean(axis=1), highest.std(axis=1)
    if np.any(deviation <= _SPREAD_FLOOR * np.maximum(np.abs(mean), np.finfo(float).tiny)):
        raise ValueError(
            "score normalisation divides by the deviation of the cohort scores, and those of a vector do not "
            "vary: the cohort's vectors are all equal, or that vector is zero"
        )
    return Moments(mean, deviation)


def normalise_scores(
    scores: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    models: Moments | None = None,
    tests: Moments | None = None,
) -> np.ndarray:
    """Normalise scores (N,) of the pairs (rows[k], columns[k]) in place, and return them.

    Args:
        models: moments of the models' cohort scores (z-norm), or None.
        tests: moments of the tests' (t-norm), or None. With both, the mean of the two (s-norm).
    """
    share = 0.5 if models is not None and tests is not None else 1.0
    # s-norm is linear in the score: (scale_e + scale_t) s + (offset_e + offset_t)
    sides = [
        (share / one.deviation, -share * one.mean / one.deviation, places)
        for one, places in ((models, rows), (tests, columns))
        if one is not None
    ]
    step = 1 << 20  # pairs, so that what is gathered stays small beside the scores
    for start in range(0, len(scores) if sides else 0, step):
        part = slice(start, start + step)
        scale = sum(side[0][side[2][part]] for side in sides)
        scores[part] *= scale
        for _, offset, places in sides:
            scores[part] += offset[places[part]]
    return scores
