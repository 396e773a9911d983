"""An output layer that starts at the centroids of its classes, so that training on clusters does not begin by
destroying what the encoder knows.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn


@torch.no_grad()
def centroids(
    encoder: nn.Module, embed: Callable[[nn.Module], torch.Tensor], classes: torch.Tensor, num_classes: int
) -> torch.Tensor:
    """Return the directions of the classes, (K, D) float32 of length one on the CPU: with mu the mean
    embedding of the utterances,

        c_k = sum_{i in k} (x_i - mu) / |x_i - mu|, divided by its length.

    The mean goes into the last bias of the encoder, if that is trained: its embeddings are centred from then
    on, and cosines to the centroids are those between centred vectors. Otherwise mu is 0.

    Args:
        encoder: whose embeddings are averaged; its last bias is changed.
        embed: function of it (:meth:`pydino.train.method.Method.before_first_step`).
        classes: (N,) int64 in [0, K), of the utterances in the order of ``embed``.
        num_classes: K; none is empty.
    """
    x = embed(encoder).double()
    bias = _last_bias(encoder)
    if bias is not None and bias.requires_grad:
        mean = x.mean(0)
        x = x - mean
        bias -= mean.to(bias)
    sums = torch.zeros(num_classes, x.shape[1], dtype=x.dtype).index_add_(0, classes, F.normalize(x, dim=-1))
    return F.normalize(sums, dim=-1).float()


def _last_bias(encoder: nn.Module) -> nn.Parameter | None:
    """Return the bias that is added to the embedding last; None where the encoder has none."""
    modules = list(encoder.parts()["embedding"])
    return getattr(modules[-1], "bias", None) if modules else None
