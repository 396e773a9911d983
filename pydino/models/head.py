"""The DINO head: a projection whose output, after a softmax, student and teacher compare (Caron et al. 2021, arXiv 2104.14294)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class HeadConfig:
    """Size of the head; the papers': 2048, 256, 65536."""

    hidden_dim: int = 512
    bottleneck_dim: int = 128
    num_outputs: int = 1024  # K, the "prototypes"
    norm_last_layer: bool = True  # keep the length of every prototype at 1; false may learn more with a large batch, and is less stable

    def __post_init__(self):
        for name in ("hidden_dim", "bottleneck_dim", "num_outputs"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name}: {getattr(self, name)} is too few; at least 2")


class PrototypeLayer(nn.Module):
    """A linear layer without bias whose rows are g_k v_k / |v_k| (weight normalisation, Salimans and Kingma 2016); g starts at 1."""

    def __init__(self, dim: int, num_outputs: int, frozen_length: bool):
        super().__init__()
        self.weight_v = nn.Parameter(torch.empty(num_outputs, dim))
        self.weight_g = nn.Parameter(torch.ones(num_outputs, 1), requires_grad=not frozen_length)
        nn.init.kaiming_uniform_(self.weight_v, a=5**0.5)  # that of nn.Linear; only its direction matters

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight_g * F.normalize(self.weight_v, dim=1))


class DinoHead(nn.Module):
    """(B, D) embeddings -> (B, K) logits: a three-layer MLP with GELU to a bottleneck, L2 normalisation, prototypes.

    A logit is the cosine between bottleneck and prototype where the prototypes' length is frozen. Initialisation as in the
    authors' code: normal of deviation 0.02 truncated at two units, biases zero.
    """

    def __init__(self, config: HeadConfig, embedding_dim: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(embedding_dim, config.hidden_dim), nn.GELU(),
            nn.Linear(config.hidden_dim, config.hidden_dim), nn.GELU(),
            nn.Linear(config.hidden_dim, config.bottleneck_dim),
        )  # fmt: skip
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-2.0, b=2.0)
                nn.init.zeros_(module.bias)
        self.last_layer = PrototypeLayer(config.bottleneck_dim, config.num_outputs, config.norm_last_layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last_layer(F.normalize(self.mlp(x), dim=1))
