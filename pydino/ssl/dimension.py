"""Dimension regularisation: the dimensions of the head's embeddings are to be uncorrelated over a batch.

Chen et al. 2025, "Pushing the frontiers of self-distillation prototypes network with dimension regularization
and score normalization" (arXiv 2505.13826), in the form of theolepage/sslsv, method DINOProto2. With columns
e_i of the head's embeddings before L2 normalisation, over all vectors of the batch, and D dimensions,

    C_ij = e_i . e_j / (|e_i| |e_j|),  R = 1/2 ln(D + sum_{i != j} C_ij^2).

C is not centred, so that dimensions that are constant correlate fully and are no way out. The diagonal is the
constant D. Of N vectors in random directions sum_{i != j} C_ij^2 is D (D - 1) / N: small batches look
correlated. The scale of a dimension does not matter; whether it has died, :func:`active_dimensions` says.
"""

import torch

SMALLEST_NORM = 1e-4
SMALLEST_DEVIATION = 1e-4


def dimension_regulariser(embeddings: torch.Tensor) -> torch.Tensor:
    """Return R of embeddings (N, D), a scalar between ln(D) / 2 and ln(D), in float32."""
    with torch.autocast(embeddings.device.type, enabled=False):
        x = embeddings.float()
        x = x / x.norm(dim=0).clamp_min(SMALLEST_NORM)
        squares = (x.T @ x).square()
    off_diagonal = squares.sum() - squares.diagonal().sum()
    return 0.5 * (off_diagonal + x.shape[1]).log()


@torch.no_grad()
def active_dimensions(embeddings: torch.Tensor) -> torch.Tensor:
    """Return the share of the dimensions of embeddings (N, D) whose standard deviation is above 1e-4."""
    return (embeddings.float().std(0) > SMALLEST_DEVIATION).float().mean()
