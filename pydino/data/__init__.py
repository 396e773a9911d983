"""From a pre-training directory to batches of views."""

from pydino.audio import NormalisationConfig
from pydino.audio.augment import AugmentConfig

from .training_set import TrainingSet, check_unlabelled
from .view_maker import ViewMaker
from .views import Batch, CropConfig, ViewSampler, prefetched

__all__ = [
    "AugmentConfig", "Batch", "CropConfig", "NormalisationConfig", "TrainingSet", "ViewMaker", "ViewSampler", "check_unlabelled",
    "prefetched",
]
