"""Augmentation in the power-mel domain: rooms, channels, noise and babble put on log filter banks, a batch at a time.

What happens to a waveform is approximated by what it does to the power in each mel band: sound in a room decays exponentially,
microphones tilt the spectrum, independent sources add in power. It costs a hundredth of going through waveforms, needs no
recordings of noise, and is enough to learn from at small scale; it is no substitute for real noises and rooms at large scale.

Axes: N crops, T frames, F mel bands. Draws come from outside, (N,) or (N, k) tensors of uniform numbers in [0, 1), so that they can be keyed.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from pydino.base import keyed_uniform, purpose

TEXTURE_FRAMES = 4096  # length of the stored noise that crops take pieces of
CURVES = 4  # cosines that a drawn spectral shape is made of


@dataclass
class AugmentConfig:
    """Which augmentation and how strong; lists are [lowest, highest]."""

    reverberation_probability: float = 0.5
    reverberation_seconds: list[float] = field(default_factory=lambda: [0.1, 0.6])  # time to fall by 60 dB
    direct_to_reverberant_db: list[float] = field(default_factory=lambda: [0.0, 12.0])
    equaliser_db: float = 4.0  # standard deviation of the drawn response; matters where noise comes on top
    noise_probability: float = 0.7
    noise_snr_db: list[float] = field(default_factory=lambda: [3.0, 25.0])
    babble_probability: float = 0.2
    babble_snr_db: list[float] = field(default_factory=lambda: [5.0, 20.0])
    babble_speakers: int = 3  # other utterances of the batch that are mixed
    time_mask_frames: int = 10  # longest stretch that is blanked after normalisation
    frequency_mask_bands: int = 10

    def __post_init__(self):
        for name in ("reverberation_probability", "noise_probability", "babble_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("reverberation_seconds", "direct_to_reverberant_db", "noise_snr_db", "babble_snr_db"):
            low_high = getattr(self, name)
            if len(low_high) != 2 or low_high[0] > low_high[1]:
                raise ValueError(f"{name} must be [lowest, highest], got {low_high}")
        for name in ("equaliser_db", "babble_speakers", "time_mask_frames", "frequency_mask_bands"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


class PowerMelAugmenter:
    """Augment log filter banks, keyed by what is augmented.

    Args:
        config: what is done.
        num_bands: F.
        frame_shift: seconds.
        seed: of every draw.
        device: where it happens.
    """

    def __init__(self, config: AugmentConfig, num_bands: int, frame_shift: float, seed: int, device):
        self.config, self.frame_shift, self.seed, self.device = config, frame_shift, seed, device
        uniform = keyed_uniform(seed, np.arange(TEXTURE_FRAMES), purpose("noise texture"), size=num_bands)
        # Power of a noise in a band and a frame: gamma distributed around its mean, as of a handful of independent FFT bins.
        self._texture = torch.from_numpy((-np.log1p(-uniform)).astype(np.float32)).add_(1.0).mul_(0.5).to(device)
        band = torch.arange(num_bands, device=device) / num_bands
        self._curves = torch.stack([torch.cos(math.pi * k * band) for k in range(1, CURVES + 1)])  # (CURVES, F)

    def draws(self, epochs: np.ndarray, hashes: np.ndarray, views: np.ndarray) -> torch.Tensor:
        """Return the uniform draws (V B, k) of crops, views first, keyed by (seed, epoch, utterance hash, view)."""
        keyed = keyed_uniform(self.seed, epochs[None, :], hashes[None, :], views[:, None], purpose("augmentation"), size=16 + 3 * CURVES)
        return torch.from_numpy(keyed.reshape(-1, keyed.shape[-1]).astype(np.float32)).to(self.device)

    def __call__(self, log_mel: torch.Tensor, draws: torch.Tensor, num_views: int) -> torch.Tensor:
        """Return augmented log filter banks of the shape of ``log_mel``, (N, T, F); ``draws`` are of the same N crops, views first."""
        config = self.config
        u = draws.unbind(1)
        power = log_mel.exp()
        level = power.mean((1, 2), keepdim=True)
        if config.reverberation_probability:
            power = self._reverberate(power, u[0] < config.reverberation_probability, u[1], u[2])
        if config.equaliser_db:
            power = power * self._shape(draws[:, 16 : 16 + CURVES], config.equaliser_db)
        if config.noise_probability:
            noise = self._noise(power.shape[1], u[3], draws[:, 16 + CURVES : 16 + 2 * CURVES])
            power = power + noise * self._gain(u[4] < config.noise_probability, u[5], config.noise_snr_db, level, noise)
        if config.babble_probability and config.babble_speakers and len(power) > num_views:
            babble = self._babble(log_mel.exp(), num_views)
            power = power + babble * self._gain(u[6] < config.babble_probability, u[7], config.babble_snr_db, level, babble)
        return power.clamp_min_(1e-10).log_()

    def mask(self, x: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Blank one stretch of frames and one of bands of normalised features (N, T, F): SpecAugment (Park et al. 2019)."""
        u = draws.unbind(1)
        for axis, longest, width, place in (
            (1, self.config.time_mask_frames, u[8], u[9]), (2, self.config.frequency_mask_bands, u[10], u[11]),
        ):  # fmt: skip
            if longest:
                size = x.shape[axis]
                width = torch.floor(width * (min(longest, size) + 1))
                start = torch.floor(place * (size - width + 1))
                at = torch.arange(size, device=x.device)
                blank = (at >= start[:, None]) & (at < (start + width)[:, None])
                x = x.masked_fill(blank[:, :, None] if axis == 1 else blank[:, None, :], 0.0)
        return x

    def _reverberate(self, power, chosen, u_seconds, u_ratio):
        """y[t] = x[t] + r (1 - d)/d sum_{k >= 1} d^k x[t - k]; d falls by 60 dB in the drawn time, r is reverberant over direct energy."""
        low, high = self.config.reverberation_seconds
        seconds = low + (high - low) * u_seconds
        low, high = self.config.direct_to_reverberant_db
        ratio = 10.0 ** (-(low + (high - low) * u_ratio) / 10) * chosen
        log_decay = -6 * math.log(10) * self.frame_shift / seconds
        frames = torch.arange(power.shape[1], device=power.device)
        lag = (frames[:, None] - frames[None, :]).float()  # (T, T)
        scale = ratio * (1 - log_decay.exp()) / log_decay.exp()
        tail = torch.exp(log_decay[:, None, None] * lag.clamp_min(1.0)) * scale[:, None, None]
        kernel = torch.where(lag > 0, tail, (lag == 0).float())
        return torch.bmm(kernel, power)

    def _shape(self, u, deviation_db):
        """Return drawn smooth responses (N, 1, F) as power gains: cosines over the bands, whose sum has the given deviation in dB."""
        weight = (u - 0.5) * math.sqrt(12.0) * (deviation_db * math.sqrt(2.0 / CURVES))
        return (10.0 ** (weight @ self._curves / 10))[:, None, :]

    def _noise(self, num_frames, u_start, u_shape):
        """Return stationary noise (N, T, F) of a drawn colour, from a drawn place of the stored texture."""
        start = (u_start * TEXTURE_FRAMES).long()
        at = (start[:, None] + torch.arange(num_frames, device=self.device)) % TEXTURE_FRAMES
        return self._texture[at] * self._shape(u_shape, 8.0)

    def _babble(self, power, num_views):
        """Return for each crop the mean power of other utterances of the batch, in the same view."""
        by_view = power.unflatten(0, (num_views, -1))  # (V, B, T, F)
        others = min(self.config.babble_speakers, by_view.shape[1] - 1)
        total = torch.zeros_like(by_view)
        for shift in range(1, others + 1):
            total += by_view.roll(shift, 1)
        return (total / others).flatten(0, 1)

    @staticmethod
    def _gain(chosen, u, snr_db, level, noise):
        """Return what noise is multiplied by to stand at the drawn signal-to-noise ratio, zero where not chosen; (N, 1, 1)."""
        snr = snr_db[0] + (snr_db[1] - snr_db[0]) * u
        wanted = level[:, 0, 0] * 10.0 ** (-snr / 10)
        return (chosen * wanted / noise.mean((1, 2)).clamp_min(1e-10))[:, None, None]
