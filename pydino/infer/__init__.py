"""From a model folder to embeddings: waveform or features in, one vector per utterance out."""

from .chunks import chunks
from .front_end import FrontEnd, FrontEndConfig
from .model import Model
from .model_folder import ModelConfig, load, read_model_config, save_model
from .stored_features import StoredFeatures, read_front_end

__all__ = [
    "FrontEnd",
    "FrontEndConfig",
    "Model",
    "ModelConfig",
    "StoredFeatures",
    "chunks",
    "load",
    "read_front_end",
    "read_model_config",
    "save_model",
]
