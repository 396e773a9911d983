"""From a model folder to embeddings: waveform or features in, one vector an utterance out."""

from .front_end import FrontEnd, FrontEndConfig
from .model import Model
from .model_folder import ModelConfig, load, read_model_config, save_model

__all__ = ["FrontEnd", "FrontEndConfig", "Model", "ModelConfig", "load", "read_model_config", "save_model"]
