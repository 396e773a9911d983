"""The head that fine-tuning starts from: logistic or ridge regression on the embeddings of the frozen
encoder, solved, as the weights of a :class:`pydino.models.ClassifierHead`.

Axes: N utterances, D dimensions, K classes.
"""

from itertools import islice

import numpy as np

from pydino.train.supervision import balanced_loss

from .classifiers import logistic_regression, ridge_regression
from .folds import assign_folds
from .frozen import standardisation

_INNER_FOLDS = 3
_ABSENT = -20.0  # bias of a class without a training utterance


def solve_head(
    vectors: np.ndarray, targets: np.ndarray, speakers: np.ndarray, num_classes: int, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return the weights of the head: ``mean``, ``scale`` (D,), ``layers.weight`` (K, D), ``layers.bias``
    (K,).

    Classes: multinomial logistic regression with balanced class weights. Numbers: ridge regression. The
    strength of the regularisation is the one with the least cross-entropy, all classes alike, or squared
    error, of speakers that are held out of the training part: so the head's posteriors, and not only its
    decisions, are as good as they can be.

    Args:
        vectors: (N, D), of the training part alone.
        targets: (N,) int64 class numbers, or float64.
        speakers: (N,) ints.
        num_classes: K; 0 for numbers.
        seed: of the inner division.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    path = _class_path if num_classes else _number_path
    mean, scale = standardisation(vectors)
    chosen = _choose(vectors, targets, speakers, num_classes, path, seed)
    solutions = path((vectors - mean) * scale, targets, num_classes, seed)
    weight, bias = next(islice(solutions, chosen, None))
    return {"mean": mean, "scale": scale, "layers.weight": weight, "layers.bias": bias}


def _class_path(x: np.ndarray, y: np.ndarray, num_classes: int, seed: int):
    """Yield weights (K, D) and biases (K,) from strong to weak regularisation; classes may be absent."""
    present, numbers = np.unique(y, return_inverse=True)
    for found in logistic_regression(x, numbers, seed):
        weight, bias = np.zeros((num_classes, x.shape[1])), np.full(num_classes, _ABSENT)
        weight[present], bias[present] = found.weight, found.bias
        yield weight, bias


def _number_path(x: np.ndarray, y: np.ndarray, _: int, seed: int):
    """Yield weights (1, D) and biases (1,) from strong to weak regularisation."""
    for found in ridge_regression(x, y, seed):
        yield found.weight, found.bias


def _choose(vectors, targets, speakers, num_classes: int, path, seed: int) -> int:
    """Return the place on the path with the least loss on held-out speakers."""
    _, numbers = np.unique(speakers, return_inverse=True)
    count = int(numbers.max()) + 1
    if count < 2:
        return 1  # no inner cross-validation is possible: the second strongest
    strata = targets if num_classes else None
    folds = assign_folds(numbers, min(_INNER_FOLDS, count), strata, seed)
    outputs: list = []
    places = []
    for fold in np.unique(folds):
        train, test = folds != fold, folds == fold
        if num_classes and len(np.unique(targets[train])) < len(np.unique(targets)):
            return 1
        mean, scale = standardisation(vectors[train])
        held = (vectors[test] - mean) * scale
        solved = path((vectors[train] - mean) * scale, targets[train], num_classes, seed)
        outputs.append([held @ weight.T + bias for weight, bias in solved])
        places.append(np.flatnonzero(test))
    truth = targets[np.concatenate(places)]
    losses = [_loss(np.concatenate(step), truth, num_classes) for step in zip(*outputs, strict=True)]
    return int(np.argmin(losses))


def _loss(outputs: np.ndarray, truth: np.ndarray, num_classes: int) -> float:
    if not num_classes:
        return float(((outputs[:, 0] - truth) ** 2).mean())
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    return balanced_loss(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), truth)
