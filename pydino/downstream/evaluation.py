"""From the outputs of a classifier or a regression for the test utterances of a task to its measures: every
back-end, frozen or tuned, is evaluated here.

What is counted once is the task's unit: the utterance, the recording or the subject. The log-posteriors of
its utterances are averaged, and the class is that of the largest mean (the geometric mean of the posteriors;
normalising it would not change the order); numbers are averaged.
Axes: N utterances, U units, K classes.
"""

from dataclasses import dataclass

import numpy as np

from pydino.backend import (
    bootstrap_classes,
    bootstrap_numbers,
    calibration_error,
    class_measures,
    group_means,
    number_measures,
    percentile_interval,
    speaker_confusions,
    speaker_sums,
)
from pydino.base import UserError

from .task_dir import TaskDir

_UNITS_OF_BIN = 10  # at least, of the calibration error


@dataclass(frozen=True)
class Evaluation:
    """The measures of one back-end on one task.

    Attributes:
        measures: (metric, value, unit, 95 % interval [low, high] by bootstrap over speakers, or None), of all
            units together. Metrics of classes are in percent, but for the expected calibration error of the
            units' posteriors, 0 to 1 (:func:`pydino.backend.calibration_error`; bins of ten units or more, at
            most 15), which has no interval.
        predictions: unit, speaker, fold, label and prediction, one a unit, sorted by unit.
        confusion: (K, K) counts of units, truth along rows; None for numbers.
        chance: metric -> its value if the most frequent class (the mean of the numbers) were always answered.
        mean_of_folds: metric -> the mean of its values in each of the folds. Neither has the calibration
            error, which the answers alone do not determine, and a fold is too small for.
        speakers: the number of speakers or subjects of the units.
        about: the labels in words, for the log.
    """

    measures: list[tuple]
    predictions: list[tuple[str, str, str, str, str]]
    confusion: np.ndarray | None
    chance: dict[str, float]
    mean_of_folds: dict[str, float]
    speakers: int
    about: str


def evaluate(
    task: TaskDir,
    outputs: dict[str, np.ndarray],
    resamples: int = 1000,
    seed: int = 0,
    only: set[str] | None = None,
) -> Evaluation:
    """Measure the outputs for the test utterances of all folds, pooled.

    Args:
        task: labels, speakers, units and folds.
        outputs: test utterance -> log-posteriors (K,) in the order of the task's classes, or a number (1,).
            Test utterances without an output are not measured.
        resamples: of the bootstrap over whole speakers, 0 for no intervals.
        seed: of the bootstrap.
        only: the utterances to measure, such as those of one test set; None: all.

    Raises:
        UserError: no test utterance has an output, or the utterances of a unit do not agree in their label,
            speaker or fold.
    """
    fold_of = {name: fold for fold in task.config.folds for name in task.part(fold, "test")}
    tested = [name for name in fold_of if name in outputs and (only is None or name in only)]
    if not tested:
        raise UserError(f"{task.path}: none of its {len(fold_of)} test utterances is there to be measured")
    units, first, unit_of = np.unique(
        [task.units[name] for name in tested], return_index=True, return_inverse=True
    )
    stacked = np.stack([np.asarray(outputs[name], dtype=np.float64).reshape(-1) for name in tested])
    _check_outputs(task, tested, stacked)
    labels, speakers, folds = (
        _common(task, what, [table[name] for name in tested], units, first, unit_of)
        for what, table in (("label", task.labels), ("speaker", task.speakers), ("fold", fold_of))
    )
    averages, _ = group_means(stacked, unit_of, len(units))
    truth = task.targets_of([tested[place] for place in first])
    names, speaker_of = np.unique(speakers, return_inverse=True)
    measuring = _classes if task.config.kind == "class" else _numbers
    measures, predicted, chance, of_fold, confusion, about = measuring(
        task.config, truth, averages, speaker_of, resamples, seed
    )
    in_folds = [of_fold(np.array(folds) == fold) for fold in dict.fromkeys(folds)]
    return Evaluation(
        measures,
        list(zip(map(str, units), speakers, folds, labels, predicted, strict=True)),
        confusion,
        chance,
        {metric: float(np.mean([fold[metric] for fold in in_folds])) for metric in in_folds[0]},
        len(names),
        about,
    )


def _classes(config, truth, averages, speakers, resamples, seed):
    guesses, count = averages.argmax(axis=1), len(config.classes)
    confusions = speaker_confusions(truth, guesses, speakers, count)
    resampled = bootstrap_classes(confusions, resamples, seed) if resamples else {}

    def percent(truth, guesses):
        confusion = speaker_confusions(truth, guesses, np.zeros_like(truth), count)[0]
        return {name: float(100 * value) for name, value in class_measures(confusion).items()}

    measures = [
        (name, value, "percent", percentile_interval(100 * resampled[name]) if resampled else None)
        for name, value in percent(truth, guesses).items()
    ]
    bins = int(np.clip(len(truth) // _UNITS_OF_BIN, 1, 15))
    measures.append(("calibration_error", calibration_error(averages, truth, bins), "", None))
    majority = np.full_like(truth, np.bincount(truth, minlength=count).argmax())
    return (
        measures,
        [config.classes[guess] for guess in guesses],
        percent(truth, majority),
        lambda chosen: percent(truth[chosen], guesses[chosen]),
        confusions.sum(axis=0),
        f"{count} classes",
    )


def _numbers(config, truth, averages, speakers, resamples, seed):
    guesses = averages[:, 0]
    sums = speaker_sums(truth, guesses, speakers)
    resampled = bootstrap_numbers(sums, resamples, seed) if resamples else {}

    def measured(truth, guesses):
        together = speaker_sums(truth, guesses, np.zeros(len(truth), dtype=np.int64))[0]
        return {name: float(value) for name, value in number_measures(together).items()}

    units = {"mae": config.unit, "rmse": config.unit, "pearson": ""}
    measures = [
        (name, value, units[name], percentile_interval(resampled[name]) if resampled else None)
        for name, value in measured(truth, guesses).items()
    ]
    return (
        measures,
        [f"{guess:.4f}" for guess in guesses],
        measured(truth, np.full_like(truth, truth.mean())),
        lambda chosen: measured(truth[chosen], guesses[chosen]),
        None,
        f"standard deviation {truth.std():.2f}",
    )


def _check_outputs(task, tested, stacked) -> None:
    wanted = len(task.config.classes) if task.config.kind == "class" else 1
    if stacked.shape[1] != wanted:
        raise UserError(f"{task.path}: outputs have {stacked.shape[1]} columns; the task has {wanted}")
    if len(bad := np.flatnonzero(np.isnan(stacked).any(axis=1))):
        raise UserError(f"{task.path}: the output for {tested[bad[0]]} is not a number ({len(bad)} such)")


def _common(task, what, values, units, first, unit_of) -> list[str]:
    """The value that all utterances of each unit have."""
    common = [values[place] for place in first]
    for number, value in zip(unit_of, values, strict=True):
        if value != common[number]:
            raise UserError(
                f"{task.path}: the utterances of {units[number]} have the {what}s {common[number]} and "
                f"{value}; what is counted once ({task.config.average_over}) has one {what}"
            )
    return common
