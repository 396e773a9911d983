"""Calibration and fusion of verification scores, and measures of calibrated scores.

A calibrated score is a log-likelihood ratio (LLR), natural logarithm: log p(scores | same speaker) - log
p(scores | different speakers). Bayes' rule then gives the threshold for any prior and costs
(:func:`bayes_threshold`), with nothing to tune. Calibration and fusion are affine, fitted by prior-weighted
logistic regression (Brümmer and du Preez, "Application-independent evaluation of speaker detection", Computer
Speech and Language 2006; Brümmer et al., "Fusion of heterogeneous speaker recognition systems in the STBU
submission", TASLP 2007; the FoCal and BOSARIS toolkits).

Axes: N trials, K score files or quality measures.
"""

from dataclasses import dataclass

import numpy as np

from .bootstrap import bootstrap_means, percentile_interval

RIDGE = 1e-6  # see fit_calibration
_ITERATIONS = 200


@dataclass(frozen=True)
class Calibration:
    """LLR = scores @ weights + offset.

    Attributes:
        weights: (K,).
        offset: in nats.
        separable: the trials of the fit could be told apart without an error, so nothing but RIDGE bounds the
            scale of the LLRs.
    """

    weights: np.ndarray
    offset: float
    separable: bool = False

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """(N, K) or, with one weight, (N,) -> (N,) LLRs."""
        return _columns(scores) @ self.weights + self.offset


def bayes_threshold(p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Return the LLR from which on accepting costs least: log(c_fa (1 - p_target)) - log(c_miss p_target)."""
    return float(np.log(c_fa * (1.0 - p_target)) - np.log(c_miss * p_target))


def fit_calibration(scores: np.ndarray, is_target: np.ndarray, prior: float = 0.05) -> Calibration:
    """Fit weights w and offset b by minimising

        P / Nt sum_target log(1 + exp(-(l + logit P))) + (1 - P) / Nn sum_nontarget log(1 + exp(l + logit P))
        + RIDGE / 2 |w|^2,        l = s @ w + b,

    where P is ``prior``: errors matter most near the threshold of that prior. It does not matter how many
    trials of either kind there are. Scores are standardised for the fit, which is Newton's method with
    backtracking: the objective is convex, and RIDGE (on the standardised weights) gives it a minimum where
    the trials are separable too; elsewhere it changes the LLRs by less than 1e-4. A column that does not vary
    gets the weight 0.

    Args:
        scores: (N, K) or (N,) finite floats.
        is_target: (N,) bools, with both kinds present.
        prior: of a target, in (0, 1).

    Raises:
        ValueError: other shapes or values.
    """
    scores, is_target = _columns(scores), _both_kinds(is_target)
    if len(scores) != len(is_target):
        raise ValueError(f"{len(scores)} scores of {len(is_target)} trials")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite numbers")
    if not 0 < prior < 1:
        raise ValueError(f"the prior must be between 0 and 1, got {prior}")
    mean, deviation = scores.mean(axis=0), scores.std(axis=0)
    varies = deviation > 1e-12 * np.maximum(1.0, np.abs(mean))
    scale = np.where(varies, deviation, 1.0)
    inputs = np.column_stack([np.where(varies, (scores - mean) / scale, 0.0), np.ones(len(scores))])
    sign = np.where(is_target, 1.0, -1.0)
    share = np.where(is_target, prior / is_target.sum(), (1.0 - prior) / (~is_target).sum())
    solution = _newton(inputs, sign, share, float(np.log(prior) - np.log1p(-prior)))
    weights = np.where(varies, solution[:-1] / scale, 0.0)
    fitted = inputs @ solution
    return Calibration(
        weights,
        float(solution[-1] - mean @ weights),
        separable=bool(fitted[is_target].min() > fitted[~is_target].max()),
    )


def _newton(inputs: np.ndarray, sign: np.ndarray, share: np.ndarray, log_odds: float) -> np.ndarray:
    """Minimise sum_n share_n log(1 + exp(-sign_n (inputs_n @ x + log_odds))) + RIDGE / 2 |x without its
    last|^2.
    """
    ridge = np.full(inputs.shape[1], RIDGE)
    ridge[-1] = 0.0

    def value(x: np.ndarray) -> float:
        margins = sign * (inputs @ x + log_odds)
        return float(share @ np.logaddexp(0.0, -margins) + 0.5 * ridge @ x**2)

    x = np.zeros(inputs.shape[1])
    current = value(x)
    for _ in range(_ITERATIONS):
        wrong = _sigmoid(-sign * (inputs @ x + log_odds))  # probability of the other kind
        gradient = ridge * x - inputs.T @ (share * sign * wrong)
        if np.abs(gradient).max() < 1e-12:
            break
        curvature = (inputs.T * (share * wrong * (1.0 - wrong))) @ inputs + np.diag(ridge)
        # The least norm: columns that do not vary, or repeat another, make the matrix singular.
        step = np.linalg.lstsq(curvature, -gradient, rcond=1e-14)[0]
        size, slope = 1.0, float(gradient @ step)
        while size > 1e-10 and value(x + size * step) > current + 1e-4 * size * slope:
            size /= 2
        after = value(x + size * step)
        if not after < current:  # as near as rounding allows
            break
        x, current = x + size * step, after
    return x


def cllr(llrs: np.ndarray, is_target: np.ndarray) -> float:
    """Return the cost of the log-likelihood ratio in bits, averaged over all priors (Brümmer and du Preez
    2006):

        1 / (2 log 2) (mean_target log(1 + exp(-l)) + mean_nontarget log(1 + exp(l)))

    0 is perfect; 1 is what LLRs of 0, which tell nothing, have; above 1 they mislead.
    """
    is_target = _both_kinds(is_target)
    costs = _cllr_costs(np.asarray(llrs, dtype=np.float64), is_target)
    return float(costs[is_target].mean() + costs[~is_target].mean())


def min_cllr(scores: np.ndarray, is_target: np.ndarray) -> float:
    """Return the least :func:`cllr` that any increasing function of the scores has, in bits: what is lost by
    discrimination alone; the rest of ``cllr`` is lost by calibration.

    The function is found by isotonic regression (pool adjacent violators): p(target | score) as a step
    function that rises with the score, LLR = logit p - logit(Nt / N). Tied scores share a step.
    """
    scores, is_target = np.asarray(scores, dtype=np.float64), _both_kinds(is_target)
    from scipy.optimize import isotonic_regression  # slow to import, and most verbs do not need it

    _, level, count = np.unique(scores, return_inverse=True, return_counts=True)
    targets = np.bincount(level, weights=is_target)
    share = np.clip(isotonic_regression(targets / count, weights=count).x, 0.0, 1.0)
    with np.errstate(divide="ignore"):
        llrs = np.log(share) - np.log1p(-share) - np.log(is_target.sum() / (~is_target).sum())
    return cllr(llrs[level], is_target)


def act_dcf(
    llrs: np.ndarray, is_target: np.ndarray, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Return the normalised detection cost at the threshold of Bayes (:func:`bayes_threshold`), at and above
    which a trial is accepted: (c_miss p miss + c_fa (1 - p) false_alarm) / min(c_miss p, c_fa (1 - p)).

    At least ``min_dcf``; the difference is lost by calibration. It may be above 1.
    """
    is_target = _both_kinds(is_target)
    costs = _decision_costs(np.asarray(llrs, dtype=np.float64), is_target, p_target, c_miss, c_fa)
    return float(costs[is_target].mean() + costs[~is_target].mean())


def llr_measures(
    llrs: np.ndarray,
    is_target: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    p_targets=(0.01, 0.05),
    resamples: int = 1000,
    seed: int = 0,
) -> list[tuple[str, float, list[float] | None]]:
    """Return (metric, value, 95 % interval) of ``actdcf_P`` for each of ``p_targets``, of ``cllr``, and of
    ``min_cllr``, which has no interval.

    Args:
        llrs: (N,); is_target: (N,) bools.
        left, right: (N,) ints, the speaker of each side, as of :func:`pydino.backend.bootstrap_trials`.
    """
    llrs, is_target = np.asarray(llrs, dtype=np.float64), _both_kinds(is_target)
    costs = [_decision_costs(llrs, is_target, p, 1.0, 1.0) for p in p_targets]
    costs = np.array([*costs, _cllr_costs(llrs, is_target)])
    values = costs[:, is_target].mean(axis=1) + costs[:, ~is_target].mean(axis=1)
    drawn = sum(
        bootstrap_means(costs[:, kind], left[kind], right[kind], units, resamples, seed)
        for units in [int(max(left.max(), right.max())) + 1]
        for kind in (is_target, ~is_target)
    )
    names = [*(f"actdcf_{p:g}" for p in p_targets), "cllr"]
    found = [
        (name, float(value), percentile_interval(some))
        for name, value, some in zip(names, values, drawn, strict=True)
    ]
    return [*found, ("min_cllr", min_cllr(llrs, is_target), None)]


def _decision_costs(llrs, is_target, p_target, c_miss, c_fa) -> np.ndarray:
    """(N,) cost of each decision; the cost is the mean over targets plus the mean over nontargets."""
    accepted = llrs >= bayes_threshold(p_target, c_miss, c_fa)
    miss_cost, fa_cost = c_miss * p_target, c_fa * (1.0 - p_target)
    costs = np.where(is_target, miss_cost * ~accepted, fa_cost * accepted)
    return costs / min(miss_cost, fa_cost)


def _cllr_costs(llrs, is_target) -> np.ndarray:
    return np.logaddexp(0.0, np.where(is_target, -llrs, llrs)) / (2.0 * np.log(2.0))


def _columns(scores) -> np.ndarray:
    scores = np.asarray(scores, dtype=np.float64)
    return scores[:, None] if scores.ndim == 1 else scores


def _both_kinds(is_target) -> np.ndarray:
    is_target = np.asarray(is_target, dtype=bool)
    if is_target.all() or not is_target.any():
        raise ValueError(
            f"all {len(is_target)} trials are {'target' if is_target.any() else 'nontarget'}: calibration "
            "needs both"
        )
    return is_target


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -x))
