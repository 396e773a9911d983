"""The mel filter bank of Kaldi (feat/mel-computations.cc): triangles on the mel axis, weighing the bins of a
spectrum.
"""

import numpy as np

from pydino.base import log


def mel(frequency):
    """Return mel of Hz: 1127 ln(1 + f / 700)."""
    return 1127.0 * np.log1p(np.asarray(frequency, dtype=np.float64) / 700.0)


def hertz(mels):
    """Return Hz of mel, the inverse of :func:`mel`."""
    return 700.0 * np.expm1(np.asarray(mels, dtype=np.float64) / 1127.0)


def mel_weights(options) -> np.ndarray:
    """Return the filters as a (padded_size / 2, num_mel_bins) float64 matrix.

    With B filters there are B + 2 points equally spaced in mel from low_freq to high_freq; filter b rises
    linearly *in mel* from point b to point b + 1 and falls to point b + 2. It is evaluated at the frequencies
    of the bins; the last bin of the spectrum, half the sample rate, is unused, as in Kaldi.

    Raises:
        ValueError: frequencies outside the spectrum, or a filter so narrow that no bin falls into it.
    """
    bins, nyquist = options.num_mel_bins, options.sample_frequency / 2
    low, high = options.low_freq, _from_top(options.high_freq, nyquist)
    if bins < 3:
        raise ValueError(f"num_mel_bins: {bins} is too few; at least 3")
    if bins > options.padded_size // 2:
        raise ValueError(
            f"num_mel_bins: {bins} is too many for the {options.padded_size // 2} bins of the spectrum"
        )
    if not 0 <= low < high <= nyquist:
        raise ValueError(
            f"low_freq: the filters would reach from {low:g} to {high:g} Hz, but must rise within 0 and half "
            f"of sample_frequency, {nyquist:g} Hz (a high_freq of 0 or less counts down from there)"
        )
    points = np.linspace(mel(low), mel(high), bins + 2)
    if options.vtln_warp != 1.0:
        points = mel(_warp(hertz(points), options, low, high, nyquist))
    left, centre, right = points[:-2], points[1:-1], points[2:]
    # axes: (spectrum bins, filters)
    at = mel(np.arange(options.padded_size // 2) * options.sample_frequency / options.padded_size)[:, None]
    weights = np.where(at <= centre, (at - left) / (centre - left), (right - at) / (right - centre))
    weights[(at <= left) | (at >= right)] = 0.0
    empty = np.flatnonzero(weights.sum(axis=0) == 0)
    if len(empty):
        raise ValueError(
            f"num_mel_bins: {bins} is too many: no bin of the {options.padded_size}-point spectrum falls "
            f"into filter {empty[0]}, {hertz(left[empty[0]]):.0f} to {hertz(right[empty[0]]):.0f} Hz"
        )
    return weights


def log_filters(options) -> None:
    """Log the edges and the centre of every filter (Kaldi's --debug-mel)."""
    high = _from_top(options.high_freq, options.sample_frequency / 2)
    points = hertz(np.linspace(mel(options.low_freq), mel(high), options.num_mel_bins + 2))
    for index in range(options.num_mel_bins):
        log(
            f"mel filter {index}: {points[index]:.1f} to {points[index + 2]:.1f} Hz, centre "
            f"{points[index + 1]:.1f} Hz, before warping"
        )


def filter_centres(options) -> np.ndarray:
    """Return the centre of every filter in Hz, (num_mel_bins,), before warping."""
    high = _from_top(options.high_freq, options.sample_frequency / 2)
    return hertz(np.linspace(mel(options.low_freq), mel(high), options.num_mel_bins + 2))[1:-1]


def bands(weights: np.ndarray, width: int = 16) -> list[tuple[slice, slice]]:
    """Cut the filters into runs of ``width`` and return, for each, (rows that are not all zero, filters).

    A filter bank is a narrow band around a diagonal: multiplying run by run skips most of the zeros. Sixteen
    is the number of floats in the widest SIMD register of today's processors.
    """
    found = []
    for first in range(0, weights.shape[1], width):
        last = min(first + width, weights.shape[1])
        rows = np.flatnonzero(weights[:, first:last].any(axis=1))
        found.append((slice(int(rows[0]), int(rows[-1]) + 1), slice(first, last)))
    return found


def _from_top(frequency: float, nyquist: float) -> float:
    return frequency if frequency > 0 else nyquist + frequency


def _warp(frequency: np.ndarray, options, low: float, high: float, nyquist: float) -> np.ndarray:
    """Warp Hz by 1 / vtln_warp between two knees, and linearly from there to low and high, which stay
    (MelBanks::VtlnWarpFreq).
    """
    factor = options.vtln_warp
    low_cutoff = options.vtln_low
    high_cutoff = options.vtln_high if options.vtln_high >= 0 else nyquist + options.vtln_high
    if not 0.5 < factor < 1.5:
        raise ValueError(f"vtln_warp: {factor} is outside 0.5 to 1.5")
    if not low < low_cutoff < high_cutoff < high:
        raise ValueError(
            f"vtln_low: the cut-offs {low_cutoff:g} and {high_cutoff:g} Hz must rise strictly between "
            f"{low:g} and {high:g} Hz"
        )
    left_knee, right_knee = low_cutoff * max(1.0, factor), high_cutoff * min(1.0, factor)
    knots = [low, left_knee, right_knee, high]
    return np.interp(frequency, knots, [low, left_knee / factor, right_knee / factor, high])
