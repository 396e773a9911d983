"""Activation checkpointing: less memory for more work. The blocks of an encoder are run a second time in the backward pass instead of being
remembered (Chen et al. 2016, arXiv 1604.06174).

What is computed stays the same, bit for bit where the operations themselves are: the second run draws the same dropout, and its batch norms
use the statistics of the batch as before but do not count the batch a second time in their running ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def run_blocks(blocks: nn.Sequential, x: torch.Tensor, checkpointed: bool) -> torch.Tensor:
    """Return ``blocks(x)``; with ``checkpointed``, and where a gradient is wanted, only the input of each block is remembered."""
    if not (checkpointed and torch.is_grad_enabled()):
        return blocks(x)
    for block in blocks:
        x = checkpoint(block, x, use_reentrant=False, context_fn=lambda block=block: (nullcontext(), _running_statistics_kept(block)))
    return x


@contextmanager
def _running_statistics_kept(block: nn.Module) -> Iterator[None]:
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
