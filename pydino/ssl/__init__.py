"""Losses without labels: DINO's and NT-Xent; its, centre, teacher, regularisers. Tensors in, tensors out."""

from .cosine import cosine_loss
from .dino import DinoLoss, DinoLossConfig
from .koleo import koleo
from .ntxent import ntxent
from .teacher import make_teacher, update_teacher

__all__ = ["DinoLoss", "DinoLossConfig", "cosine_loss", "koleo", "ntxent", "make_teacher", "update_teacher"]
