"""Which pseudo-labels are right, judged by the loss: a network fits right labels sooner than wrong ones, so
that the logarithms of the cross-entropies have two modes.

A mixture of two Gaussians is fitted to the log losses l by expectation maximisation,

    p(l) = sum_k w_k N(l; m_k, v_k),  m_0 <= m_1,

and the component of the smaller mean is that of the right labels. SSRL (arXiv 2401.01473) weighs every
utterance by its posterior, DLG-LC (Han, Chen and Qian 2022, arXiv 2208.01928) draws a line where the two
weighted densities cross.

Between the means, log w_0 N(l; m_0, v_0) - log w_1 N(l; m_1, v_1) falls strictly, whatever the variances.
Outside it need not: the wider component outweighs the other far out on both sides, so that the smallest
losses of all could count as wrong. Here the posterior is therefore taken at the nearest point between the
means: it falls with the loss everywhere. The papers' code takes it as it is.

NumPy in float64 on the host: this runs once an epoch, and gives the same in every process.
"""

import math
from dataclasses import dataclass

import numpy as np

SMALLEST_LOSS = 1e-6  # nats; below it the logarithm tells rounding errors apart
OUTLIERS = 0.1  # percent of the losses at either end that are moved to the rest, as in SSRL
SMALLEST_VARIANCE = 1e-6
ENOUGH = 10  # losses for a mixture of five parameters


@dataclass(frozen=True)
class LossMixture:
    """Two Gaussians of log losses, that of the right labels first.

    Attributes:
        weights: (2,), of sum 1.
        means: (2,), ascending.
        variances: (2,).
    """

    weights: np.ndarray
    means: np.ndarray
    variances: np.ndarray

    def log_densities(self, x: np.ndarray) -> np.ndarray:
        """Return log w_k N(x; m_k, v_k), (2, N)."""
        weights, means, variances = (value[:, None] for value in (self.weights, self.means, self.variances))
        return np.log(weights) - 0.5 * (np.log(2 * math.pi * variances) + (x - means) ** 2 / variances)

    def clean_probability(self, log_losses: np.ndarray) -> np.ndarray:
        """Return the probability that each label is right, (N,) float64, from log losses (N,); it never rises
        with the loss.
        """
        first, second = self.log_densities(np.clip(log_losses, *self.means))
        return 1 / (1 + np.exp(np.clip(second - first, -700, 700)))

    @property
    def gate(self) -> float:
        """Log loss above which a label counts as wrong: where the weighted densities are equal, between the
        means; where they are equal nowhere there, the middle of the means.

        The difference of the logarithms is a l^2 + b l + c, of which at most one root lies between the means.
        """
        (w0, w1), (m0, m1), (v0, v1) = self.weights, self.means, self.variances
        a = 0.5 / v1 - 0.5 / v0
        b = m0 / v0 - m1 / v1
        c = 0.5 * (m1**2 / v1 - m0**2 / v0 + math.log(v1 / v0)) + math.log(w0 / w1)
        inside = [root for root in _real_roots(a, b, c) if m0 <= root <= m1]
        return inside[0] if inside else 0.5 * (m0 + m1)


def fit_loss_mixture(
    log_losses: np.ndarray, tolerance: float = 1e-6, max_iterations: int = 500
) -> LossMixture | None:
    """Return the mixture of maximal likelihood of log losses, found from their two means by k-means.

    Args:
        log_losses: (N,) finite; the OUTLIERS at either end are moved to the rest.
        tolerance: smallest gain of the mean log likelihood for which the iteration goes on, nats.
        max_iterations: of expectation maximisation.

    Returns:
        None where the losses are too few, or too much alike, for two components.
    """
    if len(log_losses) < ENOUGH:
        return None
    x = np.clip(log_losses, *np.percentile(log_losses, [OUTLIERS, 100 - OUTLIERS])).astype(np.float64)
    if x.var() < SMALLEST_VARIANCE:
        return None
    above = x > _split(x)
    mixture, before = _of_shares(x, np.stack([~above, above]).astype(np.float64)), -math.inf
    for _ in range(max_iterations):
        densities = mixture.log_densities(x)
        largest = densities.max(axis=0)
        total = largest + np.log(np.exp(densities - largest).sum(axis=0))
        if total.mean() - before < tolerance:
            break
        before = total.mean()
        mixture = _of_shares(x, np.exp(densities - total))
    order = mixture.means.argsort(kind="stable")
    return LossMixture(mixture.weights[order], mixture.means[order], mixture.variances[order])


def _of_shares(x: np.ndarray, shares: np.ndarray) -> LossMixture:
    """Return the mixture whose components have these shares (2, N) in the losses."""
    counts = shares.sum(axis=1) + 1e-10
    means = shares @ x / counts
    variances = (shares * (x - means[:, None]) ** 2).sum(axis=1) / counts + SMALLEST_VARIANCE
    return LossMixture(counts / counts.sum(), means, variances)


def _split(x: np.ndarray) -> float:
    """Return the border between the two clusters of k-means, of values that are not all the same."""
    border = x.mean()
    for _ in range(100):
        moved = 0.5 * (x[x > border].mean() + x[x <= border].mean())
        if moved == border:
            break
        border = moved
    return float(border)


def _real_roots(a: float, b: float, c: float) -> list[float]:
    """Return the real roots of a x^2 + b x + c, without loss of digits where a is small."""
    discriminant = b * b - 4 * a * c
    if discriminant < 0 or (a == 0 and b == 0):
        return []
    if a == 0:
        return [-c / b]
    q = -0.5 * (b + math.copysign(math.sqrt(discriminant), b))
    return [q / a, c / q] if q else [0.0]
