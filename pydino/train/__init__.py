"""Training: configuration, schedules, methods, the loop, checkpoints, monitors, many processes."""

from .config import DinoConfig
from .dino import Dino
from .loop import train
from .world import World
from .xvector import Xvector, XvectorConfig

__all__ = ["Dino", "DinoConfig", "World", "Xvector", "XvectorConfig", "train"]
