"""From a pre-training directory to batches of views."""

from pydino.audio import NormalisationConfig
from pydino.audio.augment import AugmentConfig
from pydino.audio.speed import rational
from pydino.audio.waveform_augment import CONTEXT_SECONDS, WaveformAugmentConfig

from .audio_set import AudioSet
from .augmentation_data import AugmentationData, AugmentationDataConfig
from .crops import CropConfig
from .epoch_sampler import EpochSampler
from .training_set import TrainingSet, check_unlabelled
from .view_maker import ViewMaker, view_groups
from .views import Batch, ViewSampler, batches
from .waveform_views import WaveformViews
from .waveforms import Waveforms

__all__ = [
    "CONTEXT_SECONDS",
    "AudioSet",
    "AugmentConfig",
    "AugmentationData",
    "AugmentationDataConfig",
    "Batch",
    "CropConfig",
    "NormalisationConfig",
    "EpochSampler",
    "TrainingSet",
    "ViewMaker",
    "ViewSampler",
    "WaveformAugmentConfig",
    "WaveformViews",
    "Waveforms",
    "batches",
    "check_unlabelled",
    "rational",
    "view_groups",
]
