"""A waveform that is read in order, in blocks, and resampled while it is read: only the requested part is in
memory.
"""

import math

import numpy as np

from .resampling import needed_samples, resample


class Stream:
    """Samples at a wanted rate of a waveform that is read once, from its beginning to its end.

    Args:
        read: callable (first, last) -> samples [first, last) of the waveform; called in ascending order,
            without overlap.
        total: samples of the waveform.
        rate: of the waveform, in Hz.
        to: the wanted rate.

    Attributes:
        samples: number of samples at the wanted rate.
    """

    def __init__(self, read, total: int, rate: int, to: int):
        self.samples = math.ceil(total * to / rate)
        self._read = _Overlapping(lambda *span: read(*span).astype(np.float32, copy=False)).read
        if rate == to:
            return
        source = self._read

        def resampled(first: int, last: int) -> np.ndarray:
            begin, end, skip = needed_samples(first, last, total, rate, to)
            return resample(source(begin, end), rate, to)[skip : skip + last - first]

        self._read = _Overlapping(resampled).read

    def read(self, first: int, last: int) -> np.ndarray:
        """Return samples [first, last), (last - first,) float32; ``first`` may not be less than at the last
        call.
        """
        return self._read(first, last)


class _Overlapping:
    """Overlapping reads of a source that can be read only once, in order."""

    def __init__(self, read):
        self._read, self._first, self._kept = read, 0, None

    def read(self, first: int, last: int) -> np.ndarray:
        if self._kept is None:
            self._first, self._kept = first, self._read(first, last)
        there = self._first + len(self._kept)
        if last > there:
            kept = self._kept[first - self._first :]
            self._kept = (
                np.concatenate([kept, self._read(there, last)]) if len(kept) else self._read(there, last)
            )
            self._first = first if len(kept) else there
        return self._kept[first - self._first : last - self._first]
