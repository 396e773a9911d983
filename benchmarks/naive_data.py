"""How the naive step (benchmarks/naive.py) reads its data: worker processes, one crop at a time."""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pydino.audio.augment import PowerMelAugmenter
from pydino.audio.speed import drawn_factors
from pydino.data import Batch, WaveformViews
from pydino.data.crops import CropPlacer
from pydino.data.training_dir import read_hashes
from pydino.data.view_maker import normalise_batch
from pydino.kaldi import read_object, read_scp_objects, read_table


class Crop(NamedTuple):
    """A crop that is wanted: ``size`` frames from ``start`` of utterance ``index``, played at the speed
    ``factor``.
    """

    index: int
    start: int
    size: int
    view: int
    visit: int
    step: int
    factor: float


class StoredFeatures:
    """Crops of stored features: each time the archive is opened and a whole matrix decoded.

    Args:
        data: the pre-training directory.
    """

    def __init__(self, data):
        _, self._keys = read_hashes(data)
        self._where = read_table(f"{data}/feats.scp")
        self._voiced = {
            key: np.flatnonzero(decisions > 0.5) for key, decisions in read_scp_objects(f"{data}/vad.scp")
        }

    def __call__(self, crop: Crop) -> torch.Tensor:
        """Return the crop (L, F), silence cut out; a short utterance repeats from its beginning."""
        key = self._keys[crop.index]
        voiced = self._voiced[key]
        matrix = read_object(self._where[key], key=key)
        return torch.from_numpy(matrix[voiced[np.arange(crop.start, crop.start + crop.size) % len(voiced)]])


class Recordings:
    """Crops of recordings: each time the recording is opened, and the crop augmented and its filter banks
    computed by itself.

    Args:
        dataset: :class:`pydino.data.AudioSet`.
        config: DinoConfig.
        options: of the features.
        augmentation_data: :class:`pydino.data.AugmentationData` on the CPU.
        seed: of every draw.
    """

    def __init__(self, dataset, config, options, augmentation_data, seed: int):
        self._dataset, crops = dataset, config.crops
        student, teacher = config.waveform_pair
        self._views = [
            WaveformViews(
                [(np.array([view]), teacher if view < crops.num_global else student)],
                options,
                augmentation_data,
                config.speed_factors,
                seed,
                "cpu",
            )
            for view in range(crops.num_global + crops.num_local)
        ]

    def __call__(self, crop: Crop) -> torch.Tensor:
        """Return the features of the crop (L, F)."""
        index, size = np.array([crop.index]), np.array([crop.size])
        content = self._dataset.collect(index, np.array([[crop.start]]), size, np.array([crop.factor]))
        # Which column of these a view looks at depends on its number, as do its draws.
        content.starts, content.sizes = (
            np.repeat(content.starts, len(self._views), axis=1),
            np.repeat(size, len(self._views)),
        )
        batch = Batch(crop.step, np.array([crop.visit]), self._dataset.hashes[index], content, 0.0)
        return self._views[crop.view](batch)[0][0]


class NaiveViews(Dataset):
    """Views by step number, made of single crops.

    Args:
        read: callable (:class:`Crop`) -> features (L, F), such as :class:`StoredFeatures`.
        config: DinoConfig.
        order: as in :class:`pydino.data.ViewSampler`.
        lengths: (N,) frames of the utterances.
        dim: F.
        frame_shift: seconds.
        seed: of every draw.
    """

    def __init__(self, read, config, order, lengths: np.ndarray, dim: int, frame_shift: float, seed: int):
        self._read, self._config, self._order, self._lengths, self._seed = read, config, order, lengths, seed
        self._place = CropPlacer(config.crops, config.view_groups, frame_shift, seed)
        self._student, self._teacher = (
            PowerMelAugmenter(part, dim, frame_shift, seed, "cpu") for part in config.augment_pair
        )

    def __getitem__(self, step: int) -> list[torch.Tensor]:
        """Return the views of a step, each (B, L, F), global ones first."""
        visits, indices = self._order(step)
        hashes, sizes = self._order.hashes[indices], self._place.sizes(step)
        factors = drawn_factors(self._config.speed_factors, self._seed, visits, hashes)
        lengths = np.maximum(1, np.floor(self._lengths[indices] / factors)).astype(np.int64)
        starts = np.floor(self._place.starts(visits, hashes, lengths, sizes) * factors[:, None]).astype(
            np.int64
        )
        views = []
        for view, size in enumerate(sizes.tolist()):
            rows = zip(
                indices.tolist(), starts[:, view].tolist(), visits.tolist(), factors.tolist(), strict=True
            )
            crops = [
                self._read(Crop(index, start, size, view, visit, step, factor))
                for index, start, visit, factor in rows
            ]
            views.append(self._augment(torch.stack(crops), view, visits, hashes))
        return views

    @torch.no_grad()
    def _augment(self, x: torch.Tensor, view: int, visits, hashes) -> torch.Tensor:
        augment = self._teacher if view < self._config.crops.num_global else self._student
        draws = augment.draws(visits, hashes, np.array([view]))
        return augment.mask(normalise_batch(augment(x, draws, 1), self._config.normalisation), draws)


class Steps:
    """The numbers of the steps that the loader is to read; changed between one use of it and the next."""

    first = last = 0

    def __iter__(self):
        return iter(range(self.first, self.last))

    def __len__(self):
        return self.last - self.first


class NaiveLoader:
    """Batches read ahead by worker processes, which stay between one use and the next."""

    def __init__(self, views: NaiveViews, workers: int, pin: bool = False):
        self._steps = Steps()
        self._loader = DataLoader(
            views,
            batch_size=None,
            sampler=self._steps,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin,
            multiprocessing_context="forkserver" if workers else None,
        )

    def __call__(self, first: int, last: int):
        """Return an iterator over the views of steps ``first`` to ``last`` - 1."""
        self._steps.first, self._steps.last = first, last
        return iter(self._loader)
