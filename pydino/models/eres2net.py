"""ERes2Net (Chen et al. 2023, arXiv 2305.12838): a ResNet of Res2 blocks over frequency and time, in which
neighbouring groups of channels (local) and the outputs of the four stages (global) are fused by attention.

Sizes are those of 3D-Speaker's base model: stages of 3, 4, 6 and 3 blocks with strides 1, 2, 2, 2 in
frequency and time and 64 to 512 channels at their outputs, mean and standard deviation; 6.61 M parameters
with its 192-d embedding and 80 mel bins. Departures: ReLU is not clipped at 20, the embedding has a batch
norm instead of a bias, the variance is biased.

Axes: B utterances, T frames, F mel bins, C channels.
"""

from dataclasses import dataclass

import torch
from torch import nn

from pydino.base import check_sizes

from .activation_checkpointing import run_blocks
from .encoder import Encoder
from .masks import Mask, frame_mask, run_layer, zeroed
from .pooling import StatisticsPooling

BLOCKS = (3, 4, 6, 3)
FUSED_STAGES = (False, False, True, True)  # whose blocks fuse their groups; the groups of the others add up
GROUPS = 2
REDUCTION = 4  # of the inner layer of a fusion


@dataclass
class Eres2NetConfig:
    """Sizes; the defaults are 3D-Speaker's."""

    base_channels: int = 32  # of the convolutions in the first stage, whose output has twice as many
    embedding_dim: int = 192

    def __post_init__(self):
        check_sizes(self, "base_channels", "embedding_dim")
        if self.base_channels < GROUPS or self.base_channels % GROUPS:
            raise ValueError(f"base_channels must be a multiple of {GROUPS}, got {self.base_channels}")


class AttentionalFusion(nn.Module):
    """x, y -> x (1 + a) + y (1 - a), with a = tanh(BN(W2 silu(BN(W1 [x, y])))) in (-1, 1) for every channel,
    frequency and frame; all (B, C, F, T). The convolutions are 1x1, with biases.

    Args:
        channels: C; the inner layer has C / 4.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // REDUCTION)
        self.attention = nn.Sequential(
            nn.Conv2d(2 * channels, inner, 1),
            nn.BatchNorm2d(inner),
            nn.SiLU(),
            nn.Conv2d(inner, channels, 1),
            nn.BatchNorm2d(channels),
            nn.Tanh(),
        )

    def forward(self, x: torch.Tensor, y: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        attention = run_layer(self.attention, torch.cat([x, y], dim=1), mask)
        return x * (1 + attention) + y * (1 - attention)


class Res2Block(nn.Module):
    """(B, C, F, T) -> (B, 2 C', F/s, T/s): 1x1 convolution of stride s to C' channels, 3x3 convolutions of
    two groups of them, 1x1 convolution, plus the input (through a 1x1 convolution where the shape changes),
    ReLU.

    The second group is convolved after the output of the first has been added, or with ``fused`` fused with
    it.

    Args:
        inputs: C.
        width: C'.
        stride: s.
        fused: whether groups are fused by attention.
    """

    def __init__(self, inputs: int, width: int, stride: int, fused: bool):
        super().__init__()
        group = width // GROUPS
        self.first = conv_layer(inputs, width, 1)
        self.groups = nn.ModuleList(conv_layer(group, group, 3) for _ in range(GROUPS))
        self.fusions = nn.ModuleList(AttentionalFusion(group) for _ in range(GROUPS - 1) if fused)
        self.last = conv_layer(width, 2 * width, 1)[:2]
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != 2 * width:
            self.shortcut = conv_layer(inputs, 2 * width, 1)[:2]
        self.act = nn.ReLU(inplace=True)
        self.stride = stride

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        if self.stride > 1:  # that of both 1x1 convolutions; the reason is in resnet34.py
            x, mask = x[..., :: self.stride, :: self.stride], None if mask is None else self.output_mask(mask)
        parts = run_layer(self.first, x, mask).chunk(GROUPS, dim=1)
        outputs = [run_layer(self.groups[0], zeroed(parts[0], mask), mask)]
        for index, (group, part) in enumerate(zip(self.groups[1:], parts[1:], strict=True)):
            y = self.fusions[index](outputs[-1], part, mask) if self.fusions else outputs[-1] + part
            outputs.append(run_layer(group, zeroed(y, mask), mask))
        y = run_layer(self.last, torch.cat(outputs, dim=1), mask)
        shortcut = x if isinstance(self.shortcut, nn.Identity) else run_layer(self.shortcut, x, mask)
        return self.act(y + shortcut)

    def output_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the mask of the output of an input masked by (B, 1, 1, T)."""
        return mask[..., :: self.stride]


def conv_layer(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Return a convolution over frequency and time, which keeps their sizes, norm and ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Eres2Net(Encoder):
    """(B, T, F) -> (B, D), not normalised. Any T; below 8 frames the deviations are zero."""

    min_input = 8

    def __init__(self, config: Eres2NetConfig, feature_dim: int):
        super().__init__()
        width, inputs, bins = config.base_channels, config.base_channels, feature_dim
        self.stem = conv_layer(1, width, 3)
        stages, self.down, self.fusions = [], nn.ModuleList(), nn.ModuleList()
        for stage, (count, fused) in enumerate(zip(BLOCKS, FUSED_STAGES, strict=True)):
            stride, width = 1 if stage == 0 else 2, config.base_channels * 2**stage
            blocks = [Res2Block(inputs, width, stride, fused)]
            blocks += [Res2Block(2 * width, width, 1, fused) for _ in range(count - 1)]
            stages.append(nn.Sequential(*blocks))
            if stage:
                self.down.append(nn.Conv2d(inputs, 2 * width, 3, 2, 1, bias=False))
                self.fusions.append(AttentionalFusion(2 * width))
            inputs, bins = 2 * width, -(-bins // stride)
        self.stages = nn.ModuleList(stages)
        self.pooling = StatisticsPooling()
        self.embedding = nn.Linear(2 * inputs * bins, config.embedding_dim, bias=False)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_dim)
        self.embedding_dim = config.embedding_dim

    def parts(self) -> dict[str, nn.ModuleList]:
        return {
            "frames": nn.ModuleList([self.stem, self.stages, self.down, self.fusions]),
            "pooling": nn.ModuleList([self.pooling]),
            "embedding": nn.ModuleList([self.embedding, self.embedding_norm]),
        }

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
        mask = None if frames is None else frame_mask(frames, x.shape[1])[:, None, None]  # (B, 1, 1, T)
        x = zeroed(x.transpose(1, 2).unsqueeze(1), mask)  # (B, 1, F, T)
        x = run_layer(self.stem, x, mask)
        x, _ = run_blocks(self.stages[0], x, self.checkpointed, mask)  # (B, C, F, T)
        fused = x
        for stage, down, fusion in zip(self.stages[1:], self.down, self.fusions, strict=True):
            fused = down(zeroed(fused, mask))
            x, mask = run_blocks(stage, x, self.checkpointed, mask)  # half of F and of T
            fused = fusion(x, fused, mask)
        return self.embedding_norm(self.embedding(self.pooling(fused, mask)))
