"""Mean (and variance) normalisation over time: sliding, per utterance, or by stored statistics.

Equal to Kaldi's apply-cmvn-sliding (feat/feature-functions.cc), compute-cmvn-stats and apply-cmvn
(transform/cmvn.cc). Sums are in float64. Axes: T frames, D columns.
"""

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass
class NormalisationConfig:
    """Which normalisation, and the options of Kaldi's apply-cmvn-sliding with its defaults (speaker recipes:
    300 and centred).
    """

    kind: Literal["none", "mean", "sliding"] = "none"  # mean: over the whole utterance
    norm_vars: bool = False  # divide by the standard deviation too
    cmn_window: int = 600  # frames; sliding only, like what follows
    min_cmn_window: int = 100  # frames at the start that see at least so many; only without center
    center: bool = False  # window around the frame, not before it

    def __post_init__(self):
        for name in ("cmn_window", "min_cmn_window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)} is not a positive number of frames")


def normalise(features: torch.Tensor, config: NormalisationConfig) -> torch.Tensor:
    """Return features (T, D) normalised as the configuration says."""
    if config.kind == "sliding":
        return sliding_mean_normalise(
            features, config.cmn_window, config.min_cmn_window, config.norm_vars, config.center
        )
    return mean_normalise(features, config.norm_vars) if config.kind == "mean" else features


def sliding_mean_normalise(
    features: torch.Tensor,
    cmn_window: int = 600,
    min_cmn_window: int = 100,
    norm_vars: bool = False,
    center: bool = False,
) -> torch.Tensor:
    """Subtract from every frame of (T, D) the mean of a window W = cmn_window; with norm_vars divide by its
    standard deviation.

    With ``center`` the window is [t - W/2, t - W/2 + W), moved inside the utterance at its ends and shorter
    only if the utterance is. Without, it is the frame and the W before it (W + 1 in all, as in Kaldi), and
    the first frames look ahead to ``min_cmn_window``. Variances are E[x^2] - mean^2, at least 1e-10; a window
    of one frame gives zero.

    Departure: Kaldi aborts if ``center`` and cmn_window < min_cmn_window, although its help says the latter
        is then ignored; here
    it is ignored.
    """
    total, device = len(features), features.device
    if total == 0:
        return features.clone()
    t = torch.arange(total, device=device)
    start, end = (
        (t - cmn_window // 2, t - cmn_window // 2 + cmn_window) if center else (t - cmn_window, t + 1)
    )
    end = end - start.clamp(max=0)
    start = start.clamp(min=0)
    if not center:
        end = torch.where(end > t, (t + 1).clamp(min=min_cmn_window), end)
    start = (start - (end - total).clamp(min=0)).clamp(min=0)
    end = end.clamp(max=total)
    count = (end - start)[:, None]
    wide = features.double()
    mean = _window_sums(wide, start, end) / count
    if not norm_vars:
        return (wide - mean).to(features.dtype)
    variance = (_window_sums(wide.square(), start, end) / count - mean.square()).clamp_(min=1e-10)
    return torch.where(count == 1, 0.0, (wide - mean) * variance.rsqrt()).to(features.dtype)


def _window_sums(values, start, end):
    sums = torch.cat([values.new_zeros(1, values.shape[1]), values.cumsum(dim=0)])
    return sums[end] - sums[start]


def mean_normalise(features: torch.Tensor, norm_vars: bool = False) -> torch.Tensor:
    """Subtract from (T, D) its mean over time; with ``norm_vars`` divide by its standard deviation over
    time.
    """
    return apply_cmvn(features, cmvn_stats([features]), norm_vars) if len(features) else features.clone()


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


def apply_cmvn(features: torch.Tensor, stats: torch.Tensor, norm_vars: bool = False) -> torch.Tensor:
    """Normalise (T, D) by the mean, and with ``norm_vars`` the variance (at least 1e-20), that statistics (2,
    D + 1) stand for.
    """
    if stats.shape[1] != features.shape[1] + 1 or stats[0, -1] < 1:
        raise ValueError(
            f"statistics of shape {tuple(stats.shape)}, count {stats[0, -1]:g}, do not fit "
            f"{features.shape[1]} columns"
        )
    mean = stats[0, :-1] / stats[0, -1]
    centred = features.double() - mean
    if norm_vars:
        centred *= (stats[1, :-1] / stats[0, -1] - mean.square()).clamp_(min=1e-20).rsqrt()
    return centred.to(features.dtype)
