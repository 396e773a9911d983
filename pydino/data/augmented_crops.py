"""Augmented crops of every utterance of a pre-training directory, for what is estimated from how an utterance
varies: the within-class covariance of embeddings where every utterance is a class of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from pydino.audio import NormalisationConfig
from pydino.audio.augment import AugmentConfig
from pydino.base import check_at_least, check_positive

from .crops import CropConfig, CropPlacer
from .training_set import TrainingSet
from .view_groups import ViewGroup
from .view_maker import ViewMaker
from .views import Batch

# Utterances of a batch, consecutive in the order of the hashes. Babble is mixed from the others of a batch,
# so the size is part of the result; parts of the work are whole batches.
BATCH_UTTERANCES = 64


@dataclass
class AugmentedCropsConfig:
    """Number, length and augmentation of the crops (a YAML file such as conf/crops.yaml)."""

    number: int = 6  # crops of each utterance
    seconds: float = 2.5  # an utterance shorter than a crop is repeated, as in training
    seed: int = 0  # of places and augmentation
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self):
        check_at_least(self, 2, "number")  # one crop has no covariance
        check_positive(self, "seconds")
        if self.seconds > 60:  # shorter utterances are repeated, and fill the memory with a wrong unit
            raise ValueError(f"seconds must be at most 60, got {self.seconds:g}")


class AugmentedCrops:
    """Crops by batch, a pure function of the batch's number.

    Args:
        data: pre-training directory.
        config: of the crops.
        normalisation: of each crop by itself.
        frame_shift: seconds.
        device: of the crops.

    Attributes:
        num_batches: batches of ``BATCH_UTTERANCES`` utterances, the last of which may be smaller.

    Raises:
        UserError: see :class:`TrainingSet`.
    """

    def __init__(
        self,
        data,
        config: AugmentedCropsConfig,
        normalisation: NormalisationConfig,
        frame_shift: float,
        device="cpu",
    ):
        self._source, self._number = TrainingSet(data), config.number
        groups = [ViewGroup("augmented", config.number, (config.seconds, config.seconds), config.augment)]
        self._place = CropPlacer(CropConfig(), groups, frame_shift, config.seed)
        self._views = ViewMaker(
            groups, normalisation, self._source.dim, frame_shift, config.seed, torch.device(device)
        )

    def __len__(self) -> int:
        """Return the number of utterances."""
        return len(self._source)

    @property
    def num_batches(self) -> int:
        return -(-len(self._source) // BATCH_UTTERANCES)

    def batches(self, numbers) -> Iterator[tuple[list[str], torch.Tensor]]:
        """Yield (B utterances, their crops (B, number, L, F), normalised) of the batches ``numbers``."""
        sizes = self._place.sizes(0)
        for number in numbers:
            first = number * BATCH_UTTERANCES
            indices = np.arange(first, min(first + BATCH_UTTERANCES, len(self._source)))
            hashes, visits = self._source.hashes[indices], np.zeros(len(indices), dtype=np.int64)
            starts = self._place.starts(visits, hashes, self._source.lengths[indices], sizes)
            content = self._source.collect(indices, starts, sizes)
            views = self._views(Batch(0, visits, hashes, content, 0.0)).tensors[0]
            crops = views.unflatten(0, (self._number, len(indices))).transpose(0, 1)
            yield [self._source.keys[i] for i in indices], crops
