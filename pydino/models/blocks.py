"""Building blocks of several encoders: activations, their order with the norm, squeeze-excitation."""

from functools import partial
from typing import Literal

import torch
from torch import nn

from .masks import Mask, masked_mean

Activation = Literal["relu", "relu6", "swish", "gelu"]


def make_activation(name: Activation) -> nn.Module:
    """Return the activation; in place where its gradient needs only the output, to save memory."""
    return {
        "relu": partial(nn.ReLU, inplace=True),
        "relu6": partial(nn.ReLU6, inplace=True),
        "swish": nn.SiLU,
        "gelu": nn.GELU,
    }[name]()


def norm_and_activation(norm: nn.Module, activation: Activation, norm_before: bool) -> nn.Sequential:
    """Return norm and activation, or with ``norm_before`` false activation and norm."""
    act = make_activation(activation)
    return nn.Sequential(norm, act) if norm_before else nn.Sequential(act, norm)


class SqueezeExcitation(nn.Module):
    """Scales each entry of one axis by a weight in (0, 1), computed from the means over all other axes of an
    utterance.

    Hu et al. 2018 (arXiv 1709.01507) along the channels; along the frequencies of (B, C, F, T) it is the
    frequency-wise variant of Thienpondt et al. 2021 (arXiv 2104.02370): x_f <- x_f sigmoid(W2 act(W1 z))_f
    with z_f the mean of x_f over channels and time, in float32. No biases.

    Args:
        size: of the axis.
        reduction: the inner layer has size / reduction units.
        activation: of the inner layer.
        axis: 1 for channels, 2 for frequencies.
    """

    def __init__(self, size: int, reduction: int, activation: Activation, axis: int = 1):
        super().__init__()
        self.axis = axis
        self.reduce = nn.Linear(size, max(1, size // reduction), bias=False)
        self.act = make_activation(activation)
        self.expand = nn.Linear(max(1, size // reduction), size, bias=False)

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        """Return ``x`` scaled; the means are over the valid frames of ``mask``."""
        others = [axis for axis in range(1, x.ndim) if axis != self.axis]
        if mask is None:
            means = x.mean(others, dtype=torch.promote_types(x.dtype, torch.float32))
        else:
            means = masked_mean(x, mask, others).flatten(1)
        weights = self.expand(self.act(self.reduce(means))).sigmoid()
        return x * weights.to(x.dtype).view(
            [x.shape[0], *(-1 if axis == self.axis else 1 for axis in range(1, x.ndim))]
        )


def check_dropout(config) -> None:
    """Raise ValueError for a dropout probability outside [0, 1)."""
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {config.dropout}")
