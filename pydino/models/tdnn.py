"""A small TDNN: an encoder that trains in minutes on two CPU cores.

Five 1-d convolutions over time, the first with a stride of three frames, then mean and standard deviation,
then the embedding: an x-vector network (Snyder et al. 2018) at a tenth of its size; 316 k parameters with the
defaults.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from pydino.base import check_sizes

from .activation_checkpointing import run_blocks
from .encoder import Encoder
from .masks import Mask, frame_mask, normed, zeroed
from .pooling import mean_and_deviation


@dataclass
class TdnnConfig:
    """Sizes of the TDNN."""

    channels: int = 128
    pooled_channels: int = 384  # channels whose mean and standard deviation are pooled
    stride: int = (
        3  # of the first layer, in frames; 1 is almost three times slower and gains little on small data
    )
    embedding_dim: int = 128

    def __post_init__(self):
        check_sizes(self, "channels", "pooled_channels", "embedding_dim")
        check_sizes(self, "stride", most=1000)


class Tdnn(Encoder):
    """(B, T, F) -> (B, D), not normalised. T is at least ``min_input``."""

    def __init__(self, config: TdnnConfig, feature_dim: int):
        super().__init__()
        width = config.channels
        layers = [
            (feature_dim, width, 5, 1, config.stride),
            (width, width, 3, 1, 1),
            (width, width, 3, 2, 1),
            (width, width, 1, 1, 1),
            (width, config.pooled_channels, 1, 1, 1),
        ]
        self.frames = nn.Sequential(*(FrameLayer(*layer) for layer in layers))
        self.embedding = nn.Linear(2 * config.pooled_channels, config.embedding_dim, bias=False)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_dim)
        self.embedding_dim = config.embedding_dim
        # the convolutions are not padded: 5 frames, then 2 and 4 steps more
        self.min_input = 5 + 6 * config.stride

    def parts(self) -> dict[str, nn.ModuleList]:
        return {
            "frames": nn.ModuleList([self.frames]),
            "pooling": nn.ModuleList(),
            "embedding": nn.ModuleList([self.embedding, self.embedding_norm]),
        }

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
        if x.shape[1] < self.min_input:
            raise ValueError(f"this TDNN needs {self.min_input} frames or more, got {x.shape[1]}")
        mask = None if frames is None else frame_mask(frames, x.shape[1]).unsqueeze(2)
        x, mask = run_blocks(self.frames, zeroed(x, mask), self.checkpointed, mask)  # (B, T', C)
        return self.embedding_norm(self.embedding(mean_and_deviation(x, dim=1, mask=mask)))


class FrameLayer(nn.Sequential):
    """Convolution over time, norm, ReLU: (B, T, C) -> (B, T', C').

    The convolution is one matrix product over windows of frames, channels last: on a CPU, PyTorch's
    convolution, and above all its batch norm, are slower with time last.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int, stride: int):
        super().__init__(
            nn.Conv1d(inputs, outputs, kernel, stride=stride, dilation=dilation, bias=False),
            nn.BatchNorm1d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        if torch.compiler.is_exporting():  # as standard layers, which every runtime supports
            return super().forward(x.transpose(1, 2)).transpose(1, 2)
        conv, norm, activation = self
        kernel, dilation, stride = conv.kernel_size[0], conv.dilation[0], conv.stride[0]
        if kernel > 1:
            x = _Windows.apply(x, kernel, dilation, stride)
        weight = conv.weight.transpose(1, 2).flatten(1)  # (C', K C), in the order of the windows
        rows = F.linear(x.flatten(0, 1), weight)
        mask = None if mask is None else self.output_mask(mask).flatten(0, 1)
        return activation(normed(norm, rows, mask)).unflatten(0, x.shape[:2])

    def output_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the mask of the output of frames masked by (B, T, 1): valid where the last frame under the
        kernel is.
        """
        conv = self[0]
        return mask[:, (conv.kernel_size[0] - 1) * conv.dilation[0] :: conv.stride[0]]


class _Windows(torch.autograd.Function):
    """The K frames at each position of a kernel, concatenated: (B, T, C) -> (B, T', K C).

    The gradient is written out because slices that autograd differentiates take two to three times as long
    (forward and backward, one CPU core, 256 crops of 1.5 s).
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, kernel: int, dilation: int, stride: int) -> torch.Tensor:
        x = x.contiguous()
        ctx.shape, ctx.kernel = x.shape, (kernel, dilation, stride)
        batch, frames, channels = x.shape
        steps = (frames - (kernel - 1) * dilation - 1) // stride + 1
        strides = (frames * channels, stride * channels, dilation * channels, 1)
        return x.as_strided((batch, steps, kernel, channels), strides).reshape(
            batch, steps, kernel * channels
        )

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        kernel, dilation, stride = ctx.kernel
        total, steps = gradient.new_zeros(ctx.shape), gradient.shape[1]
        for k, part in enumerate(gradient.chunk(kernel, dim=2)):
            total[:, k * dilation : k * dilation + (steps - 1) * stride + 1 : stride] += part
        return total, None, None, None
