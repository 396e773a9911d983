"""Augmented crops of every utterance of a pre-training directory, for what is estimated from how an utterance
varies: the within-class covariance of embeddings where every utterance is a class of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from pydino.audio import NormalisationConfig
from pydino.audio.augment import AugmentConfig
from pydino.audio.waveform_augment import CONTEXT_SECONDS, WaveformAugmentConfig
from pydino.base import check_at_least, check_positive

from .audio_set import AudioSet
from .augmentation_data import AugmentationData, AugmentationDataConfig
from .crops import CropConfig, CropPlacer
from .source import Source
from .training_dir import read_hashes
from .training_set import TrainingSet
from .view_groups import ViewGroup, view_numbers
from .view_maker import ViewMaker
from .views import Batch
from .waveform_views import WaveformViews

# Utterances of a batch, consecutive in the order of the hashes. Babble is mixed from the others of a batch,
# so the size is part of the result; parts of the work are whole batches.
BATCH_UTTERANCES = 64


@dataclass
class AugmentedCropsConfig:
    """Number, length and augmentation of the crops (a YAML file such as conf/crops.yaml)."""

    number: int = 6  # crops of each utterance
    seconds: float = 2.5  # an utterance shorter than a crop is repeated, as in training
    seed: int = 0  # of places and augmentation
    augment: AugmentConfig = field(default_factory=AugmentConfig)  # of filter banks
    # of recordings, for models that take those; and the recordings that it needs
    waveform: WaveformAugmentConfig = field(default_factory=WaveformAugmentConfig)
    augmentation_data: AugmentationDataConfig = field(default_factory=AugmentationDataConfig)

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
        normalisation: of each crop by itself, where they are of features.
        options: of the features of ``data``, FbankConfig or MfccConfig.
        of_waveforms: crops of the recordings, augmented by ``config.waveform``, instead of the filter banks.
        device: of the crops.

    Attributes:
        num_batches: batches of ``BATCH_UTTERANCES`` utterances, the last of which may be smaller.

    Raises:
        UserError: see :class:`TrainingSet`, or :class:`AudioSet` and :class:`AugmentationData`.
    """

    def __init__(
        self,
        data,
        config: AugmentedCropsConfig,
        normalisation: NormalisationConfig,
        options,
        of_waveforms: bool = False,
        device="cpu",
    ):
        self._keys, self._number = read_hashes(data)[1], config.number  # to name what is written of them
        shift = options.frame_shift / 1000
        seconds = (config.seconds, config.seconds)
        groups = [ViewGroup("augmented", config.number, seconds, config.augment, config.waveform)]
        self._source: Source
        if of_waveforms:
            reverberant = config.waveform.reverberation_probability > 0
            self._source = AudioSet(data, options, CONTEXT_SECONDS if reverberant else 0.0)
            recordings = AugmentationData(
                config.augmentation_data, options, config.seconds, config.seed, device
            )
            views = [(view_numbers(groups)[0], config.waveform)]
            waveforms = WaveformViews(
                views, options, recordings, [1.0], config.seed, device, input_kind="waveform"
            )
            dim = waveforms.dim
        else:
            self._source, waveforms = TrainingSet(data), None
            dim = self._source.dim
        self._place = CropPlacer(CropConfig(), groups, shift, config.seed)
        self._views = ViewMaker(
            groups, normalisation, dim, shift, config.seed, torch.device(device), waveforms
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
            yield [self._keys[i] for i in indices], crops
