"""Speed perturbation by rational factors, one batch at a time: y(t) = x(f t), so that every frequency is
multiplied by f.

Axes: N waveforms, S samples of the source, T samples of the result.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F

from pydino.base import keyed_uniform, purpose

LARGEST_DENOMINATOR = 100
_ZEROS = 24  # zero crossings of the filter on each side
_ROLL_OFF = 0.94  # where the filter falls to half, relative to the lower Nyquist frequency
_BETA = 7.0  # of the Kaiser window: some 70 dB of stop-band attenuation


def rational(factor: float) -> Fraction:
    """Return a speed factor such as 0.9 as 9/10.

    Raises:
        ValueError: outside 0.5 to 2, or no fraction of small numbers.
    """
    fraction = Fraction(factor).limit_denominator(LARGEST_DENOMINATOR)
    if not 0.5 <= factor <= 2 or abs(float(fraction) - factor) > 1e-9:
        raise ValueError(f"speed factor {factor} must be in 0.5 to 2 and have at most two decimals")
    return fraction


def drawn_factors(factors: list[float], seed: int, visits: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Return the speed of each utterance, (B,) float64, drawn from ``factors``, keyed by (seed, visit,
    utterance hash).

    All views of a visit share it. Both the reader of the audio and the maker of the views call this.
    """
    drawn = keyed_uniform(seed, visits, hashes, purpose("speed factor"))
    return np.asarray(factors, dtype=np.float64)[np.floor(drawn * len(factors)).astype(np.int64)]


@dataclass(frozen=True)
class Span:
    """The samples of the source that some samples of the result depend on; positions have a common origin."""

    first: int  # sample of the source, may be negative
    count: int
    skip: int  # samples of the result before the first wanted one


class SpeedChanger:
    """Change of speed by a windowed sinc (Kaiser), as a polyphase filter.

    Sample j of the result is x(j p / q), f = p / q: q samples of the result to p of the source, so that one
    convolution with q filters and a stride of p makes them all. Frequencies above the Nyquist frequency of
    the result are filtered out.

    Args:
        factor: f.
        device: where waveforms are.
    """

    def __init__(self, factor: float, device="cpu"):
        fraction = rational(factor)
        self._p, self._q = fraction.numerator, fraction.denominator
        cutoff = _ROLL_OFF * min(1.0, 1.0 / factor)  # of half the source's sample rate
        self._half = math.ceil(_ZEROS * max(1.0, factor))
        # axes: (q phases, taps); tap k of phase r is h(r p / q - (k - half)).
        taps = 2 * self._half + 1 + (self._q - 1) * self._p // self._q
        at = (np.arange(self._q) * self._p / self._q)[:, None] - (np.arange(taps) - self._half)
        window = np.i0(_BETA * np.sqrt(np.clip(1 - (at / self._half) ** 2, 0, None))) * (
            np.abs(at) <= self._half
        )
        filters = np.sinc(cutoff * at) * window
        filters /= filters.sum(axis=1, keepdims=True)
        # In double on a GPU, so that a caller's choice of TF32 for its network does not reach the samples.
        form = torch.float64 if torch.device(device).type == "cuda" else torch.float32
        self._filters = torch.from_numpy(filters).to(device, form)[:, None]

    def span(self, first: int, count: int) -> Span:
        """Return the span of the source that samples ``first`` to ``first`` + ``count`` - 1 of the result
        depend on.
        """
        block, end = first // self._q, -((-first - count) // self._q)
        taps = self._filters.shape[2]
        return Span(block * self._p - self._half, (end - block - 1) * self._p + taps, first - block * self._q)

    def __call__(self, source: torch.Tensor, span: Span, count: int) -> torch.Tensor:
        """Return ``count`` samples, (N, count), from the samples of ``span`` of the source, (N, span.count)
        float32.
        """
        # (N, q, blocks)
        phases = F.conv1d(source[:, None].to(self._filters.dtype), self._filters, stride=self._p)
        return phases.transpose(1, 2).flatten(1)[:, span.skip : span.skip + count].float()
