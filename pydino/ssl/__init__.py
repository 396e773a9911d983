"""DINO: losses, centre, teacher, regularisers. Tensors in, tensors out."""

from .cosine import cosine_loss
from .dino import DinoLoss, DinoLossConfig
from .koleo import koleo
from .teacher import make_teacher, update_teacher

__all__ = ["DinoLoss", "DinoLossConfig", "cosine_loss", "koleo", "make_teacher", "update_teacher"]
