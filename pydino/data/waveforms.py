"""A batch of audio in one copy to the device."""

from dataclasses import dataclass, replace

import numpy as np
import torch


@dataclass
class Waveforms:
    """The pieces of audio of a batch, silence removed, in one flat tensor, so that one copy moves them to the
    device.

    Attributes:
        samples: (S,) int16, or float32 in the range of 16-bit integers.
        offsets: (B,) int64, where each utterance's piece begins in ``samples``.
        lengths: (B,) int64, samples of each piece.
        starts: (B, V) int64, the first sample of each crop, relative to the piece; a crop may wrap around: an
            utterance shorter than a crop repeats from its beginning.
        sizes: (V,) int64, frames of each crop.
    """

    samples: torch.Tensor
    offsets: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    def renumbered(self, columns: np.ndarray, sizes: np.ndarray) -> "Waveforms":
        """Return the same crops with views numbered among all V of a batch: ``columns`` are the numbers of
        these, ``sizes`` (V,) the frames of all.
        """
        starts = np.zeros((len(self.starts), len(sizes)), dtype=np.int64)
        starts[:, columns] = self.starts
        return replace(self, starts=starts, sizes=sizes)

    @property
    def nbytes(self) -> int:
        """Bytes of the samples."""
        return self.samples.nbytes

    def pin_memory(self) -> "Waveforms":
        """Return a copy in page-locked memory."""
        return replace(self, samples=self.samples.pin_memory())

    def share_memory(self) -> "Waveforms":
        """Return the same in shared memory."""
        return replace(self, samples=self.samples.share_memory_())
