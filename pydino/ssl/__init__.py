"""DINO and what goes with it: losses, centre, teacher. Tensors in, tensors out."""

from .dino import DinoLoss, DinoLossConfig
from .koleo import koleo
from .teacher import make_teacher, update_teacher

__all__ = ["DinoLoss", "DinoLossConfig", "koleo", "make_teacher", "update_teacher"]
