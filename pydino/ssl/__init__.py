"""Losses without labels (DINO's, NT-Xent, InfoNCE), centre, teacher, queue of keys, clusters of a stream,
regularisers: tensors in, tensors out. In NumPy: labels that follow the network.
"""

from .clean_probability import SMALLEST_LOSS, LossMixture, fit_loss_mixture
from .cosine import cosine_loss
from .dimension import active_dimensions, dimension_regulariser
from .dino import DinoLoss, DinoLossConfig
from .infonce import enqueue, infonce, random_queue
from .koleo import koleo
from .label_queue import NONE, mode_of_queue, new_queue, push
from .mean_entropy import mean_entropy_gap
from .ntxent import ntxent
from .online_clusters import ClusterMemory, OnlineClusters
from .sinkhorn import sinkhorn
from .teacher import TeacherConfig, make_teacher, update_teacher
from .variance_covariance import covariance_regulariser, variance_regulariser

__all__ = [
    "NONE",
    "SMALLEST_LOSS",
    "ClusterMemory",
    "DinoLoss",
    "DinoLossConfig",
    "LossMixture",
    "OnlineClusters",
    "TeacherConfig",
    "active_dimensions",
    "cosine_loss",
    "covariance_regulariser",
    "dimension_regulariser",
    "enqueue",
    "fit_loss_mixture",
    "infonce",
    "koleo",
    "make_teacher",
    "mean_entropy_gap",
    "mode_of_queue",
    "new_queue",
    "ntxent",
    "push",
    "sinkhorn",
    "random_queue",
    "update_teacher",
    "variance_regulariser",
]
