"""From a model folder to embeddings: waveform or features in, one vector per utterance out."""

from .chunks import chunks
from .classifier import Classifier, load_classifier, save_classifier
from .classifier_config import ClassifierConfig, default_note
from .front_end import FrontEnd, FrontEndConfig
from .model import Model
from .model_folder import ModelConfig, load, read_model_config, save_model
from .stored_features import StoredFeatures, read_front_end

__all__ = [
    "Classifier",
    "ClassifierConfig",
    "FrontEnd",
    "FrontEndConfig",
    "Model",
    "ModelConfig",
    "StoredFeatures",
    "chunks",
    "default_note",
    "load",
    "load_classifier",
    "read_front_end",
    "read_model_config",
    "save_classifier",
    "save_model",
]
