"""Simulated recording sessions: room, microphone, noise and level, applied to clean speech with numpy.

All effects are drawn per utterance, so that two utterances of one speaker have only the voice in common.
"""

import numpy as np

from local.mini.keyed_draws import KeyedDraws

# The strength of a session. Weaker sessions make the task easier for every system, most of all for plain
# statistics.
REVERBERATION_PROBABILITY, REVERBERATION_TIME = 0.4, (0.15, 0.6)  # T60, seconds
EQUALISER_DB = 3.2  # standard deviation of each of the curve's knots
SNR_DB = (15.0, 30.0)
LEVEL_DB = (-32.0, -16.0)  # of the whole, below full scale, root mean square


def record(speech: np.ndarray, rate: int, draws: KeyedDraws) -> np.ndarray:
    """Return ``speech`` as recorded in a random session.

    Args:
        speech: (S,) float samples, any scale.
        rate: samples a second.
        draws: the utterance's draws.

    Returns:
        (S,) int16 samples.
    """
    generator = draws.generator("session")
    # padding for the tails of the filters: circular convolution wraps into silence
    size = _fft_size(len(speech) + rate)
    frequency = np.fft.rfftfreq(size, 1 / rate)
    spectrum = np.fft.rfft(speech, size)
    if draws.uniform("reverberates") < REVERBERATION_PROBABILITY:
        spectrum *= np.fft.rfft(_room_response(draws, rate, generator), size)
    spectrum *= 10 ** (_equaliser(draws, frequency) / 20)
    clean = np.fft.irfft(spectrum, size)[: len(speech)]

    # Noise whose power falls with f^slope: 0 is white, -2 brown. It stays inside the band of speech by a
    # floor at 50 Hz.
    slope = draws.uniform("noise slope", -2.0, 0.0)
    noise = np.fft.rfft(generator.standard_normal(size)) * (np.maximum(frequency, 50.0) / 1000) ** (slope / 2)
    noise = np.fft.irfft(noise, size)[: len(speech)]
    noise *= np.sqrt(_power(clean) / _power(noise)) * 10 ** (-draws.uniform("snr", *SNR_DB) / 20)
    signal = clean + noise
    signal *= 32768 * 10 ** (draws.uniform("level", *LEVEL_DB) / 20) / np.sqrt(_power(signal))
    return np.clip(np.rint(signal), -32768, 32767).astype(np.int16)


def _power(samples: np.ndarray) -> float:
    return float(np.mean(samples**2)) + 1e-12


def _fft_size(samples: int) -> int:
    """Return the next size of the form 2^k, 3 * 2^k or 5 * 2^k, at which the transform is fast."""
    sizes = [factor * 2 ** int(np.ceil(np.log2(samples / factor))) for factor in (1, 3, 5)]
    return min(sizes)


def _room_response(draws: KeyedDraws, rate: int, generator: np.random.Generator) -> np.ndarray:
    """Return a direct path and a tail of noise that falls by 60 dB in T60, of a drawn direct-to-reverberant
    ratio.
    """
    time = draws.uniform("reverberation time", *REVERBERATION_TIME)
    seconds = np.arange(int(time * rate)) / rate
    tail = generator.standard_normal(len(seconds)) * 10 ** (-3 * seconds / time)
    tail *= 10 ** (-draws.uniform("direct to reverberant", 0.0, 12.0) / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return tail


def _equaliser(draws: KeyedDraws, frequency: np.ndarray) -> np.ndarray:
    """Return a smooth gain in dB: drawn knots an octave apart, joined by straight lines over the logarithm of
    frequency.
    """
    knots = np.array([62.5, 125, 250, 500, 1000, 2000, 4000, 8000])
    gains = draws.normal("equaliser", EQUALISER_DB, len(knots))
    return np.interp(np.log(np.maximum(frequency, 20.0)), np.log(knots), gains)
