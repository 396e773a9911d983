"""Energy-based voice activity detection, equal to Kaldi's compute-vad
(ivector/voice-activity-detection.cc).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

_BLOCK = 16384  # frames that are copied at once


@dataclass
class VadConfig:
    """Options of Kaldi's compute-vad, with its defaults. The speaker recipes use 5.5, 0.5, 2 and 0.12."""

    vad_energy_threshold: float = 5.0  # constant part of the threshold on log-energy
    vad_energy_mean_scale: float = 0.5  # this times the utterance's mean log-energy is added to it
    vad_frames_context: int = 0  # frames on each side that vote
    vad_proportion_threshold: float = 0.6  # share of the votes that makes a frame voiced

    def __post_init__(self):
        if self.vad_energy_mean_scale < 0:
            raise ValueError(f"vad_energy_mean_scale: {self.vad_energy_mean_scale} is negative")
        if not 0 <= self.vad_frames_context <= 10_000:
            raise ValueError(
                f"vad_frames_context: {self.vad_frames_context} is outside 0 to 10000; it is a number of "
                "frames"
            )
        if not 0 < self.vad_proportion_threshold < 1:
            raise ValueError(
                f"vad_proportion_threshold: {self.vad_proportion_threshold} is not between 0 and 1"
            )


def energy_vad(log_energy: torch.Tensor, config: VadConfig) -> torch.Tensor:
    """Return which frames are voiced, (T,) bool, from their log-energies, (T,) float (as
    :meth:`Fbank.with_energy` gives them).

    A frame votes if its energy is above ``vad_energy_threshold + vad_energy_mean_scale * mean``; frame t is
    voiced if at least ``vad_proportion_threshold`` of the frames from t - context to t + context, cut at the
    ends of the utterance, vote. As in Kaldi the arithmetic is float32: of five frames exactly three are 0.6.
    """
    energy = log_energy.to(torch.float32)
    if energy.numel() == 0:
        return torch.zeros(0, dtype=torch.bool, device=energy.device)
    mean = energy.mean(dtype=torch.float64).to(torch.float32)
    votes = (energy > config.vad_energy_threshold + config.vad_energy_mean_scale * mean).float()
    context = config.vad_frames_context
    # axes: (votes for, votes cast) x frames, both counted by one sliding sum
    ballots = torch.stack([votes, torch.ones_like(votes)])
    kernel = torch.ones(1, 1, 2 * context + 1, device=energy.device)
    voiced, cast = F.conv1d(ballots[:, None], kernel, padding=context)[:, 0]
    return voiced >= cast * torch.tensor(
        config.vad_proportion_threshold, dtype=torch.float32, device=energy.device
    )


def select_voiced(features: torch.Tensor, voiced, in_place: bool = False) -> torch.Tensor:
    """Return the voiced frames of features (T, D), possibly none.

    ``voiced`` is (T,), bool or Kaldi's 0.0 and 1.0. With ``in_place`` they overwrite the first of
    ``features``, so that hours of speech are not in memory twice.

    Raises:
        ValueError: the two have different numbers of frames.
    """
    voiced = torch.as_tensor(voiced, device=features.device)
    if len(features) != len(voiced):
        raise ValueError(
            f"{len(features)} frames of features but {len(voiced)} of voice activity; compute both from the "
            "same audio"
        )
    voiced = voiced if voiced.dtype == torch.bool else voiced > 0.5
    if not in_place:
        return features[voiced]
    kept = 0
    for block, mask in zip(features.split(_BLOCK), voiced.split(_BLOCK), strict=True):
        selected = block[mask]
        features[kept : kept + len(selected)] = selected
        kept += len(selected)
    return features[:kept]
