"""Augmentation of waveforms on the device, one batch at a time: room impulse responses, noise, gain.

The order and the settings are those of the papers: reverberation first, then one of noise, music or babble at
a random signal-to-noise ratio to the reverberated crop. The choice is made on the host, so that nothing is
computed for the other crops and nothing synchronises with the device.

Axes: N crops, C samples of context before them, L samples of a crop; n selected crops among the N. Draws are
uniform numbers in [0, 1), (N, k), keyed by their purpose.
"""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch

from pydino.base import (
    UserError,
    check_fraction,
    check_not_negative,
    check_range,
    keyed_uniform,
    nearest,
    purpose,
)

CONTEXT_SECONDS = 0.5  # of the recording before a crop, whose reverberation reaches into it
_SILENCE = 1e-10  # norm below which a signal is not scaled
# kind of noise -> its range
_RATIOS = {"noise": "noise_snr_db", "music": "music_snr_db", "babble": "babble_snr_db"}


@dataclass
class WaveformAugmentConfig:
    """Augmentations of waveforms and their strength; lists are [lowest, highest]. The recordings are those of
    the augmentation data.
    """

    reverberation_probability: float = 0.0
    # names of lists of room impulse responses in the augmentation data, equally likely; []: all
    rirs: list[str] = field(default_factory=list)
    noise_probability: float = 0.0  # of adding one noise, of any kind in the augmentation data
    noise_snr_db: list[float] = field(default_factory=lambda: [0.0, 18.0])
    music_snr_db: list[float] = field(default_factory=lambda: [3.0, 18.0])
    babble_snr_db: list[float] = field(default_factory=lambda: [3.0, 18.0])
    babble_speakers: list[int] = field(default_factory=lambda: [3, 10])  # recordings mixed into a babble
    gain_db: float = 0.0  # largest gain, up or down

    def __post_init__(self):
        check_fraction(self, "reverberation_probability", "noise_probability")
        check_range(self, *_RATIOS.values(), "babble_speakers")
        check_not_negative(self, "gain_db")
        if self.babble_speakers[0] < 1:
            raise ValueError(f"babble_speakers must be at least 1, got {self.babble_speakers}")


# The draws of a crop, by name; after them, the recording and the offset of each speaker of a babble.
_DRAWS = (
    "reverberated",
    "list of rooms",
    "room",
    "noisy",
    "kind",
    "ratio",
    "which",
    "where",
    "speakers",
    "gain",
)


class WaveformAugmenter:
    """Augment waveforms, with draws keyed by utterance and view.

    Args:
        config: augmentations and their strength.
        augmentation_data: has ``noises`` and ``rirs``, dictionaries of objects with ``take(which, where,
            length) -> (n, length)``, and ``rir_length`` (pydino.data.AugmentationData).
        sample_rate: Hz.
        seed: of every draw.
        device: on which the augmentation runs.

    Attributes:
        context: samples before each crop that are used: 0 without reverberation.

    Raises:
        UserError: the augmentation data lacks the noises or responses that ``config`` needs.
    """

    def __init__(
        self, config: WaveformAugmentConfig, augmentation_data, sample_rate: float, seed: int, device
    ):
        self.config, self.seed, self.device = config, seed, torch.device(device)
        for name in config.rirs:
            if name not in augmentation_data.rirs:
                raise UserError(
                    f"waveform.rirs: '{name}' is not in augmentation_data.rirs"
                    f"{nearest(name, augmentation_data.rirs)}; name "
                    "it in augmentation_data.rirs"
                )
        self._rirs = [augmentation_data.rirs[name] for name in config.rirs or augmentation_data.rirs]
        self._noises = dict(augmentation_data.noises)
        self._rir_length = augmentation_data.rir_length
        if config.reverberation_probability and not self._rirs:
            raise UserError(
                "waveform.reverberation_probability is above 0, but augmentation_data.rirs names no list of "
                "room impulse responses; give one, or 0"
            )
        if config.noise_probability and not self._noises:
            raise UserError(
                "waveform.noise_probability is above 0, but there are no noises: give "
                "augmentation_data.noise, augmentation_data.music or augmentation_data.speech, or 0"
            )
        self.context = round(CONTEXT_SECONDS * sample_rate) if config.reverberation_probability else 0

    def draws(self, visits: np.ndarray, hashes: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Return the uniform draws (V B, k) of crops, views first, keyed by (seed, visit, utterance hash,
        view).
        """
        size = len(_DRAWS) + 2 * self.config.babble_speakers[1]
        keyed = keyed_uniform(
            self.seed,
            visits[None, :],
            hashes[None, :],
            views[:, None],
            purpose("waveform augmentation"),
            size=size,
        )
        return keyed.reshape(-1, size)

    @torch.no_grad()
    def __call__(self, waves: torch.Tensor, draws: np.ndarray, context: int = 0) -> torch.Tensor:
        """Return augmented crops (N, L).

        Args:
            waves: (N, C + L) float32; may be overwritten.
            draws: of the same N crops.
            context: C.
        """
        config, draw = self.config, dict(zip(_DRAWS, draws.T, strict=False))
        crops = waves[:, context:]
        rows = np.flatnonzero(draw["reverberated"] < config.reverberation_probability)
        if len(rows):
            self._reverberate(waves, rows, draw, context)
        rows = np.flatnonzero(draw["noisy"] < config.noise_probability)
        if len(rows):
            self._add_noise(crops, rows, draw, draws[:, len(_DRAWS) :])
        if config.gain_db:
            gain = 10.0 ** ((2 * draw["gain"] - 1) * config.gain_db / 20)
            crops.mul_(self._tensor(gain.astype(np.float32))[:, None])
        return crops

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _reverberate(self, waves, rows, draw, context: int) -> None:
        """Convolve crops ``rows`` with random room impulse responses, in place; the energy of each is kept.

        A circular convolution: its length is such that the part that wraps around falls into the context or
        past the end.
        """
        lists = _pick(draw["list of rooms"][rows], len(self._rirs))
        rows = rows[np.argsort(lists, kind="stable")]
        counts = np.bincount(lists, minlength=len(self._rirs)).tolist()
        parts = zip(self._rirs, np.split(rows, np.cumsum(counts)[:-1]), strict=True)
        length = self._rir_length
        responses = torch.cat(
            [room.take(draw["room"][part], np.zeros(len(part)), length) for room, part in parts if len(part)]
        )
        index = self._tensor(rows)
        dry = waves.index_select(0, index)
        size = _fast_size(max(waves.shape[1], waves.shape[1] - context + length - 1))
        spectrum = torch.fft.rfft(dry, size).mul_(torch.fft.rfft(responses.float(), size))
        wet = torch.fft.irfft(spectrum, size)[:, context : waves.shape[1]]
        wet = wet * (_norm(dry[:, context:]) / _norm(wet).clamp_min_(_SILENCE))
        waves[:, context:].index_copy_(0, index, wet)

    def _add_noise(self, crops, rows, draw, babble_draws) -> None:
        """Add to crops ``rows`` one noise each, in place."""
        kinds, length, norms = list(self._noises), crops.shape[1], _norm(crops)
        drawn = _pick(draw["kind"][rows], len(kinds))
        for number, kind in enumerate(kinds):
            chosen = rows[drawn == number]
            if not len(chosen):
                continue
            pool = self._noises[kind]
            if kind == "babble":
                chosen = chosen[np.argsort(-self._speakers(draw, chosen), kind="stable")]
                noise = self._babble(pool, self._speakers(draw, chosen), babble_draws[chosen], length)
            else:
                noise = pool.take(draw["which"][chosen], draw["where"][chosen], length).float()
            index = self._tensor(chosen)
            low, high = getattr(self.config, _RATIOS[kind])
            ratio = 10.0 ** (-(low + (high - low) * draw["ratio"][chosen]) / 20)
            level = norms.index_select(0, index) * self._tensor(ratio.astype(np.float32))[:, None]
            crops.index_add_(0, index, noise.mul_(level / _norm(noise).clamp_min_(_SILENCE)))

    def _speakers(self, draw, rows) -> np.ndarray:
        low, high = self.config.babble_speakers
        return low + _pick(draw["speakers"][rows], high - low + 1)

    @staticmethod
    def _babble(pool, speakers: np.ndarray, draws: np.ndarray, length: int) -> torch.Tensor:
        """Return the sum of speakers[i] speech recordings of equal level as row i, (n, length); ``speakers``
        must not increase.
        """
        babble = None
        for number in range(int(speakers[0])):
            rows = int(np.count_nonzero(speakers > number))  # rows with a further speaker: the first ones
            piece = pool.take(draws[:rows, 2 * number], draws[:rows, 2 * number + 1], length).float()
            piece.div_(_norm(piece).clamp_min_(_SILENCE))
            if babble is None:
                babble = piece
            else:
                babble[:rows].add_(piece)
        return babble


def _pick(uniform: np.ndarray, number: int) -> np.ndarray:
    return np.floor(uniform * number).astype(np.int64)


def _norm(waves: torch.Tensor) -> torch.Tensor:
    """Return the root of the energy of each waveform, (N, 1)."""
    return torch.linalg.vector_norm(waves, dim=1, keepdim=True)


@lru_cache(maxsize=64)
def _fast_size(size: int) -> int:
    """Return the next size whose Fourier transform is fast, even, with factors 2, 3 and 5 only."""
    from scipy.fft import next_fast_len

    return 2 * next_fast_len(-(-size // 2), real=True)
