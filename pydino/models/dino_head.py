"""The projection head that DINO's loss looks through; thrown away after training.

As in the papers' code (section "head" of its configuration): an MLP with GELU and no norm, a bottleneck, L2 normalisation, and a
linear layer whose rows have length one (weight normalisation with its gain fixed at 1) and no bias. The outputs are the cosines
between the bottleneck and K prototypes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class HeadConfig:
    """Sizes of the head; the papers' are 2048, 256 and 65536."""

    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    output_dim: int = 65536  # prototypes

    def __post_init__(self):
        for name in ("hidden_dim", "bottleneck_dim", "output_dim"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, got {getattr(self, name)}")


class DinoHead(nn.Module):
    """(B, D) -> (B, K) cosines in [-1, 1]."""

    def __init__(self, config: HeadConfig, embedding_dim: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(embedding_dim, config.hidden_dim), nn.GELU(),
            nn.Linear(config.hidden_dim, config.hidden_dim), nn.GELU(),
            nn.Linear(config.hidden_dim, config.bottleneck_dim),
        )  # fmt: skip
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.prototypes = nn.Parameter(torch.empty(config.output_dim, config.bottleneck_dim))
        nn.init.normal_(self.prototypes)  # only the directions matter

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.mlp(x), dim=-1) @ F.normalize(self.prototypes, dim=-1).T
