"""Downstream tasks: probes on frozen embeddings, cross-validated over speakers."""

from .folds import assign_folds, default_fold_count
from .measures import bootstrap_classes, bootstrap_error, class_measures, speaker_confusions
from .probe import predict_classes, predict_numbers

__all__ = [
    "assign_folds",
    "bootstrap_classes",
    "bootstrap_error",
    "class_measures",
    "default_fold_count",
    "predict_classes",
    "predict_numbers",
    "speaker_confusions",
]
