"""Classifiers on frozen embeddings over the folds of a task.

Each fold is predicted by a classifier of its training and development parts. Vectors are standardised with
their mean and standard deviation, and the strength of the regularisation is chosen by cross-validation inside
them, by subject there too; the temperature of the posteriors is that of the predictions for subjects held out
there. The test part is never used.

Axes: N utterances, D dimensions, K outputs.
"""

from dataclasses import dataclass
from itertools import islice

import numpy as np

from pydino.backend import class_measures, fit_temperature, speaker_confusions
from pydino.base import UserError

from .classifiers import PATHS
from .folds import assign_folds
from .scorers import Scorer
from .task_dir import TaskDir

CLASSIFIERS = ("logreg", "svm", "plda", "mlp", "ridge")
_INNER_FOLDS = 3


@dataclass(frozen=True)
class FrozenClassifier:
    """A trained classifier, or a regression.

    Attributes:
        mean, scale: (D,) of the standardisation, (x - mean) * scale.
        scorer: standardised vectors to logits or numbers.
        temperature: of the posteriors; None for numbers.
        held_out: the number of utterances that it was fitted on; 0: it is 1 by default.
    """

    mean: np.ndarray
    scale: np.ndarray
    scorer: Scorer
    temperature: float | None
    held_out: int

    def outputs(self, vectors: np.ndarray) -> np.ndarray:
        """(N, D) -> (N, K) log-posteriors, or (N, 1) numbers."""
        scores = self.scorer((np.asarray(vectors, dtype=np.float64) - self.mean) * self.scale)
        return scores if self.temperature is None else _log_softmax(scores / self.temperature)


def fit_frozen(
    classifier: str,
    vectors: np.ndarray,
    targets: np.ndarray,
    subjects: np.ndarray,
    dev: np.ndarray | None = None,
    seed: int = 0,
) -> FrozenClassifier:
    """Train one of ``CLASSIFIERS``.

    Args:
        classifier: its name; ridge is the one for numbers.
        vectors: (N, D); targets: (N,) ints from 0 to K - 1, all present, or floats.
        subjects: (N,) ints, the subject of each utterance.
        dev: (N,) bools, the development part: the perceptron stops by it. None or without one:
            a third of the subjects.
        seed: of the folds inside the training part, and of what draws at random.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    strata = None if classifier == "ridge" else targets
    folds = _inner_folds(subjects, strata, seed)
    if classifier == "mlp":
        return _perceptron(vectors, targets, dev, folds, seed)
    path = PATHS[classifier]
    chosen, held_out = _choose(vectors, targets, path, folds, strata is not None, seed)
    mean, scale = standardisation(vectors)
    steps = list(islice(path((vectors - mean) * scale, targets, seed), chosen + 1))
    if strata is None:
        return FrozenClassifier(mean, scale, steps[-1], None, 0)
    if held_out is None:
        return FrozenClassifier(mean, scale, steps[-1], 1.0, 0)
    scores, truth = held_out
    temperature = fit_temperature(scores, truth, balance(truth, int(targets.max()) + 1))
    return FrozenClassifier(mean, scale, steps[-1], temperature, len(truth))


def cross_predict(
    task: TaskDir, classifier: str, vectors: dict[str, np.ndarray], seed: int = 0
) -> dict[str, np.ndarray]:
    """Return test utterance -> log-posteriors (K,) or a number (1,), of all folds.

    Args:
        task: the task folder.
        classifier: one of ``CLASSIFIERS``.
        vectors: utterance -> (D,). Utterances without a vector take no part.
        seed: see :func:`fit_frozen`.
    """
    outputs = {}
    for fold in task.config.folds:
        tested = [name for name in task.part(fold, "test") if name in vectors]
        if tested:
            fitted = fit_fold(task, fold, classifier, vectors, seed)
            found = fitted.outputs(np.stack([vectors[name] for name in tested]))
            outputs.update(zip(tested, found, strict=True))
    return outputs


def fit_fold(
    task: TaskDir, fold: str, classifier: str, vectors: dict[str, np.ndarray], seed: int = 0
) -> FrozenClassifier:
    """Train on the training and development parts of a fold; arguments as :func:`cross_predict`.

    Raises:
        UserError: a class has no utterance with a vector there.
    """
    dev_part = set(task.part(fold, "dev"))
    names = sorted({*task.part(fold, "train"), *dev_part}, key=lambda name: name.encode())
    names = [name for name in names if name in vectors]
    present = {task.labels[name] for name in names}
    lost = sorted(set(task.config.classes) - present) if task.config.kind == "class" else []
    if lost or not names:
        what = f"the class {lost[0]}" if lost else "the task"
        raise UserError(
            f"{task.path}/fold.{fold}: no utterance to train {what} on has an embedding; extract them, or "
            "divide otherwise (--folds, --seed of steps/make_task.sh)"
        )
    _, subjects = np.unique([task.speakers[name] for name in names], return_inverse=True)
    return fit_frozen(
        classifier,
        np.stack([vectors[name] for name in names]),
        task.targets_of(names),
        subjects,
        np.array([name in dev_part for name in names]),
        seed,
    )


def _perceptron(vectors, targets, dev, folds, seed) -> FrozenClassifier:
    from .perceptron import train_perceptron  # torch, which the other classifiers do without

    if dev is None or not dev.any():
        dev = np.zeros(len(targets), dtype=bool) if folds is None else folds == 0
    held = dev if dev.any() else ~dev  # a single subject: nothing can be held out
    train = ~dev
    mean, scale = standardisation(vectors[train])
    x = (vectors - mean) * scale
    scorer = train_perceptron(x[train], targets[train], x[held], targets[held], seed)
    if not dev.any():
        return FrozenClassifier(mean, scale, scorer, 1.0, 0)
    weights = balance(targets[dev], int(targets.max()) + 1)
    temperature = fit_temperature(scorer(x[dev]), targets[dev], weights)
    return FrozenClassifier(mean, scale, scorer, temperature, int(dev.sum()))


def _inner_folds(subjects, strata, seed) -> np.ndarray | None:
    """Folds of the subjects of the training part; None where they cannot be divided so that each class can be
    trained.
    """
    _, numbers = np.unique(subjects, return_inverse=True)
    if numbers.max() == 0:
        return None
    folds = assign_folds(numbers, min(_INNER_FOLDS, int(numbers.max()) + 1), strata, seed)
    return folds if strata is None or _all_classes_everywhere(strata, folds) else None


def _choose(vectors, targets, path, folds, are_classes, seed):
    """The index on the path that predicts held-out subjects best, the strongest regularisation on a tie; and
    the scores there with their targets, or None.
    """
    if folds is None:
        return 1, None  # no inner cross-validation is possible: default to the second strongest
    places, of_fold = [], []
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        mean, scale = standardisation(vectors[train])
        train_x, test_x = (vectors[train] - mean) * scale, (vectors[test] - mean) * scale
        places.append(np.flatnonzero(test))
        of_fold.append([scorer(test_x) for scorer in path(train_x, targets[train], seed)])
    truth = targets[np.concatenate(places)]
    of_step = [np.concatenate(scores) for scores in zip(*of_fold, strict=False)]
    goodness = _recall if are_classes else _closeness
    chosen = int(np.argmax([goodness(truth, scores) for scores in of_step]))
    return chosen, (of_step[chosen], truth)


def _recall(truth, scores) -> float:
    """Unweighted average recall."""
    alone = np.zeros_like(truth)
    confusion = speaker_confusions(truth, scores.argmax(axis=1), alone, scores.shape[1])[0]
    return float(class_measures(confusion)["uar"])


def _closeness(truth, scores) -> float:
    return float(-np.abs(truth - scores[:, 0]).mean())


def balance(targets, classes) -> np.ndarray:
    """Return weights (N,) of utterances with which every class weighs the same."""
    return 1.0 / np.bincount(targets, minlength=classes)[targets]


def _all_classes_everywhere(labels: np.ndarray, folds: np.ndarray) -> bool:
    """Whether the training part of every inner fold has every class."""
    return all(len(np.unique(labels[folds != fold])) == len(np.unique(labels)) for fold in np.unique(folds))


def standardisation(train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and scale (D,) that give (N, D) zero mean and unit variance; of a dimension that is
    constant the scale is 0.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    constant = deviation <= 1e-6 * np.abs(mean)  # up to the rounding of float32
    return mean, np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation))


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    top = scores - scores.max(axis=1, keepdims=True)
    return top - np.log(np.exp(top).sum(axis=1, keepdims=True))
