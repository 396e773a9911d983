"""Mean (and variance) normalisation over time: sliding, per utterance, or by stored statistics.

Equal to Kaldi's apply-cmvn-sliding (feat/feature-functions.cc), compute-cmvn-stats and apply-cmvn
(transform/cmvn.cc). Sums are in float64. Axes: T frames, D columns.
"""

from dataclasses import dataclass
from typing import Literal

import torch

_BLOCK = 16384  # frames that are normalised at once: hours of speech need no more memory than minutes


@dataclass
class NormalisationConfig:
    """The kind of normalisation, and the options of Kaldi's apply-cmvn-sliding with its defaults (speaker
    recipes: 300 and centred).
    """

    kind: Literal["none", "mean", "sliding"] = "none"  # mean: over the whole utterance
    norm_vars: bool = False  # divide by the standard deviation too
    cmn_window: int = 600  # frames; this and the next two are for sliding only
    min_cmn_window: int = 100  # frames at the start that see at least so many; only without center
    center: bool = False  # window around the frame, not before it

    def __post_init__(self):
        for name in ("cmn_window", "min_cmn_window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not a positive number of frames")


def normalise(
    features: torch.Tensor, config: NormalisationConfig, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Return features (T, D) normalised as configured, written to ``out`` (T, D) if given, which may be
    ``features`` itself.
    """
    if config.kind == "sliding":
        return sliding_mean_normalise(
            features, config.cmn_window, config.min_cmn_window, config.norm_vars, config.center, out
        )
    if config.kind == "mean":
        return mean_normalise(features, config.norm_vars, out)
    return features


def sliding_mean_normalise(
    features: torch.Tensor,
    cmn_window: int = 600,
    min_cmn_window: int = 100,
    norm_vars: bool = False,
    center: bool = False,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Subtract from every frame of (T, D) the mean of a window W = cmn_window; with norm_vars divide by its
    standard deviation.

    With ``center`` the window is [t - W/2, t - W/2 + W), moved inside the utterance at its ends and shorter
    only if the utterance is. Without, it is the frame and the W before it (W + 1 in all, as in Kaldi), and
    the first frames look ahead to ``min_cmn_window``. Variances are E[x^2] - mean^2, at least 1e-10; a window
    of one frame gives zero.

    ``out`` (T, D) receives the result; it may be ``features`` itself.

    Departure: Kaldi aborts if ``center`` and cmn_window < min_cmn_window, although its help says the latter
    is then ignored; here it is ignored.
    """
    result = torch.empty_like(features) if out is None else out
    sums, squares = _RunningSums(features), _RunningSums(features, square=True) if norm_vars else None
    for first in range(0, len(features), _BLOCK):
        block = features[first : first + _BLOCK]
        start, end = _window(
            len(features), first, len(block), cmn_window, min_cmn_window, center, block.device
        )
        count = (end - start)[:, None]
        wide = block.double()
        mean = sums.over(start, end) / count
        if squares is None:
            normalised = wide - mean
        else:
            variance = (squares.over(start, end) / count - mean.square()).clamp_(min=1e-10)
            normalised = torch.where(count == 1, 0.0, (wide - mean) * variance.rsqrt())
        result[first : first + _BLOCK] = normalised
    return result


def _window(total: int, first: int, frames: int, size: int, least: int, center: bool, device):
    """Return where the windows of ``frames`` frames from ``first`` on start and end, (frames,) each."""
    t = torch.arange(first, first + frames, device=device)
    start, end = (t - size // 2, t - size // 2 + size) if center else (t - size, t + 1)
    end = end - start.clamp(max=0)
    start = start.clamp(min=0)
    if not center:
        end = torch.where(end > t, (t + 1).clamp(min=least), end)
    start = (start - (end - total).clamp(min=0)).clamp(min=0)
    return start, end.clamp(max=total)


class _RunningSums:
    """Sums over windows that move forward over (T, D), or sums of squares, as differences of one cumulative
    sum, of which only the part that a window may still reach is kept.
    """

    def __init__(self, values: torch.Tensor, square: bool = False):
        self._values, self._square, self._first = values, square, 0
        self._sums = values.new_zeros(1, values.shape[1], dtype=torch.float64)  # of all values before _first

    def over(self, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
        """Return the sums of values start to end, (B,) each, as (B, D); both ascend, within and between
        calls.
        """
        # An utterance of one block needs no synchronisation with the device.
        one_block = len(self._values) <= _BLOCK
        first, last = (0, len(self._values)) if one_block else (int(start[0]), int(end[-1]))
        there = self._first + len(self._sums) - 1
        if last > there:
            new = self._values[there:last].double()
            new = new.square_() if self._square else new
            carried = torch.cat([self._sums[-1:], new]).cumsum(dim=0)
            self._sums = torch.cat([self._sums[first - self._first : -1], carried])
            self._first = first
        return self._sums[end - self._first] - self._sums[start - self._first]


def mean_normalise(
    features: torch.Tensor, norm_vars: bool = False, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Subtract from (T, D) its mean over time; with ``norm_vars`` divide by its standard deviation over time.

    ``out`` (T, D), which may be ``features`` itself, takes the result.
    """
    if len(features) == 0:
        return features.clone()
    return apply_cmvn(features, cmvn_stats(features.split(_BLOCK)), norm_vars, out)


def cmvn_stats(matrices) -> torch.Tensor:
    """Return Kaldi's statistics of matrices (T, D): (2, D + 1) float64; sums and the count above, sums of
    squares and 0 below.
    """
    stats = None
    for matrix in matrices:
        wide = matrix.double()
        if stats is None:
            stats = torch.zeros(2, wide.shape[1] + 1, dtype=torch.float64, device=wide.device)
        stats[0, :-1] += wide.sum(dim=0)
        stats[1, :-1] += wide.square().sum(dim=0)
        stats[0, -1] += len(wide)
    if stats is None:
        raise ValueError("no matrices to take statistics of")
    return stats


def apply_cmvn(
    features: torch.Tensor, stats: torch.Tensor, norm_vars: bool = False, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Normalise (T, D) by the mean, and with ``norm_vars`` the variance (at least 1e-20), of statistics (2, D
    + 1); ``out`` (T, D), which may be ``features`` itself, receives the result.
    """
    if stats.shape[1] != features.shape[1] + 1 or stats[0, -1] < 1:
        raise ValueError(
            f"statistics of shape {tuple(stats.shape)}, count {stats[0, -1]:g}, do not fit "
            f"{features.shape[1]} columns"
        )
    result = torch.empty_like(features) if out is None else out
    mean = stats[0, :-1] / stats[0, -1]
    scale = (stats[1, :-1] / stats[0, -1] - mean.square()).clamp_(min=1e-20).rsqrt() if norm_vars else None
    for block, place in zip(features.split(_BLOCK), result.split(_BLOCK), strict=True):
        centred = block.double() - mean
        place.copy_(centred if scale is None else centred.mul_(scale))
    return result
