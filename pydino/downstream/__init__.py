"""Downstream tasks: probes on frozen embeddings, cross-validated over speakers."""

from .cross_validation import LabelledEmbeddings, cross_validate_classes, cross_validate_numbers
from .folds import assign_folds, default_fold_count
from .measures import bootstrap_classes, bootstrap_error, class_measures, speaker_confusions
from .overlap import refuse_overlap
from .probe import predict_classes, predict_numbers
from .task_dir import FINAL, PARTS, TaskConfig, TaskDir, read_task, write_task

__all__ = [
    "FINAL",
    "LabelledEmbeddings",
    "PARTS",
    "TaskConfig",
    "TaskDir",
    "assign_folds",
    "bootstrap_classes",
    "bootstrap_error",
    "class_measures",
    "cross_validate_classes",
    "cross_validate_numbers",
    "default_fold_count",
    "predict_classes",
    "predict_numbers",
    "read_task",
    "refuse_overlap",
    "speaker_confusions",
    "write_task",
]
