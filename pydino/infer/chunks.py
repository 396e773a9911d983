"""Chunks: an utterance cut into pieces as long as the crops that a classifier was trained on."""

from typing import Literal

import torch


def chunks(features: torch.Tensor, length: int, short: Literal["repeat", "mask"]) -> list[torch.Tensor]:
    """Return consecutive chunks (L, F) of an utterance (T, F), ceil(T / L) of them.

    The last one is moved back until it is full, so that it overlaps the one before and every frame is in a
    chunk.

    Args:
        features: T frames, one or more.
        length: L; 0: the whole utterance is the one chunk.
        short: what becomes of an utterance of fewer than L frames, as in training (``crops.short``):
            ``repeat``: repeated from its beginning until the chunk is full; ``mask``: the one chunk is the
            utterance itself, which is what an encoder makes of one that is padded and masked.
    """
    frames = len(features)
    if length == 0 or (frames < length and short == "mask"):
        return [features]
    if frames < length:
        return [features.repeat(-(-length // frames), 1)[:length]]
    starts = range(0, frames - length, length)
    return [features[start : start + length] for start in (*starts, frames - length)]
