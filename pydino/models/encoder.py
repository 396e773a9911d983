"""The base class of the encoders: a module from features or waveforms to one embedding per utterance, in
three parts.

Axes: B utterances, T frames, F columns of the features, S samples, D embedding.
"""

from typing import ClassVar, Literal

import torch
from torch import nn

InputKind = Literal["features", "waveform"]
PARTS = ("frames", "pooling", "embedding")


class Encoder(nn.Module):
    """(B, T, F) features, or (B, S) waveforms, to (B, D) embeddings, not normalised.

    Attributes:
        input_kind: input of :meth:`forward`: "features" (B, T, F) from the model's front end, or
            "waveform" (B, S), samples in [-1, 1].
        embedding_dim: D.
        min_input: the least T, in frames, or the least S, in samples.
        checkpointed: recompute activations in the backward pass instead of storing them
            (:mod:`.activation_checkpointing`).
    """

    input_kind: ClassVar[InputKind] = "features"
    embedding_dim: int
    min_input: int
    checkpointed: bool = False

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
        """Return the embeddings of a batch.

        Args:
            x: (B, T, F), or (B, S).
            frames: (B,) int64, how many frames (samples) of each row are valid, ``min_input`` or more; the
                others, at its end, may hold anything. The embedding of a row is that of its valid frames by
                themselves, up to rounding; in training, batch norms use the valid frames of all rows. None:
                every frame is valid.
        """
        raise NotImplementedError

    def parts(self) -> dict[str, nn.ModuleList]:
        """Return the modules of each part, in the order of the forward pass.

        Returns:
            "frames": layers that keep the time axis; "pooling": from frames to one vector per utterance;
            "embedding": the affine layers after that. Every parameter and every buffer belongs to exactly
            one part; a part without any is an empty list. The modules are looked up at each call, so that
            batch norms replaced by synchronised ones are found too.
        """
        raise NotImplementedError
