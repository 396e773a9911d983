"""Sample-rate conversion by a polyphase filter."""

import math
from functools import lru_cache

import numpy as np

from pydino.base import UserError

_ZEROS = 32  # zero crossings of the filter on each side: how sharp it is
_ROLL_OFF = 0.94  # end of the pass band, relative to the lower Nyquist frequency
_BETA = 9.0  # of the Kaiser window: some 90 dB of stop-band attenuation, below the noise of 16 bits


def resample(samples: np.ndarray, rate: int, to: int) -> np.ndarray:
    """Return samples (S,) at another rate, (ceil(S * to / rate),) float32, in time with the input.

    A windowed sinc (Kaiser) that keeps the band common to both rates, up to 94 % of the lower Nyquist
    frequency.
    """
    rate, to = int(rate), int(to)
    if rate < 1 or to < 1:
        raise ValueError(f"cannot resample from {rate} to {to} Hz")
    samples = np.asarray(samples, dtype=np.float32)
    if rate == to or len(samples) == 0:
        return samples
    # imported here, because it takes longer than the rest of this package and few callers need it
    import scipy.signal

    common = math.gcd(rate, to)
    up, down = to // common, rate // common
    return scipy.signal.resample_poly(samples, up, down, window=_filter(up, down)).astype(
        np.float32, copy=False
    )


def needed_samples(first: int, last: int, total: int, rate: int, to: int) -> tuple[int, int, int]:
    """Return which samples [begin, end) of ``total`` at ``rate`` the resampled samples [first, last) depend
    on, and ``skip``.

    ``resample(x[begin:end], rate, to)[skip : skip + last - first]`` equals ``resample(x, rate,
    to)[first:last]``, without the rest.
    """
    common = math.gcd(rate, to)
    up, down = to // common, rate // common
    reach = _ZEROS * max(up, down) // up + 1
    begin = max(first * down // up - reach, 0) // down * down  # where both sequences have a sample
    end = min(-(-last * down // up) + reach, total)
    return begin, end, first - begin // down * up


def check_rate(rate: int, options, where: str) -> None:
    """Raise UserError unless FrameOptions ``options`` allow resampling audio of ``rate`` Hz to the rate of
    the features.
    """
    wanted = int(options.sample_frequency)
    name = "allow_downsample" if rate > wanted else "allow_upsample"
    if rate != wanted and not getattr(options, name):
        raise UserError(
            f"{where}: {rate} Hz, but the features are of {wanted} Hz; set '{name}: true' in their "
            "configuration to have it resampled"
        )


@lru_cache(maxsize=8)
def _filter(up: int, down: int) -> np.ndarray:
    import scipy.signal

    slower = max(up, down)
    return scipy.signal.firwin(2 * _ZEROS * slower + 1, _ROLL_OFF / slower, window=("kaiser", _BETA)).astype(
        np.float32
    )
