"""From a pre-training directory to batches of views."""

from pydino.audio import NormalisationConfig
from pydino.audio.augment import AugmentConfig
from pydino.audio.speed import rational
from pydino.audio.waveform_augment import CONTEXT_SECONDS, WaveformAugmentConfig

from .audio_set import AudioSet
from .bank import Bank, BankConfig
from .crops import CropConfig
from .order import Order
from .training_set import TrainingSet, check_unlabelled
from .view_maker import ViewMaker, view_groups
from .views import Batch, ViewSampler, batches
from .waveform_views import WaveformViews
from .waveforms import Waveforms

__all__ = [
    "CONTEXT_SECONDS",
    "AudioSet",
    "AugmentConfig",
    "Bank",
    "BankConfig",
    "Batch",
    "CropConfig",
    "NormalisationConfig",
    "Order",
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
