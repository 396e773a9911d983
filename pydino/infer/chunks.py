"""Chunks of an utterance: consecutive pieces of one length."""

import torch


def chunks(features: torch.Tensor, length: int, short: str = "repeat") -> list[torch.Tensor]:
    """Return an utterance (T, F) as chunks (L, F): consecutive, the last one moved back so that it is full.

    Args:
        features: (T, F).
        length: L, frames of a chunk; 0: the utterance is the one chunk.
        short: an utterance of fewer frames is repeated from its start up to L (``repeat``), or left as it is
            (``mask``: an encoder that masks padded frames gives the same).
    """
    frames = len(features)
    if length == 0 or (frames < length and short == "mask"):
        return [features]
    if frames < length:
        return [features.repeat(-(-length // frames), 1)[:length]]
    starts = [*range(0, frames - length, length), frames - length]
    return [features[start : start + length] for start in starts]
