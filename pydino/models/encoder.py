"""The base class of the encoders: a module from features or waveforms to one embedding per utterance, in
three parts.

Axes: B utterances, T frames, F columns of the features, H samples of a frame, D embedding.
"""

from typing import ClassVar, Literal

import torch
from torch import nn

InputKind = Literal["features", "waveform"]
PARTS = ("frames", "pooling", "embedding")


class Encoder(nn.Module):
    """(B, T, F) features, or (B, T, H) waveforms, to (B, D) embeddings, not normalised.

    Attributes:
        input_kind: input of :meth:`forward`: "features" (B, T, F) from the model's front end, or
            "waveform" (B, T, H), samples in [-1, 1] that follow one another, the H from the beginning of each
            frame to that of the next in a row.
        needed_features: options of the features that it was pre-trained with, and the values that they may
            have.
        embedding_dim: D.
        min_input: the least T.
        max_input: the most T; longer utterances are embedded in pieces. None: no limit of its own.
        sample_rate: Hz, that recordings must have been resampled to; None: any.
        checkpointed: recompute activations in the backward pass instead of storing them
            (:mod:`.activation_checkpointing`).
        compiles: whether torch.compile is worth its time.
    """

    input_kind: ClassVar[InputKind] = "features"
    embedding_dim: int
    min_input: int
    needed_features: ClassVar[dict[str, tuple]] = {}
    max_input: ClassVar[int | None] = None
    sample_rate: int | None = None
    checkpointed: bool = False
    compiles: ClassVar[bool] = True

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
        """Return the embeddings of a batch.

        Args:
            x: (B, T, F), or (B, T, H).
            frames: (B,) int64, how many frames of each row are valid, ``min_input`` or more; the
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

    def load_pretrained(self) -> None:
        """Load the weights that the configuration names in place of random ones; nothing where it names none.

        Raises:
            UserError: they are not there, or do not match.
        """

    def lr_scales(self) -> list[tuple[float, list[nn.Parameter]]]:
        """Return parameters with a learning rate of their own, as a factor and its parameters; 0: these are
        never trained.
        """
        return []
