"""Leak controls: does something that is no evidence for a label predict it as well? A control is a table of
vectors, one an utterance, that goes through the folds and the classifier of the task.

A control that beats chance makes the results of the task suspect. For classes it does if all hold:

    UAR >= h / n, the smallest fraction of hits that is significant at one-sided 5 % for n independent draws
    the lower end of the 95 % interval of UAR, by bootstrap over speakers, is above 1 / K
    none of 19 classifications of the same vectors with permuted labels has this UAR

where n follows from the draws of each class (:func:`pydino.backend.independent_draws`): subjects, if each has
one label, since the units of one subject are then not independent; otherwise units. The third is what makes
it a test at 5 %: classifiers of different folds share training utterances, so that the UAR of chance varies
more than that of n draws (Varoquaux 2018, NeuroImage 180: cross-validation failure). It is left out, as it
takes 19 times as long as the control, where the whole interval is above h / n. For numbers a control beats
chance if the 95 % interval of the difference |y - prediction| - |y - mean of y|, by bootstrap over speakers,
is below 0, and none of 19 permutations has as small an error.

Utterances without a vector are represented by the mean of the training part, so that what the lack of one
tells is found, too; or they are left out, where the lack is due to something that is no leak. A control is
not measured where fewer than half of the units have an utterance with a vector: the figure would be about the
others.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from pydino.backend import draw_counts, independent_draws, percentile_interval, smallest_significant
from pydino.base import UserError, keyed_permutation, log, purpose, utterance_hash

from .evaluation import Evaluation, evaluate
from .frozen import cross_predict
from .task_dir import TaskDir

Vectors = dict[str, np.ndarray]

ENOUGH_UNITS = 0.5  # share of the units that have a vector, below which a control is not measured
_PERMUTATIONS = 19  # none of which may reach the figure: 1 / (19 + 1) = 5 %
_MAX_CATEGORIES = 30  # of a metadata table


@dataclass(frozen=True)
class Control:
    """What is classified.

    Attributes:
        name: silence, pauses, channel, interviewer, metadata, duration.
        kind: of the vectors: statistics, embedding, tables, timing.
        vectors: utterance -> vector.
        suspicious: whether a value above chance makes the results of the task suspect.
        note: how the vectors were made, in words.
        left_out: whether utterances without a vector take no part, in training and test; otherwise they get
            the mean of the training part.
    """

    name: str
    kind: str
    vectors: Vectors
    suspicious: bool
    note: str = ""
    left_out: bool = False


def classifier_of(task: TaskDir) -> str:
    """The classifier of the controls: logistic regression, or for numbers ridge regression."""
    return "logreg" if task.config.kind == "class" else "ridge"


def outputs_of(task: TaskDir, vectors: Vectors, seed: int, left_out: bool = False) -> dict[str, np.ndarray]:
    """Return the outputs of :func:`classifier_of` for the test utterances of all folds, trained as on frozen
    embeddings (:func:`pydino.downstream.cross_predict`).

    Args:
        vectors: utterance -> vector. Others are represented by the mean of those in the training and
            development part of the fold.
        seed: of the inner folds.
        left_out: others take no part instead.

    Raises:
        UserError: no utterance of a training part, or of a class in it, has a vector.
    """
    if left_out:
        return cross_predict(task, classifier_of(task), vectors, seed)
    found: dict[str, np.ndarray] = {}
    for fold in task.config.folds:
        trained_on = task.part(fold, "train") + task.part(fold, "dev")
        known = [vectors[key] for key in trained_on if key in vectors]
        if not known:
            raise UserError(f"{task.path}, fold {fold}: no training utterance has a vector for this control")
        mean = np.mean(known, axis=0)
        complete = {key: vectors.get(key, mean) for key in (*trained_on, *task.part(fold, "test"))}
        one = replace(task, config=replace(task.config, folds=[fold]))
        found |= cross_predict(one, classifier_of(task), complete, seed)
    return found


def share_of_units(task: TaskDir, vectors: Vectors) -> float:
    """Return the share of the units of the test parts that have an utterance with a vector."""
    units = {task.units[key] for key in task.tested}
    return len({task.units[key] for key in task.tested if key in vectors}) / max(1, len(units))


def why_not_measured(task: TaskDir, control: Control) -> str:
    """Return why a control cannot be measured, or an empty string."""
    share = share_of_units(task, control.vectors)
    if share < ENOUGH_UNITS:
        return f"{100 * share:.0f} % of the units have a vector"
    there = control.vectors if control.left_out else None
    if lacking := [fold for fold in task.config.folds if not _is_trainable(task, fold, there)]:
        return f"in the fold {lacking[0]} a class has no utterance with a vector to train on"
    return ""


def verdict(task: TaskDir, control: Control, done: Evaluation, resamples: int, seed: int) -> dict:
    """Return the entry of ``controls.json`` about a control that was measured."""
    judge = _of_classes if task.config.kind == "class" else _of_numbers
    found = judge(task, done, resamples, seed)
    if found["beats_chance"]:
        interval = found["interval"] if task.config.kind == "class" else None
        surely = interval is not None and interval[0] > found["chance_bound"]
        found["beats_chance"] = surely or not _is_reached_by_chance(task, control, found["value"], seed)
    return _entry(task, control, found, len(done.predictions), done.speakers)


def not_measured(task: TaskDir, control: Control, why: str) -> dict:
    """Return the entry of ``controls.json`` about a control that is not measured, and why not."""
    keys = ("value", "interval", "chance", "chance_bound", "independent_draws")
    classes = task.config.kind == "class"
    found = {
        "metric": "uar" if classes else "mae",
        "unit": "percent" if classes else task.config.unit,
        "beats_chance": False,
        **dict.fromkeys(keys),
    }
    note = "; ".join(filter(None, [f"not measured: {why}", control.note]))
    return _entry(task, replace(control, note=note), found, 0, 0)


def _entry(task: TaskDir, control: Control, found: dict, units: int, subjects: int) -> dict:
    return {
        "task": task.config.name,
        "control": control.name,
        "vectors": control.kind,
        **found,
        "n": units,
        "subjects": subjects,
        "suspicious_if_above_chance": control.suspicious,
        "note": control.note,
    }


def _of_classes(task: TaskDir, done: Evaluation, resamples: int, seed: int) -> dict:
    value, interval = next((value, ci) for name, value, _, ci in done.measures if name == "uar")
    classes = len({label for *_, label, _ in done.predictions})
    chance, draws = 100 / classes, independent_draws(_draws(done.predictions))
    bound = 100 * smallest_significant(draws, classes)
    # up to the rounding of an average of recalls
    beats = value >= bound - 1e-9 and (interval is None or interval[0] > chance)
    return {
        "metric": "uar",
        "value": round(float(value), 6),
        "unit": "percent",
        "interval": _rounded(interval),
        "chance": round(chance, 6),
        "chance_bound": round(bound, 6) if math.isfinite(bound) else None,
        "independent_draws": draws,
        "beats_chance": bool(beats),
    }


def _draws(predictions: list[tuple[str, str, str, str, str]]) -> np.ndarray:
    """Count the independent draws of each class: subjects if each has one label, else units."""
    of_subjects = {(speaker, label) for _, speaker, _, label, _ in predictions}
    one_label = len(of_subjects) == len({speaker for speaker, _ in of_subjects})
    labels = [label for _, label in of_subjects] if one_label else [label for *_, label, _ in predictions]
    return np.unique(labels, return_counts=True)[1]


def _of_numbers(task: TaskDir, done: Evaluation, resamples: int, seed: int) -> dict:
    value, interval = next((value, ci) for name, value, _, ci in done.measures if name == "mae")
    truth = np.array([float(label) for *_, label, _ in done.predictions])
    guesses = np.array([float(guess) for *_, guess in done.predictions])
    _, speakers = np.unique([speaker for _, speaker, *_ in done.predictions], return_inverse=True)
    difference = np.abs(truth - guesses) - np.abs(truth - truth.mean())
    counts = draw_counts(int(speakers.max()) + 1, resamples, seed)
    means = (counts @ np.bincount(speakers, weights=difference)) / (counts @ np.bincount(speakers))
    gain = percentile_interval(means)
    chance = round(done.chance["mae"], 6)
    return {
        "metric": "mae",
        "value": round(float(value), 6),
        "unit": task.config.unit,
        "interval": _rounded(interval),
        "chance": chance,
        "chance_bound": chance,
        "independent_draws": done.speakers,
        "beats_chance": gain is not None and gain[1] < 0,
    }


def _rounded(interval) -> list[float] | None:
    return None if interval is None else [round(float(x), 6) for x in interval]


def permutation_band(
    task: TaskDir, vectors: Vectors, draws: int, seed: int
) -> tuple[float, list[float] | None]:
    """Return mean and 2.5 to 97.5 % band of the task's metric (UAR in percent, or MAE) over classifiers that
    were trained and tested on permuted labels: the values that chance has with these vectors and folds.

    Raises:
        UserError: in no permutation does every training part have every class.
    """
    values = np.array(list(islice(_permuted_values(task, vectors, seed, 10 * draws, False), draws)))
    if not len(values):
        raise UserError(
            f"{task.path}: some class is so rare that no permutation of the labels leaves it in every "
            "training part; leave out the control 'permutation', or merge classes"
        )
    return float(values.mean()), percentile_interval(values)


def _is_reached_by_chance(task: TaskDir, control: Control, value: float, seed: int) -> bool:
    """Whether a classification of permuted labels has this UAR, or as small an error."""
    sign = 1 if task.config.kind == "class" else -1
    values = _permuted_values(task, control.vectors, seed, 10 * _PERMUTATIONS, control.left_out)
    permuted = islice(values, _PERMUTATIONS)
    return any(sign * (other - value) >= -1e-6 for other in permuted)  # entries are rounded


def _permuted_values(
    task: TaskDir, vectors: Vectors, seed: int, most: int, left_out: bool
) -> Iterator[float]:
    """Yield UAR in percent, or MAE, of classifiers that are trained and tested on permuted labels, of those
    of the first ``most`` permutations that leave every class in every training part.
    """
    metric = "uar" if task.config.kind == "class" else "mae"
    for draw in range(most):
        permuted = permute_labels(task, draw, seed)
        there = vectors if left_out else None
        if all(_is_trainable(permuted, fold, there) for fold in task.config.folds):
            done = evaluate(permuted, outputs_of(permuted, vectors, seed, left_out), resamples=0)
            yield next(value for name, value, *_ in done.measures if name == metric)


def permute_labels(task: TaskDir, draw: int, seed: int) -> TaskDir:
    """Return the task with its labels permuted, in an order keyed by ``draw`` and ``seed``: among subjects if
    each has one label; otherwise among the units of each subject, which keeps what is due to the subject.
    """
    labels_of: dict[str, set[str]] = {}
    for key, label in task.labels.items():
        labels_of.setdefault(task.speakers[key], set()).add(label)

    def shuffled(label_of: dict[str, str]) -> dict[str, str]:
        names = list(label_of)
        hashes = np.array([utterance_hash(name) for name in names], dtype=np.uint64)
        order = keyed_permutation(hashes, seed, purpose("permuted labels"), draw)
        return dict(zip(names, (label_of[names[place]] for place in order), strict=True))

    if all(len(labels) == 1 for labels in labels_of.values()):
        of_subject = shuffled({subject: next(iter(labels)) for subject, labels in labels_of.items()})
        return replace(task, labels={key: of_subject[task.speakers[key]] for key in task.labels})
    units: dict[str, dict[str, str]] = {}
    for key, label in task.labels.items():
        units.setdefault(task.speakers[key], {})[task.units[key]] = label
    of_unit = {unit: label for own in units.values() for unit, label in shuffled(own).items()}
    return replace(task, labels={key: of_unit[task.units[key]] for key in task.labels})


def _is_trainable(task: TaskDir, fold: str, there: Vectors | None) -> bool:
    """Whether every class has an utterance to train on, of those that are ``there`` (None: all)."""
    trained_on = task.part(fold, "train") + task.part(fold, "dev")
    trained_on = [key for key in trained_on if there is None or key in there]
    if task.config.kind == "number":
        return bool(trained_on)
    return {task.labels[key] for key in trained_on} == set(task.config.classes)


def metadata_vectors(tables: dict[str, dict[str, str]], keys: list[str]) -> Vectors:
    """Return metadata as vectors: a number for a table of numbers; for one of categories, one column a
    category (1 or 0).

    Args:
        tables: name -> utterance -> value.
        keys: utterances; those that lack one of the tables' values are absent.

    Raises:
        UserError: a table has none of them, or more than 30 categories.
    """
    columns = []
    for name, table in tables.items():
        values = [table[key] for key in keys if key in table]
        if not values:
            raise UserError(f"{name}: none of the task's {len(keys)} utterances is in it")
        if all(_is_number(value) for value in values):
            columns.append({key: [float(table[key])] for key in keys if key in table})
            continue
        categories = sorted(set(values))
        if len(categories) > _MAX_CATEGORIES:
            raise UserError(
                f"{name}: {len(categories)} different values, such as {categories[0]}: neither numbers "
                f"nor at most {_MAX_CATEGORIES} categories; leave it out of the metadata"
            )
        columns.append({k: [float(table[k] == one) for one in categories] for k in keys if k in table})
    complete = [key for key in keys if all(key in column for column in columns)]
    if len(complete) < len(keys):
        log(f"metadata: {len(keys) - len(complete)} of {len(keys)} utterances lack a value and get the mean")
    return {key: np.concatenate([column[key] for column in columns]) for key in complete}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
