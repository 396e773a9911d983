"""Activation checkpointing: less memory for more computation. Activations inside the blocks of an encoder are
recomputed in the backward pass instead of stored (Chen et al. 2016, arXiv 1604.06174).

Results are the same, bit for bit where the operations are deterministic: the recomputation draws the same
dropout masks, and its batch norms use the same batch statistics but do not update the running statistics a
second time.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .masks import Mask


def run_block(block: nn.Module, x: torch.Tensor, checkpointed: bool, mask: Mask = None) -> torch.Tensor:
    """Return ``block(x, mask)``; with ``checkpointed``, and where gradients are enabled, only its input is
    stored.
    """
    if not (checkpointed and torch.is_grad_enabled()):
        return block(x, mask)
    return checkpoint(
        block, x, mask, use_reentrant=False, context_fn=lambda: (nullcontext(), buffers_kept(block))
    )


def run_blocks(
    blocks: nn.Sequential, x: torch.Tensor, checkpointed: bool, mask: Mask = None
) -> tuple[torch.Tensor, Mask]:
    """Return the output of the blocks, as :func:`run_block` one after the other, and the mask of its frames,
    which ``block.output_mask`` gives.
    """
    for block in blocks:
        x = run_block(block, x, checkpointed, mask)
        mask = None if mask is None else block.output_mask(mask)
    return x, mask


@contextmanager
def buffers_kept(block: nn.Module) -> Iterator[None]:
    """Let the block update copies of its buffers, and restore the originals at the end."""
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
