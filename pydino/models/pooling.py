"""From frames to one vector: mean and standard deviation over time.

Axes in this room: B utterances, T frames, F mel bins, C channels, D embedding.
"""

import torch

VARIANCE_FLOOR = 1e-5  # keeps the gradient of the square root finite where a channel does not move


def mean_and_deviation(x: torch.Tensor) -> torch.Tensor:
    """Return mean and standard deviation (biased, sqrt(var + 1e-5)) over the last axis: (B, C, T) -> (B, 2C), float32."""
    # In float32 even under bfloat16 autocast: a variance is a small difference of squares.
    variance, mean = torch.var_mean(x.float(), dim=-1, correction=0)
    return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=1)
