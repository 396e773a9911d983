"""From a model folder to embeddings: waveform or features in, one vector per utterance out."""

from .chunks import chunks
from .classifier import Classifier, load_classifier, save_classifier
from .classifier_config import ClassifierConfig, default_note
from .control_vectors import (
    Extracted,
    StoredFrames,
    channel_vectors,
    crop_vectors,
    interviewer_vectors,
    timing_vectors,
    whole_vectors,
)
from .front_end import FrontEnd, FrontEndConfig, check_front_end
from .model import Model
from .model_folder import ModelConfig, load, read_model_config, save_model
from .silence_vectors import pause_vectors, silence_vectors
from .stored_features import StoredFeatures, read_front_end
from .stored_waveforms import StoredWaveforms, stored_inputs
from .training_audio import hashes_of, overlap, read_training_audio

__all__ = [
    "Classifier",
    "ClassifierConfig",
    "Extracted",
    "FrontEnd",
    "FrontEndConfig",
    "Model",
    "ModelConfig",
    "StoredFeatures",
    "StoredFrames",
    "StoredWaveforms",
    "channel_vectors",
    "check_front_end",
    "chunks",
    "crop_vectors",
    "default_note",
    "hashes_of",
    "interviewer_vectors",
    "load",
    "load_classifier",
    "overlap",
    "read_front_end",
    "read_model_config",
    "read_training_audio",
    "save_classifier",
    "save_model",
    "pause_vectors",
    "silence_vectors",
    "stored_inputs",
    "timing_vectors",
    "whole_vectors",
]
