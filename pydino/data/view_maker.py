"""From crops as stored to views as the networks see them: on the device, augmented, normalised, masked."""

import numpy as np
import torch

from pydino.audio import NormalisationConfig, normalise
from pydino.audio.augment import AugmentConfig, PowerMelAugmenter

from .views import Batch, CropConfig


class ViewMaker:
    """Turn batches of crops into views.

    Args:
        crops: how many of which.
        augment: what is done to them.
        normalisation: of each crop by itself.
        feature_dim: F.
        frame_shift: seconds.
        seed: of every draw.
        device: where the views are wanted.
    """

    def __init__(
        self, crops: CropConfig, augment: AugmentConfig, normalisation: NormalisationConfig, feature_dim: int, frame_shift: float,
        seed: int, device,
    ):
        self._augment = PowerMelAugmenter(augment, feature_dim, frame_shift, seed, device)
        self._normalisation, self._device = normalisation, torch.device(device)
        numbers = np.arange(crops.num_global + crops.num_local)
        self._numbers = (numbers[: crops.num_global], numbers[crops.num_global :])

    @torch.no_grad()
    def __call__(self, batch: Batch) -> list[torch.Tensor]:
        """Return the global views (G B, L, F), then, if there are any, the local ones (V B, L', F); views first, then utterances."""
        views = []
        for crops, numbers in zip((batch.global_crops, batch.local_crops), self._numbers, strict=True):
            if len(numbers):
                x = torch.from_numpy(crops).to(self._device, non_blocking=True).flatten(0, 1)
                draws = self._augment.draws(batch.epochs, batch.hashes, numbers)
                x = normalise_batch(self._augment(x, draws, len(numbers)), self._normalisation)
                views.append(self._augment.mask(x, draws))
        return views


def normalise_batch(x: torch.Tensor, config: NormalisationConfig) -> torch.Tensor:
    """Normalise crops (N, T, F), each by itself, as :func:`pydino.audio.normalise` does utterances; ``x`` may be overwritten."""
    if config.kind == "none":
        return x
    if config.kind == "mean" and not config.norm_vars:  # the usual case; float32 is enough for a crop's mean
        return x.sub_(x.mean(1, keepdim=True))
    columns = normalise(x.transpose(0, 1).flatten(1), config)  # (T, N F): time first, as the utterance-wise functions have it
    return columns.unflatten(1, (len(x), -1)).transpose(0, 1).contiguous()
