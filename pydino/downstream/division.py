"""The division of a task's utterances into folds, each with a part to train on, one to choose and stop by,
and one to test with; a subject is never in two parts of a fold.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from pydino.base import UserError

from .folds import assign_folds, default_fold_count
from .task_dir import FINAL, PARTS

FIXED = "fixed"  # the fold of a fixed division
_DEV_SHARE = 10  # without a development set, one of this many parts of the subjects is set apart


@dataclass(frozen=True)
class Items:
    """What is divided: N utterances in C order.

    Attributes:
        keys, labels, subjects, units: (N,) texts.
        kind: class or number.
        source: the file of the labels, for messages.
    """

    keys: list[str]
    labels: list[str]
    subjects: list[str]
    units: list[str]
    kind: str
    source: str

    @property
    def classes(self) -> list[str]:
        """The classes, sorted; none for numbers."""
        return sorted(set(self.labels)) if self.kind == "class" else []

    def strata(self) -> np.ndarray | None:
        """(N,) the number of each utterance's class; None for numbers."""
        number_of = {name: number for number, name in enumerate(self.classes)}
        return np.array([number_of[label] for label in self.labels]) if number_of else None

    def subject_numbers(self) -> np.ndarray:
        """(N,) ints from 0, in the order of the subjects' names."""
        return np.unique(self.subjects, return_inverse=True)[1]


@dataclass
class Division:
    """Folds: name -> utterance -> train, dev or test; ``FINAL`` has no test part.

    Attributes:
        folds: those with a test part in order, then the final one.
        text: the rule in words.
        notes: what a user should know about single folds.
    """

    folds: dict[str, dict[str, str]]
    text: str
    notes: list[str] = field(default_factory=list)

    @property
    def tested(self) -> list[str]:
        """The names of the folds with a test part."""
        return [name for name in self.folds if name != FINAL]


def check_items(items: Items) -> None:
    """Check labels, subjects and units.

    Raises:
        UserError: a label that is no finite number, a single class or subject, or a unit whose utterances do
            not agree in their label or subject.
    """
    if items.kind == "number":
        for key, label in zip(items.keys, items.labels, strict=True):
            if not _is_number(label):
                raise UserError(
                    f"{items.source}: the label of {key} is '{label}', not a number; correct it, or use "
                    "--kind class"
                )
    elif len(items.classes) < 2:
        raise UserError(
            f"{items.source}: every utterance has the label {items.classes[0]}; a classifier needs two "
            "classes or more"
        )
    if len(names := set(items.subjects)) < 2:
        raise UserError(
            f"{items.source}: all {len(items.keys)} utterances are of the single speaker {min(names)}; "
            "folds need two or more"
        )
    for what, values in (("label", items.labels), ("subject", items.subjects)):
        value_of: dict[str, str] = {}
        for unit, value in zip(items.units, values, strict=True):
            if value_of.setdefault(unit, value) != value:
                raise UserError(
                    f"{items.source}: the utterances of {unit} have the {what}s {value_of[unit]} and "
                    f"{value}; what is counted once has one {what} (--average-over)"
                )


def cross_validation(items: Items, folds: str, dev: str = "next", seed: int = 0) -> Division:
    """Divide into folds of whole subjects, stratified by class; each is tested once.

    Args:
        items: the utterances.
        folds: ``speaker`` (leave one subject out for up to 10, 10 folds above) or a number, as text.
        dev: ``next``: the development part of a fold is the test part of the next one, the first after the
            last; ``none``: there is none.
        seed: of the order of the subjects within a class.

    Raises:
        UserError: a number of folds that the subjects do not allow, or a class that a fold cannot train.
    """
    subjects, strata = items.subject_numbers(), items.strata()
    total = int(subjects.max()) + 1
    if folds != "speaker" and not (folds.isdecimal() and 2 <= int(folds) <= total):
        raise UserError(
            f"--folds {folds}: give speaker, a table such as utt2fold, or a number from 2 to the number of "
            f"speakers, {total}"
        )
    for name in items.classes:
        of_class = {
            subject for subject, label in zip(items.subjects, items.labels, strict=True) if label == name
        }
        if len(of_class) == 1:
            raise UserError(
                f"{items.source}: only the speaker {min(of_class)} has the class {name}, so no other speaker "
                "can be used to train it; merge the class, or remove it from the labels"
            )
    count = default_fold_count(total) if folds == "speaker" else int(folds)
    fold_of = assign_folds(subjects, count, strata, seed)
    one_out = count == total
    text = "leave one subject out" if one_out else f"{count} folds of whole subjects"
    text += "" if one_out else f"{'' if strata is None else ', stratified by class'}, seed {seed}"
    return _cyclic(items, [str(fold) for fold in fold_of], list(map(str, range(count))), dev, text, seed)


def divide_by_table(
    items: Items, fold_of: dict[str, str], source: str, dev: str = "next", seed: int = 0
) -> Division:
    """Divide as a table says: utterance -> fold, for a cross-validation, or train, dev or test.

    Raises:
        UserError: an utterance without a fold, a single fold, a subject in two folds, a class that a fold
            cannot train, or no train or test part.
    """
    if absent := [key for key in items.keys if key not in fold_of]:
        raise UserError(f"{source}: {len(absent)} utterances have no fold, first: {absent[0]}")
    folds = [fold_of[key] for key in items.keys]
    names = sorted(set(folds), key=lambda name: (len(name) if name.isdecimal() else 0, name))
    if {"train", "test"} <= set(names) <= set(PARTS):
        return fixed_division(items, dict(zip(items.keys, folds, strict=True)), f"as {source}", seed)
    if len(names) < 2:
        raise UserError(f"{source}: all utterances are in the fold {names[0]}; two or more are needed")
    if bad := [
        name for name in names if not name.replace("-", "").replace("_", "").isalnum() or name == FINAL
    ]:
        raise UserError(f"{source}: '{bad[0]}' cannot be the name of a fold: letters, digits, - and _ only")
    _check_subjects(items, folds, source)
    return _cyclic(items, folds, names, dev, f"the {len(names)} folds of {source}", seed)


def fixed_division(items: Items, part_of: dict[str, str], text: str, seed: int = 0) -> Division:
    """Divide into given parts. Without a development part, it is a tenth of the subjects of the training
    part, stratified by class.

    Args:
        items: the utterances.
        part_of: utterance -> train, dev or test.
        text: the rule in words.
        seed: of the order of the subjects, where a development part is set apart.

    Raises:
        UserError: no train or test part, a subject in two parts, or a class that cannot be trained.
    """
    parts = [part_of[key] for key in items.keys]
    for part in ("train", "test"):
        if part not in parts:
            raise UserError(f"{items.source}: no utterance with a label is in the part '{part}'")
    _check_subjects(items, parts, items.source)
    fold = dict(zip(items.keys, parts, strict=True))
    _check_classes(items, parts, FIXED)
    if items.kind == "class" and (absent := _absent(items, parts, ("train",))):
        raise UserError(
            f"{items.source}: the class {absent[0]} is in the development part, but not in the training "
            "part, so that no training can learn it; move some of its subjects there, or merge the class"
        )
    if "dev" not in parts:
        fold, said = _set_apart(items, fold, seed)
        text += f"; development: {said}"
    final = {key: part for key, part in fold.items() if part != "test"}
    return Division({FIXED: fold, FINAL: final}, text)


def leaks(folds: dict[str, dict[str, str]], duplicates: list[list[str]]) -> str:
    """Return which identical recordings are in both the training (or development) and the test part of a
    fold, as text; an empty string if there are none.

    Args:
        folds: name -> utterance -> part.
        duplicates: groups of utterances with the same samples.
    """
    for fold, parts in folds.items():
        for group in duplicates:
            tested = [key for key in group if parts.get(key) == "test"]
            others = [key for key in group if parts.get(key) in ("train", "dev")]
            if tested and others:
                return (
                    f"{others[0]} and {tested[0]} have the same samples, and fold {fold} trains on the one "
                    "and tests with the other"
                )
    return ""


def _cyclic(items, folds, names, dev, text, seed) -> Division:
    """Each fold is tested once; the development part is the fold after it."""
    made, notes, without = {}, [], []
    for number, name in enumerate(names):
        following = names[(number + 1) % len(names)] if dev == "next" and len(names) > 2 else None
        parts = ["test" if fold == name else "train" for fold in folds]
        _check_classes(items, parts, name)
        fold = dict(zip(items.keys, parts, strict=True))
        if following is not None:
            with_dev = [
                "dev" if other == following else part for other, part in zip(folds, parts, strict=True)
            ]
            if _absent(items, with_dev, ("train",)):
                without.append(name)
            else:
                fold = dict(zip(items.keys, with_dev, strict=True))
        made[name] = fold
    final = dict.fromkeys(items.keys, "train")
    if dev == "next":
        apart = ["dev" if fold == names[0] else "train" for fold in folds]
        if not _absent(items, apart, ("train",)):
            final = dict(zip(items.keys, apart, strict=True))
    if dev == "next" and len(names) > 2:
        text += "; development: the next fold"
    else:
        text += "; no development part"
    if without:
        notes.append(
            f"no development part in the folds {' '.join(without)}: the next fold has all subjects of a class"
        )
    return Division({**made, FINAL: final}, text, notes)


def _set_apart(items, fold, seed) -> tuple[dict[str, str], str]:
    """A tenth of the subjects of the training part becomes the development part; the rule in words."""
    places = [place for place, key in enumerate(items.keys) if fold[key] == "train"]
    subjects = np.unique([items.subjects[place] for place in places], return_inverse=True)[1]
    strata, count = items.strata(), min(_DEV_SHARE, int(subjects.max()) + 1)
    if count > 1:
        fold_of = assign_folds(subjects, count, None if strata is None else strata[places], seed)
        for chosen in range(count):
            made = dict(fold)
            made.update(
                (items.keys[place], "dev") for place, of in zip(places, fold_of, strict=True) if of == chosen
            )
            if not _absent(items, [made[key] for key in items.keys], ("train",)):
                return made, f"one in {count} of the subjects of the training part, seed {seed}"
    return fold, "none, the training part has too few subjects"


def _absent(items: Items, parts: list[str], wanted: tuple[str, ...]) -> list[str]:
    """The classes that are not in some parts; for numbers [''] if these are empty."""
    there = {label for label, part in zip(items.labels, parts, strict=True) if part in wanted}
    return sorted(set(items.classes) - there) if items.kind == "class" else [""] * (not there)


def _check_classes(items: Items, parts: list[str], name: str) -> None:
    if absent := _absent(items, parts, ("train", "dev")):
        what = f"the class {absent[0]}" if absent[0] else "the task"
        raise UserError(
            f"{items.source}: nothing is left to train {what} on in the fold {name}, because all its "
            "speakers are tested there; give another number of --folds, or another --seed, or merge the class"
        )


def _check_subjects(items: Items, folds: list[str], source: str) -> None:
    fold_of: dict[str, str] = {}
    for key, subject, fold in zip(items.keys, items.subjects, folds, strict=True):
        if fold_of.setdefault(subject, fold) != fold:
            raise UserError(
                f"{source}: the subject {subject} is in both {fold_of[subject]} and {fold} (there {key}); "
                "nobody may be on two sides of a division; correct the folds, or who is who"
            )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
