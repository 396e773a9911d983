"""A baseline without parameters: mean and standard deviation over time of the features themselves."""

from dataclasses import dataclass

import torch
from torch import nn

from .encoder import PARTS, Encoder
from .masks import frame_mask, zeroed
from .pooling import mean_and_deviation


@dataclass
class StatisticsConfig:
    """Whether the mean is kept; after mean normalisation it is zero and carries no information."""

    mean: bool = True


class Statistics(Encoder):
    """(B, T, F) -> (B, 2F): mean, then standard deviation; or (B, F), the deviation alone."""

    min_input = 2

    def __init__(self, config: StatisticsConfig, feature_dim: int):
        super().__init__()
        self.mean = config.mean
        self.embedding_dim = 2 * feature_dim if config.mean else feature_dim

    def parts(self) -> dict[str, nn.ModuleList]:
        return {part: nn.ModuleList() for part in PARTS}

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
        mask = None if frames is None else frame_mask(frames, x.shape[1]).unsqueeze(2)
        both = mean_and_deviation(zeroed(x, mask), dim=1, mask=mask)
        return both if self.mean else both[:, x.shape[2] :]
