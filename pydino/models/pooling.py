"""From frames to one vector: mean and standard deviation over time, unweighted or weighted by attention.

Axes: B utterances, T frames, F mel bins, C channels.
"""

from typing import Literal

import torch
from torch import nn

from .masks import Mask, masked_mean, normed, zeroed

Pooling = Literal["statistics", "attentive"]
VARIANCE_FLOOR = 1e-5  # keeps the gradient of the square root finite where a channel is constant


class _Moments(torch.autograd.Function):
    """Mean and biased variance over one axis, which is kept with size 1.

    The gradient is written out because forward and backward of torch.var_mean take 2 to 9 times as long
    (one CPU core, 64 x 1536 x 300 and 256 x 44 x 384).
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        mean = x.mean(dim, keepdim=True)
        variance = (x - mean).square_().mean(dim, keepdim=True)
        ctx.save_for_backward(x, mean)
        ctx.frames = x.shape[dim]
        return mean, variance

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx, mean_gradient: torch.Tensor, variance_gradient: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        x, mean = ctx.saved_tensors
        # dL/dx = g_mean / T + 2 / T g_variance (x - mean), in one pass over x
        slope = variance_gradient * (2 / ctx.frames)
        return torch.addcmul(mean_gradient / ctx.frames - slope * mean, slope, x), None


def _moments(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    if not torch.compiler.is_exporting():
        return _Moments.apply(x, dim)
    variance, mean = torch.var_mean(x, dim, correction=0, keepdim=True)
    return mean, variance


def mean_and_deviation(x: torch.Tensor, dim: int = -1, mask: Mask = None) -> torch.Tensor:
    """Return mean and standard deviation (biased, sqrt(var + 1e-5)) over axis ``dim``.

    Args:
        x: (B, C, T), (B, T, C) or (B, C, F, T).
        dim: the time axis.
        mask: of the valid frames, one or more in each row.

    Returns:
        (B, 2C) or (B, 2CF), all means first, float32 or better.
    """
    # Not in half precision, even under autocast: a variance is a small difference.
    if mask is None:
        return _joined(*_moments(_full(x), dim), dim)
    x = _full(x)
    mean = masked_mean(x, mask, [dim])
    return _joined(mean, masked_mean((x - mean).square(), mask, [dim]), dim)


class StatisticsPooling(nn.Module):
    """(B, ..., T) -> mean and standard deviation of every channel (and frequency)."""

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        return mean_and_deviation(x, mask=mask)


class AttentivePooling(nn.Module):
    """(B, C, T) or (B, C, F, T) -> (B, 2C) or (B, 2CF): mean and standard deviation weighted by a_ct, which
    sum to one over time.

    a_c = softmax_t(W2 tanh(BN(W1 x_t + W0 g)) + b)_c, where g, the global context, is the unweighted mean and
    standard deviation. Each channel has its own weights (Desplanques et al. 2020, arXiv 2005.07143). Softmax
    and statistics are float32.

    Args:
        channels: C, or C F.
        inner: units of the inner layer.
    """

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.frame = nn.Conv1d(channels, inner, 1, bias=False)
        self.context = nn.Linear(2 * channels, inner, bias=False)
        self.norm = nn.BatchNorm1d(inner)
        self.weight = nn.Conv1d(inner, channels, 1)

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        x = x.flatten(1, -2)  # (B, C, T)
        mask = None if mask is None else mask.flatten(1, -2)  # (B, 1, T)
        hidden = self.frame(x) + self.context(mean_and_deviation(x, mask=mask)).unsqueeze(-1)
        logits = _full(self.weight(normed(self.norm, hidden, mask).tanh()))
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        attention = logits.softmax(-1)
        x = zeroed(_full(x), mask)
        mean = (attention * x).sum(-1, keepdim=True)
        variance = (attention * (x - mean).square()).sum(-1, keepdim=True)
        return _joined(mean, variance, -1)


def make_pooling(kind: Pooling, channels: int, inner: int) -> nn.Module:
    """Return the pooling of that name for (B, C, F, T) of ``channels`` = C F."""
    return AttentivePooling(channels, inner) if kind == "attentive" else StatisticsPooling()


def _full(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _joined(mean: torch.Tensor, variance: torch.Tensor, dim: int) -> torch.Tensor:
    return torch.cat([mean.squeeze(dim), (variance.squeeze(dim) + VARIANCE_FLOOR).sqrt()], dim=1).flatten(1)
