"""CAM++ (Wang et al. 2023, arXiv 2303.00332): a densely connected TDNN (D-TDNN) with context-aware masking,
after a small convolutional front end over frequency and time.

Sizes are those of the paper, as 3D-Speaker and WeSpeaker train them: a front end of 32 channels that divides
the frequencies by 8, a TDNN layer of 128 channels that halves the frames, dense blocks of 12, 24 and 16
layers of 32 channels with dilations 1, 2, 2, mean and standard deviation, a 512-d embedding; 7.18 M
parameters with 80 mel bins.

Departures: the batch norm of the embedding has scale and bias; the variance is biased; the context, which is
the same for all frames of a segment, is computed once a segment.

Axes: B utterances, T frames, F mel bins, C channels, S segments.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from pydino.base import check_sizes

from .activation_checkpointing import run_blocks
from .encoder import Encoder
from .masks import Mask, frame_mask, run_layer, zeroed
from .pooling import StatisticsPooling
from .resnet34 import BasicBlock, LResNet34Config

DILATIONS = (1, 2, 2)  # of the dense blocks


@dataclass
class CamPlusPlusConfig:
    """Sizes; the defaults are the paper's."""

    front_channels: int = 32  # of the convolutions over frequency and time
    channels: int = 128  # of the TDNN layer after them
    layers: list[int] = field(default_factory=lambda: [12, 24, 16])  # of the three dense blocks
    growth: int = 32  # channels that each of these layers adds
    bottleneck_channels: int = 128  # inside each of these layers
    context_reduction: int = 2  # the masks come from bottleneck_channels / context_reduction units
    segment_frames: int = 100  # over which the context is averaged, at half the frame rate: 2 s
    embedding_dim: int = 512

    def __post_init__(self):
        check_sizes(
            self,
            "front_channels",
            "channels",
            "growth",
            "bottleneck_channels",
            "context_reduction",
            "segment_frames",
            "embedding_dim",
        )
        if len(self.layers) != len(DILATIONS) or not all(1 <= number <= 1000 for number in self.layers):
            raise ValueError(f"layers must be {len(DILATIONS)} numbers from 1 to 1000, got {self.layers}")


class ContextMask(nn.Module):
    """(B, C, T) -> (B, C', S): weights in (0, 1) of each segment's channels,
    sigmoid(W2 relu(W1 (e + e_s) + b1) + b2), where e is the mean over the utterance and e_s that over segment
    s (equations 2 to 6 of the paper). The last segment may be shorter. Means are float32.

    Args:
        inputs: C.
        outputs: C'.
        reduction: the inner layer has C / reduction units.
        frames: of a segment.
    """

    def __init__(self, inputs: int, outputs: int, reduction: int, frames: int):
        super().__init__()
        inner = max(1, inputs // reduction)
        self.frames = frames
        self.reduce = nn.Conv1d(inputs, inner, 1)
        self.expand = nn.Conv1d(inner, outputs, 1)

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        """Return the weights; frames that are not valid are zero in ``x`` and count for nothing."""
        length, frames = x.shape[-1], self.frames
        # torch.export holds an axis of one entry for another case, so it gets empty segments more
        segments = length // frames + 2 if torch.compiler.is_exporting() else -(-length // frames)
        sums = F.pad(x, (0, segments * frames - length)).unflatten(-1, (segments, frames))
        sums = sums.sum(-1, dtype=torch.promote_types(x.dtype, torch.float32))  # (B, C, S)
        starts = frames * torch.arange(segments, device=x.device)
        valid = length if mask is None else mask.sum(-1, keepdim=True)
        counts = (valid - starts).clamp(0, frames)  # (S,) or (B, 1, S)
        context = sums.sum(-1, keepdim=True) / valid + sums / counts.clamp_min(1)
        return self.expand(self.reduce(context).relu()).sigmoid()


class DenseLayer(nn.Module):
    """(B, C, T) -> (B, growth, T): norm, ReLU, 1x1 convolution, norm, ReLU, dilated convolution of three
    frames, times the context mask.
    """

    def __init__(self, inputs: int, dilation: int, config: CamPlusPlusConfig):
        super().__init__()
        width = config.bottleneck_channels
        self.bottleneck = nn.Sequential(
            nn.BatchNorm1d(inputs),
            nn.ReLU(inplace=True),
            nn.Conv1d(inputs, width, 1, bias=False),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
        )
        self.conv = nn.Conv1d(width, config.growth, 3, padding=dilation, dilation=dilation, bias=False)
        self.context = ContextMask(width, config.growth, config.context_reduction, config.segment_frames)

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        x = zeroed(run_layer(self.bottleneck, x, mask), mask)
        y = self.conv(x)
        weights = self.context(x, mask).to(y.dtype)
        return y * weights.repeat_interleave(self.context.frames, dim=-1)[..., : y.shape[-1]]


class DenseBlock(nn.Module):
    """(B, C, T) -> (B, (C + layers growth) / 2, T): layers whose input is the block's and all outputs before
    them, then norm, ReLU and a 1x1 convolution to half the channels.
    """

    def __init__(self, inputs: int, layers: int, dilation: int, config: CamPlusPlusConfig):
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(inputs + index * config.growth, dilation, config) for index in range(layers)
        )
        joined = inputs + layers * config.growth
        self.outputs = joined // 2
        self.transition = nn.Sequential(
            nn.BatchNorm1d(joined), nn.ReLU(inplace=True), nn.Conv1d(joined, self.outputs, 1, bias=False)
        )

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x, mask)], dim=1)
        return run_layer(self.transition, x, mask)

    def output_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the mask of the output: the frames stay."""
        return mask


class FrontConvolution(nn.Module):
    """(B, T, F) -> (B, C ceil(F/8), T): convolutions over frequency and time, with strides in frequency
    alone.
    """

    def __init__(self, config: CamPlusPlusConfig, feature_dim: int):
        super().__init__()
        width, kinds = config.front_channels, LResNet34Config(activation="relu")
        halves = [-(-feature_dim // 2**times) for times in range(4)]
        self.stem = nn.Sequential(
            nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(
            *(
                BasicBlock(width, width, stride, bins, kinds)
                for bins in halves[1:3]
                for stride in ((2, 1), (1, 1))
            )
        )
        self.last = nn.Sequential(
            nn.Conv2d(width, width, 3, (2, 1), 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.outputs = width * halves[3]

    def forward(self, x: torch.Tensor, mask: Mask, checkpointed: bool) -> torch.Tensor:
        """Return the output for frames masked by (B, 1, T)."""
        mask = None if mask is None else mask.unsqueeze(1)
        x = zeroed(x.transpose(1, 2).unsqueeze(1), mask)  # (B, 1, F, T)
        x, mask = run_blocks(self.blocks, run_layer(self.stem, x, mask), checkpointed, mask)
        return run_layer(self.last, zeroed(x, mask), mask).flatten(1, 2)


class CamPlusPlus(Encoder):
    """(B, T, F) -> (B, D), not normalised. Any T; the ends are padded with zeros."""

    min_input = 2

    def __init__(self, config: CamPlusPlusConfig, feature_dim: int):
        super().__init__()
        self.front = FrontConvolution(config, feature_dim)
        self.tdnn = nn.Sequential(
            nn.Conv1d(self.front.outputs, config.channels, 5, 2, 2, bias=False),
            nn.BatchNorm1d(config.channels),
            nn.ReLU(inplace=True),
        )
        blocks, width = [], config.channels
        for layers, dilation in zip(config.layers, DILATIONS, strict=True):
            blocks.append(DenseBlock(width, layers, dilation, config))
            width = blocks[-1].outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(inplace=True))
        self.pooling = StatisticsPooling()
        self.embedding = nn.Linear(2 * width, config.embedding_dim, bias=False)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_dim)
        self.embedding_dim = config.embedding_dim
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def parts(self) -> dict[str, nn.ModuleList]:
        return {
            "frames": nn.ModuleList([self.front, self.tdnn, self.blocks, self.last]),
            "pooling": nn.ModuleList([self.pooling]),
            "embedding": nn.ModuleList([self.embedding, self.embedding_norm]),
        }

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
        mask = None if frames is None else frame_mask(frames, x.shape[1]).unsqueeze(1)  # (B, 1, T)
        x = zeroed(self.front(x, mask, self.checkpointed), mask)
        mask = None if mask is None else mask[..., ::2]
        x = run_layer(self.tdnn, x, mask)  # (B, C, T/2)
        x, mask = run_blocks(self.blocks, x, self.checkpointed, mask)
        return self.embedding_norm(self.embedding(self.pooling(run_layer(self.last, x, mask), mask)))
