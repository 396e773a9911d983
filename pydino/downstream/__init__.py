"""Downstream tasks: probes on frozen embeddings, cross-validated over speakers."""

from .cross_validation import LabelledEmbeddings, cross_validate_classes, cross_validate_numbers
from .division import Division, Items, check_items, cross_validation, divide_by_table, fixed_division, leaks
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
    "Division",
    "Evaluation",
    "FINAL",
    "Items",
    "LabelledEmbeddings",
    "PARTS",
    "TaskConfig",
    "TaskDir",
    "assign_folds",
    "bootstrap_classes",
    "bootstrap_numbers",
    "check_items",
    "class_measures",
    "cross_validate_classes",
    "cross_validate_numbers",
    "cross_validation",
    "default_fold_count",
    "divide_by_table",
    "evaluate",
    "fixed_division",
    "leaks",
    "number_measures",
    "predict_classes",
    "predict_numbers",
    "read_task",
    "speaker_confusions",
    "speaker_sums",
    "write_task",
]
