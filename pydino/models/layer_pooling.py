"""From the states of all layers of a transformer to one vector: pooling over layers, then over frames.

Axes: B utterances, L layer states, T frames, D dimensions of a state, C compressed, H heads.
"""

import torch
from torch import nn

from .masks import Mask, zeroed
from .pooling import mean_and_deviation


class WeightedLayers(nn.Module):
    """L states (B, T, D) -> sum_l softmax(w)_l x_l, (B, T, D), in float32; equal weights at first (Yang et
    al. 2021, SUPERB, arXiv 2105.01051).
    """

    def __init__(self, layers: int):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, states: list[torch.Tensor]) -> torch.Tensor:
        return sum(share * x for share, x in zip(self.weights.float().softmax(0), states, strict=True))


class LayerStatistics(nn.Module):
    """Mean and standard deviation over time of one state, (B, 2D). No parameters.

    Args:
        dim: D.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.dim = 2 * dim

    def forward(self, states: list[torch.Tensor], mask: Mask = None) -> torch.Tensor:
        """Return the statistics of the last of ``states``; ``mask`` is (B, T, 1)."""
        return mean_and_deviation(zeroed(states[-1], mask), dim=1, mask=mask)


class WeightedStatistics(nn.Module):
    """Mean and standard deviation over time of the weighted sum of the states, (B, 2D).

    Args:
        layers: L.
        dim: D.
    """

    def __init__(self, layers: int, dim: int):
        super().__init__()
        self.layers = WeightedLayers(layers)
        self.dim = 2 * dim

    def forward(self, states: list[torch.Tensor], mask: Mask = None) -> torch.Tensor:
        return mean_and_deviation(zeroed(self.layers(states), mask), dim=1, mask=mask)


class Mhfa(nn.Module):
    """Multi-head factorised attentive pooling (Peng et al. 2022, arXiv 2210.01273), (B, H C).

    Keys K = S_k(sum_l softmax(w_k)_l x_l) and values V = S_v(sum_l softmax(w_v)_l x_l), (B, T, C) each, have
    layer weights of their own. Head h attends with a_ht = softmax_t(A K_t)_h, and gives sum_t a_ht V_t; the
    heads are concatenated. Softmax and sums are float32.

    Args:
        layers: L.
        dim: D.
        compressed: C.
        heads: H.
    """

    def __init__(self, layers: int, dim: int, compressed: int, heads: int):
        super().__init__()
        self.key_layers, self.value_layers = WeightedLayers(layers), WeightedLayers(layers)
        self.key, self.value = nn.Linear(dim, compressed), nn.Linear(dim, compressed)
        self.attention = nn.Linear(compressed, heads)
        self.dim = heads * compressed

    def forward(self, states: list[torch.Tensor], mask: Mask = None) -> torch.Tensor:
        logits = self.attention(self.key(self.key_layers(states)))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        values = zeroed(self.value(zeroed(self.value_layers(states), mask)), mask).to(logits.dtype)
        with torch.autocast(values.device.type, enabled=False):
            return (logits.softmax(1).transpose(1, 2) @ values).flatten(1)
