"""Masks: in a batch of utterances of different lengths, padded at the end, only the valid frames count.

A mask says which frames are valid: bool, of the shape of what it belongs to, with size 1 on all axes but
those of rows and frames. Without one (None) every function here is the plain operation, bit for bit.

Axes: B rows, T frames, C channels, F frequencies.
"""

import math

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Mask = torch.Tensor | None


def frame_mask(frames: torch.Tensor | None, length: int) -> Mask:
    """Return which of ``length`` frames are valid, (B, T), of the number of valid frames (B,) int64."""
    if frames is None:
        return None
    return torch.arange(length, device=frames.device) < frames.unsqueeze(1)


def zeroed(x: torch.Tensor, mask: Mask) -> torch.Tensor:
    """Return ``x`` with its invalid frames set to zero, which is what a convolution pads with."""
    return x if mask is None else x.masked_fill(~mask, 0.0)


def masked_mean(x: torch.Tensor, mask: torch.Tensor, axes: list[int]) -> torch.Tensor:
    """Return the mean over the valid entries along ``axes``, which are kept with size 1; float32 or
    better.
    """
    return zeroed(x, mask).sum(axes, keepdim=True, dtype=_wide(x)) / _count(x, mask, axes)


def normed(norm: nn.Module, x: torch.Tensor, mask: Mask) -> torch.Tensor:
    """Return the batch norm of (B, C, ...); in training, valid frames alone give the mean, the variance and
    the running statistics.

    A norm over several processes (any other class than PyTorch's plain ones) adds up the sums and the counts
    of all of them, so that each may have another number of valid frames.
    """
    if mask is None or not norm.training:
        return norm(x)
    axes = [axis for axis in range(x.ndim) if axis != 1]
    wide, everywhere = x.to(_wide(x)), type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d)
    count = _total(_count(wide, mask, axes).to(wide.dtype), everywhere)
    mean = _total(zeroed(wide, mask).sum(axes, keepdim=True), everywhere) / count
    centred = wide - mean
    variance = _total(zeroed(centred, mask).square().sum(axes, keepdim=True), everywhere) / count
    with torch.no_grad():
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.flatten(), norm.momentum)
        unbiased = variance * (count / (count - 1).clamp_min(1))
        norm.running_var.lerp_(unbiased.flatten(), norm.momentum)
    scale = (variance + norm.eps).rsqrt() * norm.weight.view_as(mean)
    return (centred * scale + norm.bias.view_as(mean)).to(x.dtype)


def run_layer(layer: nn.Sequential, x: torch.Tensor, mask: Mask) -> torch.Tensor:
    """Return ``layer(x)``, with its batch norms as :func:`normed`; its layers keep the number of frames."""
    if mask is None:
        return layer(x)
    for module in layer:
        x = normed(module, x, mask) if isinstance(module, _BatchNorm) else module(x)
    return x


def _count(x: torch.Tensor, mask: torch.Tensor, axes: list[int]) -> torch.Tensor:
    """Return how many entries of ``x`` along ``axes``, kept with size 1, are valid."""
    return mask.sum(axes, keepdim=True) * math.prod(x.shape[axis] // mask.shape[axis] for axis in axes)


def _wide(x: torch.Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _total(x: torch.Tensor, everywhere: bool) -> torch.Tensor:
    """Return the sum over all processes, whose gradients are added up as well, or ``x`` itself."""
    return _SumOverProcesses.apply(x) if everywhere else x


class _SumOverProcesses(torch.autograd.Function):
    """y = sum_r x_r in every process; the gradient of x_r is the sum over processes of the gradients of y."""

    @staticmethod
    def forward(context, x):
        y = x.clone()
        dist.all_reduce(y)
        return y

    @staticmethod
    def backward(context, gradient):
        total = gradient.clone()
        dist.all_reduce(total)
        return total
