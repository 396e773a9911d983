"""LResNet34, the "light" ResNet34 of the papers' own code: 16 to 128 channels, mean and standard deviation, 256-d embedding.

Source: the configuration fbank80_stmn_lresnet34_e256_do0 of JaejinCho/hyperion, branch ssl-dino. 3x3 stem of stride 1 without
max-pooling, basic blocks [3, 4, 6, 3] with strides 1, 2, 2, 2 in frequency and time, ReLU6, norm before activation; the embedding is
an affine layer without bias and a batch norm, no activation. With 80 mel bins: 1,988,912 parameters.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .pooling import mean_and_deviation

BLOCKS = (3, 4, 6, 3)


@dataclass
class LResNet34Config:
    """Sizes; the defaults are the papers'."""

    base_channels: int = 16  # of the first stage; each stage doubles them
    embedding_dim: int = 256

    def __post_init__(self):
        for name in ("base_channels", "embedding_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


class BasicBlock(nn.Module):
    """conv-norm-activation-conv-norm, plus the input (through a 1x1 convolution where the shape changes), activation."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.act = nn.ReLU6(inplace=True)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.norm1(self.conv1(x)))
        return self.act(self.norm2(self.conv2(y)) + self.shortcut(x))


class LResNet34(nn.Module):
    """(B, T, F) -> (B, D), not normalised. Any T; below 8 frames the deviations are zero."""

    min_frames = 8

    def __init__(self, config: LResNet34Config, feature_dim: int):
        super().__init__()
        width = config.base_channels
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU6(inplace=True))
        blocks, inputs, bins = [], width, feature_dim
        for stage, count in enumerate(BLOCKS):
            outputs, stride = width * 2**stage, 1 if stage == 0 else 2
            for index in range(count):
                blocks.append(BasicBlock(inputs, outputs, stride if index == 0 else 1))
                inputs = outputs
            bins = -(-bins // stride)
        self.blocks = nn.Sequential(*blocks)
        self.embedding = nn.Linear(2 * inputs * bins, config.embedding_dim, bias=False)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_dim)
        self.embedding_dim = config.embedding_dim
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.transpose(1, 2).unsqueeze(1)  # (B, 1, F, T)
        x = self.blocks(self.stem(x))  # (B, C, F/8, T/8)
        return self.embedding_norm(self.embedding(mean_and_deviation(x.flatten(1, 2))))
