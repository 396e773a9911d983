"""Losses without labels (DINO's, NT-Xent, InfoNCE), centre, teacher, queue of keys, regularisers: tensors in,
tensors out. In NumPy: labels that follow the network.
"""

from .clean_probability import SMALLEST_LOSS, LossMixture, fit_loss_mixture
from .cosine import cosine_loss
from .dino import DinoLoss, DinoLossConfig
from .infonce import enqueue, infonce, random_queue
from .koleo import koleo
from .label_queue import NONE, mode_of_queue, new_queue, push
from .ntxent import ntxent
from .teacher import make_teacher, update_teacher

__all__ = [
    "NONE",
    "SMALLEST_LOSS",
    "DinoLoss",
    "DinoLossConfig",
    "LossMixture",
    "cosine_loss",
    "enqueue",
    "fit_loss_mixture",
    "infonce",
    "koleo",
    "make_teacher",
    "mode_of_queue",
    "new_queue",
    "ntxent",
    "push",
    "random_queue",
    "update_teacher",
]
