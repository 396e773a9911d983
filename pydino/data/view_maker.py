"""From crops as stored to views as the networks see them: on the device, augmented, normalised, masked."""

import numpy as np
import torch

from pydino.audio import NormalisationConfig, normalise
from pydino.audio.augment import AugmentConfig, PowerMelAugmenter

from .crops import CropConfig
from .views import Batch
from .waveform_views import WaveformViews


class ViewMaker:
    """Turn batches of crops into views.

    Args:
        crops: how many of which.
        augment: what is done to the views that the student alone sees, and to those that the teacher sees
            too.
        normalisation: of each crop by itself.
        feature_dim: F.
        frame_shift: seconds.
        seed: of every draw.
        device: where the views are wanted.
        waveforms: what makes features of audio; None: the batches bring features.
    """

    def __init__(
        self,
        crops: CropConfig,
        augment: tuple[AugmentConfig, AugmentConfig],
        normalisation: NormalisationConfig,
        feature_dim: int,
        frame_shift: float,
        seed: int,
        device,
        waveforms: WaveformViews | None = None,
    ):
        self._waveforms = waveforms
        student, teacher = (
            PowerMelAugmenter(config, feature_dim, frame_shift, seed, device) for config in augment
        )
        self._normalisation, self._device = normalisation, torch.device(device)
        self._groups = list(zip(view_groups(crops), (teacher, student), strict=False))

    @torch.no_grad()
    def __call__(self, batch: Batch) -> list[torch.Tensor]:
        """Return the global views (G B, L, F), then, if there are any, the local ones (V B, L', F); views
        first, then utterances.
        """
        result = []
        # powers and sums over frames do not bear 16 bits
        with torch.autocast(self._device.type, enabled=False):
            for (views, augment), x in zip(self._groups, self._features(batch), strict=True):
                draws = augment.draws(batch.visits, batch.hashes, views)
                x = normalise_batch(augment(x, draws, len(views)), self._normalisation)
                result.append(augment.mask(x, draws))
        return result

    def _features(self, batch: Batch) -> list[torch.Tensor]:
        """Return the log filter banks of each group of views, (N, L, F)."""
        if self._waveforms is not None:
            return self._waveforms(batch)
        values, sizes = batch.content.values.to(self._device, non_blocking=True), batch.content.sizes
        rows = [sizes[views].sum() * len(batch.hashes) for views, _ in self._groups]
        return [
            x.unflatten(0, (-1, sizes[views[0]]))
            for x, (views, _) in zip(values.split(rows), self._groups, strict=True)
        ]


def view_groups(crops: CropConfig) -> list[np.ndarray]:
    """Return the numbers of the global views and, if there are any, of the local ones."""
    numbers = np.arange(crops.num_global + crops.num_local)
    return [views for views in (numbers[: crops.num_global], numbers[crops.num_global :]) if len(views)]


def normalise_batch(x: torch.Tensor, config: NormalisationConfig) -> torch.Tensor:
    """Normalise crops (N, T, F), each by itself, as :func:`pydino.audio.normalise` does utterances; ``x`` may
    be overwritten.
    """
    if config.kind == "none":
        return x
    if config.kind == "mean" and not config.norm_vars:  # the usual case; float32 is enough for a crop's mean
        return x.sub_(x.mean(1, keepdim=True))
    # (T, N F): time first, as the utterance-wise functions have it
    columns = normalise(x.transpose(0, 1).flatten(1), config)
    return columns.unflatten(1, (len(x), -1)).transpose(0, 1).contiguous()
