"""Sample-rate conversion by a polyphase filter."""

import math
from functools import lru_cache

import numpy as np

_ZEROS = 32  # zero crossings of the filter on each side: how sharp it is
_ROLL_OFF = 0.94  # where the pass band ends, as a share of the lower half sample rate
_BETA = 9.0  # of the Kaiser window: some 90 dB of stop-band attenuation, below the noise of 16 bits


def resample(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Return samples (S,) at another rate, (ceil(S * to / rate),) float32, in time with the input.

    A windowed sinc (Kaiser) that keeps what both rates can carry, up to 94 % of the lower half sample rate.
    """
    rate, to = int(rate), int(to)
    if rate < 1 or to < 1:
        raise ValueError(f"cannot resample from {rate} to {to} Hz")
    samples = np.asarray(samples, dtype=np.float32)
    if rate == to or len(samples) == 0:
        return samples
    import scipy.signal  # here, because importing it takes longer than everything else in this room and few need it

    common = math.gcd(rate, to)
    up, down = to // common, rate // common
    return scipy.signal.resample_poly(samples, up, down, window=_filter(up, down)).astype(np.float32, copy=False)


@lru_cache(maxsize=8)
def _filter(up: int, down: int) -> np.ndarray:
    import scipy.signal

    slower = max(up, down)
    return scipy.signal.firwin(2 * _ZEROS * slower + 1, _ROLL_OFF / slower, window=("kaiser", _BETA)).astype(np.float32)
