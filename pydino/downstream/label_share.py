"""A part of a task's labels: how much do fewer of them cost?"""

import math

import numpy as np

from pydino.base import keyed_bits, purpose, utterance_hash

from .task_dir import TaskDir


def chosen_units(labels: dict[str, str], share: float, seed: int) -> set[str]:
    """Return a share of the units, of each class by itself, at least one of each.

    The units of a class are ordered by a hash of the seed and their names, and ceil(share * n) come first: a
    larger share holds every smaller one of the same seed.

    Args:
        labels: unit -> class; one class for all where labels are numbers.
        share: above 0, up to 1.
        seed: of the order.
    """
    by_class: dict[str, list[str]] = {}
    for unit, label in labels.items():
        by_class.setdefault(label, []).append(unit)
    found: set[str] = set()
    for units in by_class.values():
        hashes = np.array([utterance_hash(unit) for unit in units], dtype=np.uint64)
        bits = keyed_bits(seed, hashes, purpose("share of the labels"))
        order = sorted(zip(bits.tolist(), units, strict=True))
        found |= {unit for _, unit in order[: math.ceil(share * len(units) - 1e-9)]}
    return found


def folds_with_fewer_labels(task: TaskDir, share: float, seed: int) -> dict[str, dict[str, str]]:
    """Return the folds that have a test part, with a share of the units of their training parts and of their
    development parts: both are labels that somebody has to give. Test parts stay whole.

    Returns:
        Fold -> utterance -> train, dev or test.
    """
    number = task.config.kind == "number"
    folds = {}
    for fold in task.config.folds:
        folds[fold] = dict.fromkeys(task.part(fold, "test"), "test")
        for part in ("train", "dev"):
            utterances = task.part(fold, part)
            labels = {task.units[key]: "" if number else task.labels[key] for key in utterances}
            kept = chosen_units(labels, share, seed)
            folds[fold] |= {key: part for key in utterances if task.units[key] in kept}
    return folds
