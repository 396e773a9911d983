"""From a pre-training directory to batches of views."""

from pydino.audio import NormalisationConfig
from pydino.audio.augment import AugmentConfig
from pydino.audio.speed import rational
from pydino.audio.waveform_augment import CONTEXT_SECONDS, WaveformAugmentConfig

from .audio_set import AudioSet
from .augmentation_data import AugmentationData, AugmentationDataConfig
from .augmented_crops import AugmentedCrops, AugmentedCropsConfig
from .copy_paste import CopyPaste, CopyPasteConfig, join_crops
from .crops import CropConfig, UtteranceCropConfig, check_crop_seconds
from .epoch_sampler import EpochSampler
from .labels import Labels, read_clusters, read_labels
from .loading import batches
from .partners import Partners
from .source import Source
from .training_set import TrainingSet, check_unlabelled
from .view_groups import (
    ViewGroup,
    Views,
    cluster_pairs,
    globals_for_the_teacher_alone,
    view_groups,
    view_numbers,
    with_partners,
    with_partners_for_the_teacher,
)
from .view_maker import ViewMaker
from .views import Batch, ViewSampler
from .waveform_views import WaveformViews
from .waveforms import Waveforms

__all__ = [
    "CONTEXT_SECONDS",
    "AudioSet",
    "AugmentConfig",
    "AugmentationData",
    "AugmentationDataConfig",
    "AugmentedCrops",
    "AugmentedCropsConfig",
    "Batch",
    "CopyPaste",
    "CopyPasteConfig",
    "CropConfig",
    "EpochSampler",
    "Labels",
    "NormalisationConfig",
    "Partners",
    "Source",
    "TrainingSet",
    "UtteranceCropConfig",
    "ViewGroup",
    "ViewMaker",
    "ViewSampler",
    "Views",
    "WaveformAugmentConfig",
    "WaveformViews",
    "Waveforms",
    "batches",
    "check_crop_seconds",
    "check_unlabelled",
    "cluster_pairs",
    "join_crops",
    "rational",
    "read_clusters",
    "read_labels",
    "view_groups",
    "view_numbers",
    "globals_for_the_teacher_alone",
    "with_partners",
    "with_partners_for_the_teacher",
]
