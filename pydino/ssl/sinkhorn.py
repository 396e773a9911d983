"""Sinkhorn-Knopp normalisation of a teacher's outputs: over a batch, every prototype is to be used equally.

Cuturi 2013 (arXiv 1306.0895); for assignments to prototypes Caron et al. 2020, "SwAV" (arXiv 2006.09882). In
DINO's loss it takes the place of the centre (DINOv2, arXiv 2304.07193; SDPN, arXiv 2308.02774). With the
probabilities p (N, K) of N views in all processes, each of ``iterations`` times

    p_nk <- p_nk / (K sum_m p_mk),  then  p_nk <- p_nk / sum_j p_nj,

so that rows are distributions at the end, and the sums of columns are close to N / K. Rows are distributions
at the start too, as in SDPN's code; DINOv2 begins with exponentials of the logits. Where N < K no view can be
certain of its prototype: if the sums are equal, the mean entropy of the rows is ln(K / N) at least.
"""

from collections.abc import Callable

import torch


@torch.no_grad()
def sinkhorn(
    p: torch.Tensor,
    iterations: int = 3,
    add_up: Callable[[torch.Tensor], torch.Tensor] = lambda sums: sums,
) -> torch.Tensor:
    """Return the normalised probabilities of this process, float32, of the shape of ``p``.

    Args:
        p: (..., K) probabilities of this process's views, in all their micro-batches.
        iterations: at least 1.
        add_up: returns the sum over processes of a tensor.
    """
    smallest = torch.finfo(torch.float32).tiny  # of a prototype that no view has any probability for
    p = p.float()
    for _ in range(iterations):
        sums = add_up(p.flatten(0, -2).sum(0))
        p = p / (sums * p.shape[-1]).clamp_min(smallest)
        p = p / p.sum(-1, keepdim=True).clamp_min(smallest)
    return p
