"""Training: configuration, methods and their registry, the loop, checkpoints, monitors, many processes."""

from .config import TrainingConfig
from .distributed import DistributedContext
from .loop import train
from .method import Method, ParameterGroup, Setup
from .methods import find_method, load_training_config, method_names

__all__ = [
    "DistributedContext",
    "Method",
    "ParameterGroup",
    "Setup",
    "TrainingConfig",
    "find_method",
    "load_training_config",
    "method_names",
    "train",
]
