"""Training: configuration, schedules, methods, the loop, checkpoints, monitors, many processes."""

from .config import DinoConfig
from .dino import Dino
from .distributed import DistributedContext
from .loop import train
from .xvector import Xvector, XvectorConfig

__all__ = ["Dino", "DinoConfig", "DistributedContext", "Xvector", "XvectorConfig", "train"]
