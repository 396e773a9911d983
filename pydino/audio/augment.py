"""Augmentation in the power-mel domain: reverberation, channels, noise and babble applied to log filter
banks, one batch at a time.

What happens to a waveform is approximated by what it does to the power in each mel band: sound in a room
decays exponentially, microphones tilt the spectrum, independent sources add in power. It costs a hundredth of
augmenting waveforms, needs no noise recordings, and suffices at small scale; it does not replace real noises
and room impulse responses at large scale.

Axes: N crops, T frames, F mel bands; n selected crops among the N. Draws are uniform numbers in [0, 1),
(N, k), keyed by their purpose.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from pydino.base import check_fraction, check_not_negative, check_range, keyed_uniform, purpose

TEXTURE_FRAMES = 4096  # length of the stored noise that crops are cut from
REVERBERATION_BLOCK = 32  # frames
CURVES = 4  # cosines that a random spectral shape is the sum of
# utterances of a batch that babble is mixed from; batches are divided among processes in multiples of it
BABBLE_NEIGHBOURS = 8
NOISE_COLOUR_DB = 8.0  # standard deviation of the spectrum of a random noise around its mean
SMALLEST_POWER = 1e-10


@dataclass
class AugmentConfig:
    """Augmentations and their strength; lists are [lowest, highest]."""

    reverberation_probability: float = 0.5
    reverberation_seconds: list[float] = field(default_factory=lambda: [0.1, 0.6])  # time to fall by 60 dB
    direct_to_reverberant_db: list[float] = field(default_factory=lambda: [0.0, 12.0])
    gain_db: float = 6.0  # largest gain, up or down; mean normalisation cancels it
    equaliser_db: float = 4.0  # standard deviation of the random response; matters where noise is added
    noise_probability: float = 0.7
    noise_snr_db: list[float] = field(default_factory=lambda: [3.0, 25.0])
    babble_probability: float = 0.2
    babble_snr_db: list[float] = field(default_factory=lambda: [5.0, 20.0])
    babble_speakers: int = 3  # other utterances of the batch that are mixed; at most 7
    time_mask_frames: int = 10  # longest run of frames that is masked after normalisation
    frequency_mask_bands: int = 10

    def __post_init__(self):
        check_fraction(self, "reverberation_probability", "noise_probability", "babble_probability")
        check_range(
            self, "reverberation_seconds", "direct_to_reverberant_db", "noise_snr_db", "babble_snr_db"
        )
        if self.reverberation_seconds[0] <= 0:
            raise ValueError(f"reverberation_seconds must be above 0, got {self.reverberation_seconds}")
        check_not_negative(
            self, "gain_db", "equaliser_db", "babble_speakers", "time_mask_frames", "frequency_mask_bands"
        )


# The draws of a crop, by name; the weights of two spectral shapes follow them.
_DRAWS = (
    "reverberated",
    "reverberation seconds",
    "direct to reverberant",
    "gain",
    "noisy",
    "noise snr",
    "noise place",
    "babbled",
    "babble snr",
    "time mask width",
    "time mask place",
    "band mask width",
    "band mask place",
)


class PowerMelAugmenter:
    """Augment log filter banks, with draws keyed by utterance and view.

    Which crops are reverberated, noisy or babbled is known on the host, so that nothing is computed for the
    others and nothing waits for the device.

    Args:
        config: augmentations and their strength.
        num_bands: F.
        frame_shift: seconds.
        seed: of every draw.
        device: on which the augmentation runs.
    """

    def __init__(self, config: AugmentConfig, num_bands: int, frame_shift: float, seed: int, device):
        self.config, self.frame_shift, self.seed, self.device = (
            config,
            frame_shift,
            seed,
            torch.device(device),
        )
        uniform = keyed_uniform(seed, np.arange(TEXTURE_FRAMES), purpose("noise texture"), size=num_bands)
        # Power of a stationary noise over its mean, in a frame and band: half steady, half exponential, as
        # few FFT bins give it.
        self._texture = torch.from_numpy((0.5 - 0.5 * np.log1p(-uniform)).astype(np.float32)).to(device)
        band = torch.arange(num_bands, device=device) / num_bands
        # (CURVES, F)
        self._curves = torch.stack([torch.cos(math.pi * k * band) for k in range(1, CURVES + 1)])

    def draws(self, epochs: np.ndarray, hashes: np.ndarray, views: np.ndarray) -> np.ndarray:
        """Return the uniform draws (V B, k) of crops, views first, keyed by (seed, epoch, utterance hash,
        view).
        """
        size = len(_DRAWS) + 2 * CURVES
        keyed = keyed_uniform(
            self.seed, epochs[None, :], hashes[None, :], views[:, None], purpose("augmentation"), size=size
        )
        return keyed.reshape(-1, size).astype(np.float32)

    def __call__(self, log_mel: torch.Tensor, draws: np.ndarray, num_views: int) -> torch.Tensor:
        """Return augmented log filter banks of the shape of ``log_mel``, (N, T, F); ``draws`` are of the same
        N crops, views first.
        """
        config, draw = self.config, self._by_name(draws)
        power = log_mel.exp()
        rows = np.flatnonzero(draw["reverberated"] < config.reverberation_probability)
        if len(rows):
            self._reverberate(power, rows, draw)
        power.mul_(self._response(draws[:, -2 * CURVES : -CURVES], config.equaliser_db, draw["gain"]))
        level = power.mean((1, 2))  # (N,)
        additions = []
        rows = np.flatnonzero(draw["babbled"] < config.babble_probability)
        if len(rows) and config.babble_speakers and len(power) > num_views:
            additions.append((rows, self._babble(power, level, rows, num_views, draw)))
        rows = np.flatnonzero(draw["noisy"] < config.noise_probability)
        if len(rows):
            additions.append((rows, self._noise(power.shape[1], level, rows, draw, draws[:, -CURVES:])))
        for rows, addition in additions:
            power.index_add_(0, self._tensor(rows), addition)
        return power.clamp_min_(SMALLEST_POWER).log_()

    def mask(self, x: torch.Tensor, draws: np.ndarray) -> torch.Tensor:
        """Mask, in place, one run of frames and one of bands of normalised features (N, T, F):
        SpecAugment (Park et al. 2019).
        """
        draw = self._by_name(draws)
        for axis, longest, what in (
            (1, self.config.time_mask_frames, "time"),
            (2, self.config.frequency_mask_bands, "band"),
        ):
            if longest:
                size = x.shape[axis]
                width = np.floor(draw[f"{what} mask width"] * (min(longest, size) + 1))
                start = np.floor(draw[f"{what} mask place"] * (size - width + 1))
                at = np.arange(size, dtype=np.float32)
                kept = (at < start[:, None]) | (at >= (start + width)[:, None])
                x.mul_(self._tensor(kept.astype(np.float32)).unsqueeze(3 - axis))
        return x

    @staticmethod
    def _by_name(draws: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(_DRAWS, draws.T, strict=False))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _reverberate(self, power, rows, draw):
        """y[t] = x[t] + r (1 - d)/d sum_{k >= 1} d^k x[t - k], in place.

        d^k falls by 60 dB in the drawn time; r is reverberant over direct energy. The frames are processed in
        blocks: within a block the sum is a product with a small matrix, and the energy left by all earlier
        blocks continues to decay. Axes: b blocks, i and j frames of one.
        """
        seconds = _between(self.config.reverberation_seconds, draw["reverberation seconds"][rows])
        ratio = 10.0 ** (
            -_between(self.config.direct_to_reverberant_db, draw["direct to reverberant"][rows]) / 10
        )
        log_decay = -6 * math.log(10) * self.frame_shift / seconds[:, None, None]
        scale = ratio[:, None, None] * np.expm1(-log_decay)
        frames = power.shape[1]
        blocks = -(-frames // REVERBERATION_BLOCK)
        at, block = np.arange(REVERBERATION_BLOCK), np.arange(blocks)
        lag, age = at[:, None] - at, block[:, None] - 1 - block
        within = scale * np.exp(log_decay * np.maximum(lag, 1)) * (lag > 0) + (lag == 0)  # (n, i, j)
        left = np.exp(log_decay * at[::-1])  # (n, 1, j), of x[j] at the end of its block
        # (n, b, b), from the end of one to another's
        carried = np.exp(log_decay * REVERBERATION_BLOCK * np.maximum(age, 0)) * (age >= 0)
        tail = scale * np.exp(log_decay * (at + 1))  # (n, 1, i)
        within, left, carried, tail = (
            self._tensor(x.astype(np.float32)) for x in (within, left, carried, tail)
        )
        index = self._tensor(rows)
        # (n, b, j, F)
        x = F.pad(power.index_select(0, index), (0, 0, 0, blocks * len(at) - frames)).unflatten(
            1, (blocks, len(at))
        )
        past = carried @ (left[:, None] @ x).squeeze(2)  # (n, b, F), the energy left when a block begins
        y = (within[:, None] @ x).addcmul_(tail.mT[:, None], past[:, :, None])
        power.index_copy_(0, index, y.flatten(1, 2)[:, :frames])

    def _response(
        self, uniform: np.ndarray, deviation_db: float, gain: np.ndarray | None = None
    ) -> torch.Tensor:
        """Return random smooth responses (n, 1, F) as power factors: cosines over the bands with the given
        total deviation, and a gain.
        """
        weight = (uniform - 0.5) * (math.sqrt(12.0) * deviation_db * math.sqrt(2.0 / CURVES))
        decibel = self._tensor(weight) @ self._curves
        if gain is not None:
            decibel = decibel + self._tensor((2 * gain - 1) * self.config.gain_db)[:, None]
        return (10.0 ** (decibel / 10))[:, None, :]

    def _noise(self, num_frames, level, rows, draw, shapes):
        """Return stationary noise (n, T, F) of random colour and level, from a random place of the stored
        texture.
        """
        start = (draw["noise place"][rows] * TEXTURE_FRAMES).astype(np.int64)
        at = self._tensor((start[:, None] + np.arange(num_frames)) % TEXTURE_FRAMES)
        colour = self._response(shapes[rows], NOISE_COLOUR_DB)
        wanted = self._fraction(rows, draw["noise snr"], self.config.noise_snr_db) * level[self._tensor(rows)]
        return self._texture[at].mul_(colour * (wanted / colour.mean((1, 2)))[:, None, None])

    def _babble(self, power, level, rows, num_views, draw):
        """Return for crops ``rows`` the mean of other utterances of the batch, in the same view, (n, T, F),
        at a random level.
        """
        size = len(power) // num_views
        near = min(BABBLE_NEIGHBOURS, size)
        speakers = min(self.config.babble_speakers, near - 1)
        view, place = np.divmod(rows[:, None], size)
        # neighbours come from groups of this size, however the batch is divided among processes
        first = np.minimum(place - place % near, size - near)
        # (n, speakers)
        others = self._tensor(view * size + first + (place - first + np.arange(1, speakers + 1)) % near)
        babble = power[others[:, 0]]
        for column in others.unbind(1)[1:]:
            babble.add_(power[column])
        wanted = (
            self._fraction(rows, draw["babble snr"], self.config.babble_snr_db) * level[self._tensor(rows)]
        )
        return babble.mul_((wanted / level[others].sum(1).clamp_min(SMALLEST_POWER))[:, None, None])

    def _fraction(self, rows, uniform, snr_db) -> torch.Tensor:
        """Return the power of noise over that of the signal, (n,), at the drawn signal-to-noise ratios."""
        return self._tensor((10.0 ** (-_between(snr_db, uniform[rows]) / 10)).astype(np.float32))


def _between(low_high: list[float], uniform: np.ndarray) -> np.ndarray:
    return low_high[0] + (low_high[1] - low_high[0]) * uniform
