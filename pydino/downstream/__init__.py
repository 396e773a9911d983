"""Downstream tasks: probes on frozen embeddings, cross-validated over speakers."""

from .cross_validation import LabelledEmbeddings, cross_validate_classes, cross_validate_numbers
from .folds import assign_folds, default_fold_count
from .measures import bootstrap_classes, bootstrap_error, class_measures, speaker_confusions
from .probe import predict_classes, predict_numbers

__all__ = [
    "LabelledEmbeddings",
    "assign_folds",
    "bootstrap_classes",
    "bootstrap_error",
    "class_measures",
    "cross_validate_classes",
    "cross_validate_numbers",
    "default_fold_count",
    "predict_classes",
    "predict_numbers",
    "speaker_confusions",
]
