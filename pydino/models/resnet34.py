"""ResNet34 over frequency and time: the papers' light one, one of twice its width, and the successor's large
one with frequency-wise squeeze-excitation.

``lresnet34`` is the papers' encoder: the configuration fbank80_stmn_lresnet34_e256_do0 of JaejinCho/hyperion,
branch ssl-dino. 3x3 stem of stride 1 without max-pooling, basic blocks [3, 4, 6, 3] with strides 1, 2, 2, 2
in frequency and time, 16 to 128 channels, ReLU6, norm before activation, mean and standard deviation; the
embedding is an affine layer without bias and a batch norm, no activation. With 80 mel bins: 1,988,912
parameters.

``resnet34`` is the ResNet34 that WeSpeaker trains (wenet-e2e/wespeaker, examples/voxceleb/v2 and v3/dino,
ResNet34-TSTP-emb256): the same layers with 32 to 256 channels and ReLU; 6.63 M parameters. Departures: the
embedding has a batch norm instead of a bias, and the variance is biased. With ``base_channels: 64`` it has
the 64 to 512 channels of hyperion's ResNet34.

``fwse-resnet34`` is that of hyperion-ml/hyperion, branch persephone, egs/voxceleb/ssl.v1, version 1.2: 64 to
512 channels, squeeze-excitation over the frequencies, swish, norm after activation, attentive pooling, 192-d
embedding. With these options except channels and squeeze-excitation, lresnet34 is the light ResNet34 of that
recipe.
"""

from dataclasses import dataclass

import torch
from torch import nn

from pydino.base import check_sizes

from .activation_checkpointing import run_blocks
from .blocks import (
    Activation,
    SqueezeExcitation,
    check_dropout,
    make_activation,
    norm_and_activation,
)
from .encoder import Encoder
from .masks import Mask, frame_mask, normed, run_layer, zeroed
from .pooling import Pooling, make_pooling

BLOCKS = (3, 4, 6, 3)


@dataclass
class LResNet34Config:
    """Sizes and kinds; the defaults are the papers'."""

    base_channels: int = 16  # of the first stage; each stage doubles them
    embedding_dim: int = 256
    activation: Activation = "relu6"
    norm_before: bool = True  # norm before the activation; false: after it, and the convolutions have biases
    dropout: float = 0.0  # of whole channels, after each block
    pooling: Pooling = "statistics"
    attention_dim: int = 128  # inner size of attentive pooling
    se_reduction: int = 0  # of the frequency-wise squeeze-excitation in each block; 0: none

    def __post_init__(self):
        check_sizes(self, "base_channels", "embedding_dim", "attention_dim")
        check_dropout(self)
        check_sizes(self, "se_reduction", least=0)


@dataclass
class ResNet34Config(LResNet34Config):
    """The same options with WeSpeaker's defaults."""

    base_channels: int = 32
    activation: Activation = "relu"


@dataclass
class FwseResNet34Config(LResNet34Config):
    """The same options with the successor's defaults."""

    base_channels: int = 64
    embedding_dim: int = 192
    activation: Activation = "swish"
    norm_before: bool = False
    dropout: float = 0.01
    pooling: Pooling = "attentive"
    se_reduction: int = 4


class BasicBlock(nn.Module):
    """conv-norm-activation-conv-norm, plus the input (through a 1x1 convolution where the shape changes),
    activation.

    With ``norm_before`` false conv-activation-norm-conv, plus the input, activation, norm. Squeeze-excitation
    comes just before the sum.

    Args:
        inputs: channels before it.
        outputs: channels after it.
        stride: in frequency and in time.
        bins: frequencies after it.
        config: kinds of its layers; its sizes are not used.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: tuple[int, int], bins: int, config: LResNet34Config
    ):
        super().__init__()
        bias = not config.norm_before
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.act = make_activation(config.activation)
        self.norm_before = config.norm_before
        self.excitation = (
            SqueezeExcitation(bins, config.se_reduction, config.activation, axis=2)
            if config.se_reduction
            else nn.Identity()
        )
        self.dropout = nn.Dropout2d(config.dropout) if config.dropout else nn.Identity()
        self.stride = stride
        self.shortcut = nn.Identity()
        if stride != (1, 1) or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=bias))
            if config.norm_before:
                self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor, mask: Mask = None) -> torch.Tensor:
        after = None if mask is None else self.output_mask(mask)
        x = zeroed(x, mask)
        # Equivalent to a stride of the 1x1 convolution itself, whose gradient writes out of bounds on a CPU
        # with channels last and fewer than 16 channels
        # (github.com/uxlfoundation/oneDNN/issues/6035).
        shortcut = x if self.stride == (1, 1) else x[..., :: self.stride[0], :: self.stride[1]]
        if not isinstance(self.shortcut, nn.Identity):
            shortcut = run_layer(self.shortcut, shortcut, after)
        if self.norm_before:
            y = zeroed(self.act(normed(self.norm1, self.conv1(x), after)), after)
            y = normed(self.norm2, self.conv2(y), after)
            return self.dropout(self.act(self._excited(y, after) + shortcut))
        y = self.conv2(zeroed(normed(self.norm1, self.act(self.conv1(x)), after), after))
        return self.dropout(normed(self.norm2, self.act(self._excited(y, after) + shortcut), after))

    def _excited(self, x: torch.Tensor, mask: Mask) -> torch.Tensor:
        return x if isinstance(self.excitation, nn.Identity) else self.excitation(x, mask)

    def output_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """Return the mask of the output of an input masked by (B, 1, 1, T)."""
        return mask[..., :: self.stride[1]]


class ResNet34(Encoder):
    """(B, T, F) -> (B, D), not normalised. Any T; below 8 frames the deviations are zero."""

    min_input = 8

    def __init__(self, config: LResNet34Config, feature_dim: int):
        super().__init__()
        width = config.base_channels
        norm = norm_and_activation(nn.BatchNorm2d(width), config.activation, config.norm_before)
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=not config.norm_before), *norm)
        blocks, inputs, bins = [], width, feature_dim
        for stage, count in enumerate(BLOCKS):
            outputs, stride = width * 2**stage, 1 if stage == 0 else 2
            bins = -(-bins // stride)
            for index in range(count):
                blocks.append(
                    BasicBlock(inputs, outputs, (stride, stride) if index == 0 else (1, 1), bins, config)
                )
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.pooling = make_pooling(config.pooling, inputs * bins, config.attention_dim)
        self.embedding = nn.Linear(2 * inputs * bins, config.embedding_dim, bias=False)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_dim)
        self.embedding_dim = config.embedding_dim
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def parts(self) -> dict[str, nn.ModuleList]:
        return {
            "frames": nn.ModuleList([self.stem, self.blocks]),
            "pooling": nn.ModuleList([self.pooling]),
            "embedding": nn.ModuleList([self.embedding, self.embedding_norm]),
        }

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
        mask = None if frames is None else frame_mask(frames, x.shape[1])[:, None, None]  # (B, 1, 1, T)
        x = zeroed(x.transpose(1, 2).unsqueeze(1), mask)  # (B, 1, F, T)
        x = run_layer(self.stem, x, mask)
        x, mask = run_blocks(self.blocks, x, self.checkpointed, mask)  # (B, C, F/8, T/8)
        return self.embedding_norm(self.embedding(self.pooling(x, mask)))
