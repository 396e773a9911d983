"""Activation checkpointing: less memory for more work. The blocks of an encoder are run a second time in the
backward pass instead of being remembered (Chen et al. 2016, arXiv 1604.06174).

What is computed stays the same, bit for bit where the operations themselves are: the second run draws the
same dropout, and its batch norms use the statistics of the batch as before but do not count the batch a
second time in their running ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run_block(block: nn.Module, x: torch.Tensor, checkpointed: bool) -> torch.Tensor:
    """Return ``block(x)``; with ``checkpointed``, and where a gradient is wanted, only ``x`` is
    remembered.
    """
    if not (checkpointed and torch.is_grad_enabled()):
        return block(x)
    return checkpoint(block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), buffers_kept(block)))


def run_blocks(blocks: nn.Sequential, x: torch.Tensor, checkpointed: bool) -> torch.Tensor:
    """Return ``blocks(x)``, as :func:`run_block` one after the other."""
    for block in blocks:
        x = run_block(block, x, checkpointed)
    return x


@contextmanager
def buffers_kept(block: nn.Module) -> Iterator[None]:
    """Let the block update copies of its buffers."""
    buffers = [
        (module, name, buffer)
        for module in block.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    for module, name, buffer in buffers:
        setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, name, buffer in buffers:
            setattr(module, name, buffer)
