"""The protocol of sources of training utterances: stored features, or recordings."""

from typing import Protocol

import numpy as np

from .training_set import Crops
from .waveforms import Waveforms


class Source(Protocol):
    """N utterances, identified by their hashes alone; implemented by :class:`TrainingSet` and
    :class:`AudioSet`.

    Attributes:
        hashes: (N,) uint64, ascending: the order of everything else.
        lengths: (N,) frames, silence removed.
    """

    hashes: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        """Return N."""

    def collect(
        self, indices: np.ndarray, starts: np.ndarray, sizes: np.ndarray, factors: np.ndarray | None = None
    ) -> Crops | Waveforms:
        """Return crops of utterances ``indices`` (B,) from frames ``starts`` (B, V) on, ``sizes`` (V,) frames
        each.

        Args:
            factors: (B,) speed factors: a crop of L frames spans L * factor frames of the utterance. None:
                all 1.
        """
