"""Training: configuration, schedules, the loop, checkpoints, monitors."""

from .config import DinoConfig
from .dino import Dino
from .loop import choose_device, train

__all__ = ["Dino", "DinoConfig", "choose_device", "train"]
