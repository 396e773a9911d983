"""From stored crops to the input of the networks: augmented, normalised and masked on the device."""

import numpy as np
import torch

from pydino.audio import NormalisationConfig, normalise
from pydino.audio.augment import PowerMelAugmenter

from .copy_paste import CopyPaste, join_crops
from .view_groups import ViewGroup, Views, view_numbers
from .views import Batch
from .waveform_views import WaveformViews


class ViewMaker:
    """Turn batches of crops into views.

    Args:
        groups: of views.
        normalisation: of each crop by itself.
        feature_dim: F.
        frame_shift: seconds.
        seed: of every draw.
        device: of the views.
        waveforms: computes features of audio; None: the batches hold features.
        copy_paste: joins the groups of partners to those of the utterances themselves, if there are any.
    """

    def __init__(
        self,
        groups: list[ViewGroup],
        normalisation: NormalisationConfig,
        feature_dim: int,
        frame_shift: float,
        seed: int,
        device,
        waveforms: WaveformViews | None = None,
        copy_paste: CopyPaste | None = None,
    ):
        self._waveforms, self._groups, self._copy_paste = waveforms, groups, copy_paste
        self._numbers = view_numbers(groups)
        # what is done to filter banks is not done to waveforms
        of_waveforms = waveforms is not None and waveforms.of_waveforms
        self._augmenters = [
            None if of_waveforms else PowerMelAugmenter(group.augment, feature_dim, frame_shift, seed, device)
            for group in groups
        ]
        self._normalisation, self._device = normalisation, torch.device(device)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Views:
        """Return the views of a batch."""
        views = Views([], [], [], batch)
        # powers, and sums over frames, need float32
        with torch.autocast(self._device.type, enabled=False):
            features, frames = self._features(batch), self._frames(batch)
            self._join(batch, features, frames)
            for group, numbers, augment, x, valid in zip(
                self._groups, self._numbers, self._augmenters, features, frames, strict=True
            ):
                if group.joined_to:
                    continue
                if augment is not None:
                    draws = augment.draws(batch.visits, batch.hashes, numbers)
                    x = normalise_batch(augment(x, draws, len(numbers)), self._normalisation, valid)
                    x = augment.mask(x, draws)
                if valid is not None:
                    valid = torch.from_numpy(valid).to(self._device, non_blocking=True)
                    x.masked_fill_(~_is_valid(x, valid), 0.0)
                views.groups.append(group)
                views.tensors.append(x)
                views.frames.append(valid)
        return views

    def _frames(self, batch: Batch) -> list[np.ndarray | None]:
        """Return the valid frames of each group of views that is masked, (N,)."""
        return [
            batch.frames[:, numbers].T.reshape(-1) if group.short == "mask" else None
            for group, numbers in zip(self._groups, self._numbers, strict=True)
        ]

    def _join(self, batch: Batch, features: list[torch.Tensor], frames: list) -> None:
        """Join the crops of partners to the groups they belong to, in place."""
        places = {group.name: place for place, group in enumerate(self._groups)}
        for group, partner, partner_frames in zip(self._groups, list(features), list(frames), strict=True):
            if group.joined_to:
                place = places[group.joined_to]
                draws = self._copy_paste.draws(batch.visits, batch.hashes, self._numbers[place])
                features[place], frames[place] = join_crops(
                    features[place], partner, *draws, frames[place], partner_frames
                )

    def _features(self, batch: Batch) -> list[torch.Tensor]:
        """Return the features of each group of views, (N, L, F)."""
        if self._waveforms is not None:
            return self._waveforms(batch)
        features: list = [None] * len(self._groups)
        for owner in ("own", "partner"):
            chosen = [i for i, group in enumerate(self._groups) if group.owner == owner]
            if not chosen:
                continue
            content = batch.content_of(owner)
            values, sizes = content.values.to(self._device, non_blocking=True), content.sizes
            rows = [sizes[self._numbers[i]].sum() * len(batch.hashes) for i in chosen]
            for i, x in zip(chosen, values.split(rows), strict=True):
                features[i] = x.unflatten(0, (-1, sizes[self._numbers[i][0]]))
        return features


def normalise_batch(
    x: torch.Tensor, config: NormalisationConfig, frames: np.ndarray | None = None
) -> torch.Tensor:
    """Normalise crops (N, T, F), each by itself, as :func:`pydino.audio.normalise` does utterances; ``x`` may
    be overwritten. Of crops with ``frames`` (N,) valid frames, those alone count and are normalised.
    """
    if config.kind == "none":
        return x
    simple = config.kind == "mean" and not config.norm_vars  # the usual case
    if frames is not None and (frames < x.shape[1]).any():
        if simple:
            valid = torch.from_numpy(frames).to(x.device, non_blocking=True)
            total = x.masked_fill(~_is_valid(x, valid), 0.0).sum(1, keepdim=True)
            return x.sub_(total / valid[:, None, None])
        for length in np.unique(frames).tolist():
            rows = torch.from_numpy(np.flatnonzero(frames == length)).to(x.device)
            x[rows, :length] = normalise_batch(x[rows, :length], config)
        return x
    if simple:  # float32 suffices for a crop's mean
        return x.sub_(x.mean(1, keepdim=True))
    # (T, N F): time first, as the functions for single utterances expect
    columns = normalise(x.transpose(0, 1).flatten(1), config)
    return columns.unflatten(1, (len(x), -1)).transpose(0, 1).contiguous()


def _is_valid(x: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Return which frames of crops (N, T, F) with ``frames`` (N,) valid ones are valid, (N, T, 1)."""
    return (torch.arange(x.shape[1], device=x.device) < frames.unsqueeze(1)).unsqueeze(2)
