"""The hash of samples: the same for the same audio under any name and in any lossless container."""

import hashlib
import struct
from collections.abc import Callable

import numpy as np

_BLOCK = 1 << 20  # samples that are read at a time where nothing else reads them


class HashingReader:
    """A source of samples that is read in order, without overlap, and hashed as it is read.

    The hash is the first 64 bits of SHA-256 over the sample rate in Hz and the number of samples, two
    little-endian 64-bit integers, and the samples, little-endian 16-bit integers. Samples of more than 16
    bits are rounded to the nearest of these (halves to the even one) and clipped to their range, so that
    16-bit audio that was stored with 24 bits or as floats keeps its hash. It is that of the recording as it
    is read: before resampling, of one channel, of the samples of the segment alone.

    Args:
        read: callable (first, last) -> samples [first, last), int16, or float32 in the range of 16-bit
            integers.
        samples: how many there are.
        rate: Hz.
    """

    def __init__(self, read: Callable[[int, int], np.ndarray], samples: int, rate: int):
        self._read, self._samples, self._at = read, samples, 0
        # Twice as fast as BLAKE2b where the processor has instructions for it.
        self._digest = hashlib.sha256(struct.pack("<qq", rate, samples))

    def read(self, first: int, last: int) -> np.ndarray:
        """Return samples [first, last); ``first`` is where the last call ended."""
        if first != self._at:
            raise ValueError(f"samples are hashed in order: {self._at} comes next, not {first}")
        samples = self._read(first, last)
        self._digest.update(_as_integers(samples))
        self._at = last
        return samples

    def audio_hash(self) -> str:
        """Return the hash of all samples, 16 hexadecimal digits; those that were not needed are read now."""
        while self._at < self._samples:
            self.read(self._at, min(self._at + _BLOCK, self._samples))
        return self._digest.hexdigest()[:16]


def _as_integers(samples: np.ndarray) -> np.ndarray:
    if samples.dtype.kind != "i":
        samples = np.rint(samples).clip(-32768, 32767)
    return np.ascontiguousarray(samples, dtype="<i2")
