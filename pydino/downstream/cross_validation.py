"""Cross-validation of a classifier or a regression on embeddings, with folds that keep speakers apart.

Axes: N utterances, D dimensions. Labels are texts, as label maps hold them.
"""

import math
from dataclasses import dataclass

import numpy as np

from pydino.backend import percentile_interval
from pydino.base import UserError

from .folds import assign_folds
from .measures import bootstrap_classes, bootstrap_numbers, class_measures, speaker_confusions, speaker_sums
from .probe import predict_classes, predict_numbers


@dataclass(frozen=True)
class CrossValidation:
    """Predictions for utterances of folds that the predictor was not trained on.

    Attributes:
        fold_of: (N,) the fold of each utterance.
        predictions: N labels, as text.
        measures: (metric, value, unit, 95 % interval [low, high] by bootstrap over speakers, or None).
        about: the labels in words, for the log.
    """

    fold_of: np.ndarray
    predictions: list[str]
    measures: list[tuple]
    about: str


@dataclass(frozen=True)
class LabelledEmbeddings:
    """Embeddings with one label each.

    Attributes:
        keys: N utterances.
        vectors: (N, D) float32.
        labels: N texts.
        speakers: (N,) ints from 0, the speaker of each utterance.
        speaker_names: their names.
        source: the file of the labels, for messages.
    """

    keys: list[str]
    vectors: np.ndarray
    labels: list[str]
    speakers: np.ndarray
    speaker_names: np.ndarray
    source: str


def cross_validate_classes(
    data: LabelledEmbeddings, folds: int, resamples: int, seed: int
) -> CrossValidation:
    """Predict classes by logistic regression: unweighted average recall, F1 and accuracy, in percent.

    Raises:
        UserError: a single class, or a class that some fold cannot be trained for.
    """
    classes, labels = np.unique(data.labels, return_inverse=True)
    if len(classes) < 2:
        raise UserError(
            f"{data.source}: every utterance has the label {classes[0]}; a classifier needs two classes or "
            "more"
        )
    for number, name in enumerate(classes):
        speakers = np.unique(data.speakers[labels == number])
        if len(speakers) == 1:
            raise UserError(
                f"{data.source}: only the speaker {data.speaker_names[speakers[0]]} has the class {name}, so "
                "no other speaker can be used to train it; merge the class, or remove it from the labels"
            )
    fold_of = assign_folds(data.speakers, folds, labels, seed)
    for fold in range(folds):
        absent = np.setdiff1d(np.arange(len(classes)), labels[fold_of != fold])
        if len(absent):
            raise UserError(
                f"{data.source}: all speakers of the class {classes[absent[0]]} are in one of the folds, so "
                "nothing is left to train it on; give more --folds, or another --seed"
            )
    predicted = predict_classes(data.vectors, labels, data.speakers, fold_of, seed)
    confusions = speaker_confusions(labels, predicted, data.speakers, len(classes))
    resampled = bootstrap_classes(confusions, resamples, seed)
    measures = [
        (name, 100 * value, "percent", percentile_interval(100 * resampled[name]))
        for name, value in class_measures(confusions.sum(axis=0)).items()
    ]
    return CrossValidation(fold_of, list(classes[predicted]), measures, f"{len(classes)} classes")


def cross_validate_numbers(
    data: LabelledEmbeddings, folds: int, resamples: int, seed: int, unit: str
) -> CrossValidation:
    """Predict numbers by ridge regression: mean absolute error, in ``unit``.

    Raises:
        UserError: a label that is no finite number.
    """
    values = np.array([_number(text) for text in data.labels])
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise UserError(
            f"{data.source}: the label of {data.keys[bad[0]]} is '{data.labels[bad[0]]}', not a number; "
            "correct it, or use --kind class"
        )
    fold_of = assign_folds(data.speakers, folds, None, seed)
    predicted = predict_numbers(data.vectors, values, data.speakers, fold_of, seed)
    errors = np.abs(values - predicted)
    resampled = bootstrap_numbers(speaker_sums(values, predicted, data.speakers), resamples, seed)
    interval = percentile_interval(resampled["mae"])
    predictions = [f"{value:.4f}" for value in predicted]
    measures = [("mae", errors.mean(), unit, interval)]
    return CrossValidation(fold_of, predictions, measures, f"standard deviation {values.std():.2f}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
