"""Downstream tasks: probes on frozen embeddings, cross-validated over speakers."""

from .cross_validation import LabelledEmbeddings, cross_validate_classes, cross_validate_numbers
from .evaluation import Evaluation, evaluate
from .folds import assign_folds, default_fold_count
from .measures import (
    bootstrap_classes,
    bootstrap_numbers,
    class_measures,
    number_measures,
    speaker_confusions,
    speaker_sums,
)
from .probe import predict_classes, predict_numbers
from .task_dir import FINAL, PARTS, TaskConfig, TaskDir, read_task, write_task

__all__ = [
    "Evaluation",
    "FINAL",
    "LabelledEmbeddings",
    "PARTS",
    "TaskConfig",
    "TaskDir",
    "assign_folds",
    "bootstrap_classes",
    "bootstrap_numbers",
    "class_measures",
    "cross_validate_classes",
    "cross_validate_numbers",
    "default_fold_count",
    "evaluate",
    "number_measures",
    "predict_classes",
    "predict_numbers",
    "read_task",
    "speaker_confusions",
    "speaker_sums",
    "write_task",
]
