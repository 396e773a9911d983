"""ECAPA-TDNN (Desplanques et al. 2020, arXiv 2005.07143): one-dimensional SE-Res2 blocks whose outputs are
concatenated, and attentive pooling.

Sizes and order are those of hyperion-ml/hyperion, branch persephone, egs/voxceleb/ssl.v1, version 1.2: kernel
5 into 512 channels, three blocks with dilations 2, 3, 4 and scale 8, 1536 channels pooled, swish, norm after
activation, 192-d embedding.
"""

from dataclasses import dataclass

import torch
from torch import nn

from pydino.base import check_sizes

from .activation_checkpointing import run_block
from .blocks import (
    Activation,
    SqueezeExcitation,
    check_dropout,
    make_activation,
    norm_and_activation,
)
from .encoder import Encoder
from .masks import Mask, frame_mask, normed, run_layer, zeroed
from .pooling import AttentivePooling

DILATIONS = (2, 3, 4)


@dataclass
class EcapaTdnnConfig:
    """Sizes and kinds; the defaults are the successor's."""

    channels: int = 512
    scale: int = 8  # groups of channels in a Res2 layer; the output of each is added to the next
    pooled_channels: int = 1536
    embedding_dim: int = 192
    se_reduction: int = 4
    attention_dim: int = 128
    activation: Activation = "swish"
    norm_before: bool = False  # norm after the activation; all convolutions have biases then
    dropout: float = 0.002  # of whole channels, after the first layer and each block

    def __post_init__(self):
        check_sizes(self, "channels", "pooled_channels", "embedding_dim", "se_reduction", "attention_dim")
        check_dropout(self)
        if self.scale < 2 or self.channels % self.scale:
            raise ValueError(
                f"scale must be 2 or more and divide channels, got {self.scale} and {self.channels}"
            )


def conv_layer(
    inputs: int, outputs: int, kernel: int, dilation: int, config: EcapaTdnnConfig
) -> nn.Sequential:
    """Return a convolution over time (T is kept), norm and activation in the order of the configuration."""
    conv = nn.Conv1d(
        inputs,
        outputs,
        kernel,
        padding=dilation * (kernel // 2),
        dilation=dilation,
        bias=not config.norm_before,
    )
    return nn.Sequential(
        conv, *norm_and_activation(nn.BatchNorm1d(outputs), config.activation, config.norm_before)
    )


class SeRes2Block(nn.Module):
    """(B, C, T) -> (B, C, T): 1x1 convolution, Res2 layer, 1x1 convolution, squeeze-excitation, plus the
    input.

    The Res2 layer splits the channels into groups; each but the last is convolved after the previous group's
    output has been added, and the last is passed through unchanged (Gao et al. 2019, arXiv 1904.01169).
    """

    def __init__(self, dilation: int, config: EcapaTdnnConfig):
        super().__init__()
        channels, width = config.channels, config.channels // config.scale
        self.first = conv_layer(channels, channels, 1, 1, config)
        self.groups = nn.ModuleList(
            conv_layer(width, width, 3, dilation, config) for _ in range(config.scale - 1)
        )
        self.last = nn.Conv1d(channels, channels, 1, bias=not config.norm_before)
        self.norm = nn.BatchNorm1d(channels)
        self.act = make_activation(config.activation)
        self.norm_before = config.norm_before
        self.excitation = SqueezeExcitation(channels, config.se_reduction, config.activation)
        self.dropout = nn.Dropout1d(config.dropout) if config.dropout else nn.Identity()

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        parts = zeroed(run_layer(self.first, x, mask), mask).chunk(len(self.groups) + 1, dim=1)
        outputs = [zeroed(run_layer(self.groups[0], parts[0], mask), mask)]
        for group, part in zip(self.groups[1:], parts[1:-1], strict=True):
            outputs.append(zeroed(run_layer(group, outputs[-1] + part, mask), mask))
        y = self.last(torch.cat([*outputs, parts[-1]], dim=1))
        if self.norm_before:
            y = self.excitation(normed(self.norm, y, mask), mask)
            return self.dropout(self.act(y + x))
        return self.dropout(normed(self.norm, self.act(self.excitation(y, mask) + x), mask))


class EcapaTdnn(Encoder):
    """(B, T, F) -> (B, D), not normalised. Any T; the ends are padded with zeros."""

    min_input = 2

    def __init__(self, config: EcapaTdnnConfig, feature_dim: int):
        super().__init__()
        self.stem = conv_layer(feature_dim, config.channels, 5, 1, config)
        if config.dropout:
            self.stem.append(nn.Dropout1d(config.dropout))
        self.blocks = nn.ModuleList(SeRes2Block(dilation, config) for dilation in DILATIONS)
        self.join = conv_layer(len(DILATIONS) * config.channels, config.pooled_channels, 1, 1, config)
        self.pooling = AttentivePooling(config.pooled_channels, config.attention_dim)
        self.embedding = nn.Linear(2 * config.pooled_channels, config.embedding_dim, bias=False)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_dim)
        self.embedding_dim = config.embedding_dim
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def parts(self) -> dict[str, nn.ModuleList]:
        return {
            "frames": nn.ModuleList([self.stem, self.blocks, self.join]),
            "pooling": nn.ModuleList([self.pooling]),
            "embedding": nn.ModuleList([self.embedding, self.embedding_norm]),
        }

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
        mask = None if frames is None else frame_mask(frames, x.shape[1]).unsqueeze(1)  # (B, 1, T)
        x = run_layer(self.stem, zeroed(x.transpose(1, 2), mask), mask)  # (B, C, T)
        outputs = []
        for block in self.blocks:
            x = run_block(block, x, self.checkpointed, mask)
            outputs.append(x)
        x = run_layer(self.join, torch.cat(outputs, dim=1), mask)
        return self.embedding_norm(self.embedding(self.pooling(x, mask)))
