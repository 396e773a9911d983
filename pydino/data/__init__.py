"""From a pre-training directory to batches of views."""

from .training_set import TrainingSet, check_unlabelled
from .views import Batch, CropConfig, ViewSampler, prefetched

__all__ = ["Batch", "CropConfig", "TrainingSet", "ViewSampler", "check_unlabelled", "prefetched"]
