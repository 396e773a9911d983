"""What a batch of audio is on its way to the device."""

from dataclasses import dataclass

import numpy as np
import torch


@dataclass
class Waveforms:
    """A batch's pieces of audio as one flat run of samples, silence cut out, so that one copy brings them to
    the device.

    Attributes:
        samples: (S,) int16, or float32 in the range of 16-bit integers.
        offsets: (B,) int64, where each utterance's piece begins in ``samples``.
        lengths: (B,) int64, samples of each piece.
        starts: (B, V) int64, the first sample of each crop, relative to the piece; a crop may wrap: an
            utterance shorter than a crop repeats from its beginning.
        sizes: (V,) int64, frames of each crop.
    """

    samples: torch.Tensor
    offsets: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    def pin_memory(self) -> "Waveforms":
        """Return a copy that a GPU can fetch by itself."""
        return Waveforms(self.samples.pin_memory(), self.offsets, self.lengths, self.starts, self.sizes)
