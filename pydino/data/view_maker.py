"""From stored crops to the input of the networks: augmented, normalised and masked on the device."""

import torch

from pydino.audio import NormalisationConfig, normalise
from pydino.audio.augment import PowerMelAugmenter

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
    ):
        self._waveforms, self._groups = waveforms, groups
        self._numbers = view_numbers(groups)
        self._augmenters = [
            PowerMelAugmenter(group.augment, feature_dim, frame_shift, seed, device) for group in groups
        ]
        self._normalisation, self._device = normalisation, torch.device(device)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Views:
        """Return the views of a batch."""
        tensors = []
        # powers, and sums over frames, need float32
        with torch.autocast(self._device.type, enabled=False):
            for numbers, augment, x in zip(
                self._numbers, self._augmenters, self._features(batch), strict=True
            ):
                draws = augment.draws(batch.visits, batch.hashes, numbers)
                x = normalise_batch(augment(x, draws, len(numbers)), self._normalisation)
                tensors.append(augment.mask(x, draws))
        return Views(self._groups, tensors)

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


def normalise_batch(x: torch.Tensor, config: NormalisationConfig) -> torch.Tensor:
    """Normalise crops (N, T, F), each by itself, as :func:`pydino.audio.normalise` does utterances; ``x`` may
    be overwritten.
    """
    if config.kind == "none":
        return x
    if config.kind == "mean" and not config.norm_vars:  # the usual case; float32 suffices for a crop's mean
        return x.sub_(x.mean(1, keepdim=True))
    # (T, N F): time first, as the functions for single utterances expect
    columns = normalise(x.transpose(0, 1).flatten(1), config)
    return columns.unflatten(1, (len(x), -1)).transpose(0, 1).contiguous()
