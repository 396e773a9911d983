"""From a batch of audio to the features of its views, on the device: cropping, speed perturbation, waveform
augmentation, feature extraction; or, for an encoder of waveforms, to the samples of their frames.

Without augmentation a crop of L frames from frame f of an utterance has the values of frames f to f + L - 1
of the features of the whole utterance (silence removed): the crop includes the samples that its first and
last windows extend to, and at the ends of the utterance those are mirrored, as in Kaldi without snip_edges.
An utterance shorter than a crop is repeated from its beginning; only the windows across the seam then differ.

Axes: B utterances, V views, N crops of a group (views first, then utterances), S samples, L frames, F
columns, or samples of a frame.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from pydino.audio import KINDS
from pydino.audio.speed import SpeedChanger, drawn_factors
from pydino.audio.waveform_augment import WaveformAugmentConfig, WaveformAugmenter
from pydino.base import UserError

from .augmentation_data import AugmentationData
from .views import Batch
from .waveform_pool import runs
from .waveforms import Waveforms

_ENDLESS = 1 << 30  # samples; twice that, 37 hours, is what a batch may hold


@dataclass
class _Place:
    """Positions of the crops of some rows, in samples, (n,), from the beginning of the piece."""

    offset: np.ndarray  # of the piece in the batch
    length: np.ndarray  # of the piece
    start: np.ndarray  # of the crop
    end: np.ndarray  # of the crop, at the source's speed

    def rows(self, chosen) -> "_Place":
        return _Place(self.offset[chosen], self.length[chosen], self.start[chosen], self.end[chosen])


class WaveformViews:
    """Features of views, from audio.

    Args:
        groups: for each group of views of one length, their numbers (columns of ``Waveforms.starts``) and how
            they are augmented.
        options: of the features, FbankConfig or MfccConfig.
        augmentation_data: noises and room impulse responses.
        speed_factors: one is drawn for each visit of an utterance, for all its views.
        seed: of every draw.
        device: on which features are computed.
        owners: of each group: own or partner.
        input_kind: what the encoder takes: features or waveform.

    Attributes:
        dim: F.

    Raises:
        UserError: an augmentation without its data, or options that do not apply to crops: ``dither``
            (augmentation adds noise) and ``subtract_mean`` (crops are normalised).
    """

    def __init__(
        self,
        groups: list[tuple[np.ndarray, WaveformAugmentConfig]],
        options,
        augmentation_data: AugmentationData,
        speed_factors: list[float],
        seed: int,
        device,
        owners: list[str] | None = None,
        input_kind: str = "features",
    ):
        if options.dither or options.subtract_mean:
            raise UserError(
                "features of audio input are made without dither and subtract_mean; set 'dither: 0' and "
                "'subtract_mean: false'"
            )
        self._augmentation_data, self._options, self._seed, self._device = (
            augmentation_data,
            options,
            seed,
            torch.device(device),
        )
        self.of_waveforms, shift = input_kind == "waveform", options.window_shift
        extractor = dict(KINDS.values())[type(options)](options, device)
        self._extract = partial(_samples, shift=shift) if self.of_waveforms else extractor.of_crops
        self.dim = shift if self.of_waveforms else extractor.dim
        rate = options.sample_frequency
        self._groups = [
            (numbers, WaveformAugmenter(augment, augmentation_data, rate, seed, device), owner)
            for (numbers, augment), owner in zip(groups, owners or ["own"] * len(groups), strict=True)
        ]
        self._factors = list(speed_factors)
        self._changers = {
            factor: SpeedChanger(factor, device) for factor in set(speed_factors) if factor != 1
        }
        # of what is taken of a frame: its window, or its own samples
        self._size = shift if self.of_waveforms else options.window_size
        # samples before the crop that its first window extends to
        self._margin = 0 if options.snip_edges else self._size // 2 - shift // 2

    @torch.no_grad()
    def __call__(self, batch: Batch) -> list[torch.Tensor]:
        """Return the features of each group of views, (N, L, F) float32; the content of ``batch`` is
        :class:`Waveforms`.
        """
        self._augmentation_data.advance(batch.step)
        samples = {
            owner: batch.content_of(owner).samples.to(self._device, non_blocking=True)
            for owner in {owner for *_, owner in self._groups}
        }
        factors = drawn_factors(self._factors, self._seed, batch.visits, batch.hashes)
        features = []
        with torch.autocast(self._device.type, enabled=False):  # bfloat16 cannot hold 16-bit samples
            for numbers, augmenter, owner in self._groups:
                draws = augmenter.draws(batch.visits, batch.hashes, numbers)
                content = batch.content_of(owner)
                waves = self._waves(samples[owner], content, factors, numbers, augmenter.context)
                features.append(self._extract(augmenter(waves, draws, augmenter.context)))
        return features

    def _waves(self, samples, content: Waveforms, factors, numbers, context: int) -> torch.Tensor:
        """Return crops with context and margins, after the change of speed, (N, context + margins + crop)
        float32.
        """
        size, shift = self._size, self._options.window_shift
        frames, views = int(content.sizes[numbers[0]]), len(numbers)
        factor = np.tile(factors, views)
        start = content.starts[:, numbers].T.reshape(-1)
        end = start + np.rint(frames * shift * factor).astype(np.int64)
        place = _Place(np.tile(content.offsets, views), np.tile(content.lengths, views), start, end)
        first, count = -self._margin - context, context + (frames - 1) * shift + size
        if not self._changers:
            return self._cut(samples, place, first, count, context)
        waves = torch.empty(len(start), count, device=self._device)
        for speed in np.unique(factor).tolist():
            chosen = np.flatnonzero(factor == speed)
            if speed == 1:
                part = self._cut(samples, place.rows(chosen), first, count, context)
            else:
                changer = self._changers[speed]
                span = changer.span(first, count)
                source = self._cut(samples, place.rows(chosen), span.first, span.count, int(context * speed))
                part = changer(source, span, count)
            waves.index_copy_(0, _to(chosen, self._device), part)
        return waves

    def _cut(self, samples, place: _Place, first: int, count: int, context: int) -> torch.Tensor:
        """Return samples start + first to start + first + count - 1 of each crop, (n, count) float32.

        Samples outside the piece are mirrored, but zero in the first ``context``; a crop that extends past
        the end wraps around.
        """
        begin = place.start + first
        outside = np.flatnonzero((begin < 0) | (begin + count > place.length))
        if len(outside) == len(begin):
            return self._cut_at_ends(samples, place, first, count, context)
        # Crops that cross the ends are cut at any position first, and replaced below.
        waves = runs(samples, np.clip(place.offset + begin, 0, len(samples) - count), count).float()
        if len(outside):
            waves.index_copy_(
                0,
                _to(outside, self._device),
                self._cut_at_ends(samples, place.rows(outside), first, count, context),
            )
        return waves

    def _cut_at_ends(self, samples, place: _Place, first: int, count: int, context: int) -> torch.Tensor:
        """As :meth:`_cut`, for crops that extend beyond their piece: by an index for each sample.

        The piece is repeated with a period of whole frames, so that frames stay aligned. A crop that extends
        by less than a frame (by rounding after a change of speed) is mirrored instead.
        """
        shift = self._options.window_shift
        period = np.maximum((place.length + shift // 2) // shift, 1) * shift
        period = np.where(place.end >= period + shift, period, _ENDLESS)
        columns = np.stack([place.offset, place.length, place.start + first, period]).astype(np.int32)
        offset, length, begin, period = _to(columns, self._device)[:, :, None].unbind(0)  # (n, 1) each
        at = torch.arange(count, dtype=torch.int32, device=self._device)
        position = begin + at
        zero = (position < 0) & (at < context)
        position = torch.where(position < 0, position, position % period) % (2 * length)
        position = torch.where(position < length, position, 2 * length - 1 - position)
        return samples[position.add_(offset)].float().masked_fill_(zero, 0.0)


def _samples(waves: torch.Tensor, shift: int) -> torch.Tensor:
    """Return crops (N, L * shift), in the range of 16-bit integers, as samples of frames in [-1, 1], (N, L,
    shift).
    """
    return (waves / 32768).unflatten(1, (-1, shift))


def _to(array: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(array).to(device, non_blocking=True)
