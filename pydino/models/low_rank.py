"""Few trained parameters inside a frozen transformer: low-rank updates of its attention, or bottleneck
adapters after its feed-forward layers. Both change nothing at the start of training.

Their modules are called ``added``, and are found by that name.
"""

import math

import torch
from torch import nn
from torch.nn.utils import parametrize

# by name of the layer in the library's networks
ATTENTION = ("q_proj", "v_proj", "linear_q", "linear_v")
FEED_FORWARD = ("feed_forward", "ffn2")


class LowRankUpdate(nn.Module):
    """W -> W + (alpha / r) B A with A (r, in) random and B (out, r) zero at first (Hu et al. 2021, LoRA,
    arXiv 2106.09685).

    It is a parametrisation of the matrix rather than a layer beside it, as WavLM's attention takes the
    matrices of its layers without calling them.
    """

    def __init__(self, weight: torch.Tensor, rank: int, alpha: float):
        super().__init__()
        outputs, inputs = weight.shape
        self.scale = alpha / rank
        self.added = nn.ParameterDict(
            {"down": weight.new_empty(rank, inputs), "up": weight.new_zeros(outputs, rank)}
        )
        nn.init.kaiming_uniform_(self.added["down"], a=math.sqrt(5))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.scale * (self.added["up"] @ self.added["down"])


class Adapter(nn.Module):
    """x -> U relu(D LN(x)) with U zero at first (Houlsby et al. 2019, arXiv 1902.00751), added to the output
    of a feed-forward layer.
    """

    def __init__(self, dim: int, inner: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.down, self.up = nn.Linear(dim, inner), nn.Linear(inner, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(self.norm(x)).relu())


def add_low_rank_updates(network: nn.Module, rank: int, alpha: float) -> None:
    """Give the matrices of queries and values of every attention layer a low-rank update, in place."""
    for name, module in list(network.named_modules()):
        if name.rpartition(".")[2] in ATTENTION:
            parametrize.register_parametrization(module, "weight", LowRankUpdate(module.weight, rank, alpha))


def add_adapters(network: nn.Module, dim: int, inner: int) -> None:
    """Put an adapter after every feed-forward layer, (the second, where a layer has two), in place."""
    for name, module in list(network.named_modules()):
        if name.rpartition(".")[2] in FEED_FORWARD:
            module.added = Adapter(dim, inner)
            module.register_forward_hook(_adapted)  # a function of the module, so that copies have their own


def _adapted(module: nn.Module, _, output: torch.Tensor) -> torch.Tensor:
    return output + module.added(output)


def added_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of low-rank updates and adapters."""
    return [p for name, p in network.named_parameters() if "added" in name.split(".")]
