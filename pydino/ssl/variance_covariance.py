"""Variance and covariance regularisers: each dimension is to vary over a batch, and no two of them together.

Bardes, Ponce and LeCun 2022, "VICReg" (arXiv 2105.04906), as used in RDINO (Chen et al. 2023, arXiv
2211.04168). Of N vectors x of D dimensions,

    V = 1/D sum_i max(0, 1 - sqrt(var(x_i) + 1e-4)),  C = 1/D sum_{i != j} cov(x_i, x_j)^2,

with divisor N - 1. RDINO takes half of V of the student and half of the teacher's, and the sum of both C; the
teacher's halves have no gradient, and are left out here.
"""

import torch

EPSILON = 1e-4


def variance_regulariser(x: torch.Tensor) -> torch.Tensor:
    """Return V of vectors (N, D), a scalar in [0, 1), in float32; N is at least 2."""
    deviations = (x.float().var(0) + EPSILON).sqrt()
    return (1 - deviations).relu().mean()


def covariance_regulariser(x: torch.Tensor) -> torch.Tensor:
    """Return C of vectors (N, D), a scalar of at least 0, in float32; N is at least 2."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.float() - x.float().mean(0)
        squares = (x.T @ x / (len(x) - 1)).square()
    return (squares.sum() - squares.diagonal().sum()) / x.shape[1]
