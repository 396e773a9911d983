"""The projection head between the embedding and DINO's loss; discarded after training.

As in the papers' code (section "head" of its configuration): an MLP with GELU and no norm, a bottleneck, L2
normalisation, and a linear layer without bias whose rows have unit length (weight normalisation with its gain
fixed at 1). The outputs are the cosines between the bottleneck and K prototypes. The papers' successor has a
smaller MLP with swish activations, each followed by a batch norm; SDPN and RDINO have one before each GELU.

The last product is in float32 whatever the precision of the rest, because the teacher's temperature
multiplies its error by 25. For K = 65,536 and temperatures 0.1 and 0.04, relative errors against float64 of
DINO's loss and of its gradient are: float32 3e-5 and 2e-5 (most of it from the sum in the softmax), TF32
(torch.set_float32_matmul_precision("high")) 3e-5 and 7e-4, float16 1e-4 and 3e-3, bfloat16 2e-4 and 1e-2.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from pydino.base import check_sizes

from .blocks import Activation, check_dropout, make_activation

MOST_PROTOTYPES = 10_000_000


@dataclass
class HeadConfig:
    """Sizes and kinds of the head; the defaults are the papers'."""

    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    output_dim: int = 65536  # prototypes
    activation: Activation = "gelu"
    batch_norm: bool = False  # in the two hidden layers, after the activation
    norm_before: bool = False  # the batch norms are before it
    dropout: float = 0.0  # of the hidden layers
    # one set of prototypes for student and teacher, trained by gradient without weight decay (SDPN); else the
    # teacher's are an average over time of the student's, like its other weights
    shared_prototypes: bool = False

    def __post_init__(self):
        check_sizes(self, "hidden_dim", "bottleneck_dim", least=2)
        check_sizes(self, "output_dim", least=2, most=MOST_PROTOTYPES)
        check_dropout(self)
        if self.norm_before and not self.batch_norm:
            raise ValueError("norm_before places a batch norm; set batch_norm: true")


class DinoHead(nn.Module):
    """(B, D) -> (B, K) cosines in [-1, 1], float32 or better."""

    def __init__(self, config: HeadConfig, embedding_dim: int):
        super().__init__()
        self.mlp = nn.Sequential(
            *_hidden_layer(embedding_dim, config),
            *_hidden_layer(config.hidden_dim, config),
            nn.Linear(config.hidden_dim, config.bottleneck_dim),
        )
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.prototypes = nn.Parameter(torch.empty(config.output_dim, config.bottleneck_dim))
        if config.shared_prototypes:
            # As in SDPN's code: the shorter they are, the faster the gradient turns them.
            bound = config.bottleneck_dim**-0.5
            nn.init.uniform_(self.prototypes, -bound, bound)
        else:
            nn.init.normal_(self.prototypes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outputs(self.bottleneck(x))

    def bottleneck(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the prototypes are compared with, before L2 normalisation: (B, C), float32 or better,
        of embeddings (B, D).
        """
        x = self.mlp(x)
        return x.to(torch.promote_types(x.dtype, self.prototypes.dtype))

    def outputs(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Return the outputs (B, K) of bottlenecks (B, C)."""
        with torch.autocast(bottleneck.device.type, enabled=False):
            return F.normalize(bottleneck, dim=-1) @ F.normalize(self.prototypes, dim=-1).T


def _hidden_layer(inputs: int, config: HeadConfig) -> list[nn.Module]:
    layer = [nn.Linear(inputs, config.hidden_dim), make_activation(config.activation)]
    if config.batch_norm:
        layer.insert(1 if config.norm_before else 2, nn.BatchNorm1d(config.hidden_dim))
    if config.dropout:
        layer.append(nn.Dropout(config.dropout))
    return layer
