"""From a model folder to embeddings: waveform or features in, one vector per utterance out."""

from .front_end import FrontEnd, FrontEndConfig
from .model import Model
from .model_folder import ModelConfig, load, read_model_config, save_model
from .stored_features import StoredFeatures, read_front_end
from .training_audio import hashes_of, overlap, read_training_audio

__all__ = [
    "FrontEnd",
    "FrontEndConfig",
    "Model",
    "ModelConfig",
    "StoredFeatures",
    "hashes_of",
    "load",
    "overlap",
    "read_front_end",
    "read_model_config",
    "read_training_audio",
    "save_model",
]
