"""From a pre-training directory to batches of views."""

from pydino.audio import NormalisationConfig
from pydino.audio.augment import AugmentConfig

from .audio_set import AudioSet
from .crops import CropConfig
from .order import Order
from .training_set import TrainingSet, check_unlabelled
from .view_maker import ViewMaker
from .views import Batch, ViewSampler, batches
from .waveforms import Waveforms

__all__ = [
    "AudioSet", "AugmentConfig", "Batch", "CropConfig", "NormalisationConfig", "Order", "TrainingSet", "ViewMaker", "ViewSampler",
    "Waveforms", "batches", "check_unlabelled",
]
