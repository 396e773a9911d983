"""Downstream tasks: their folders, classifiers on frozen embeddings, and how they are measured."""

from .controls import (
    ENOUGH_UNITS,
    Control,
    classifier_of,
    metadata_vectors,
    not_measured,
    outputs_of,
    permutation_band,
    permute_labels,
    share_of_units,
    verdict,
    why_not_measured,
)
from .division import Division, Items, check_items, cross_validation, divide_by_table, fixed_division, leaks
from .evaluation import Evaluation, evaluate
from .folds import assign_folds, default_fold_count
from .frozen import CLASSIFIERS, FrozenClassifier, cross_predict, fit_fold, fit_frozen
from .overlap import refuse_overlap
from .scorers import Linear, Perceptron, PldaScorer
from .task_dir import FINAL, PARTS, TaskConfig, TaskDir, read_task, write_task

__all__ = [
    "CLASSIFIERS",
    "Control",
    "Division",
    "ENOUGH_UNITS",
    "Evaluation",
    "FINAL",
    "FrozenClassifier",
    "Items",
    "Linear",
    "PARTS",
    "Perceptron",
    "PldaScorer",
    "TaskConfig",
    "TaskDir",
    "assign_folds",
    "check_items",
    "classifier_of",
    "cross_predict",
    "cross_validation",
    "default_fold_count",
    "divide_by_table",
    "evaluate",
    "fit_fold",
    "fit_frozen",
    "fixed_division",
    "leaks",
    "metadata_vectors",
    "not_measured",
    "outputs_of",
    "permutation_band",
    "permute_labels",
    "read_task",
    "refuse_overlap",
    "share_of_units",
    "verdict",
    "why_not_measured",
    "write_task",
]
