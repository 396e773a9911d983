"""Labels that follow the network: each utterance has a queue of the last answers about it, and its label is
their mode.

SSRL (arXiv 2401.01473) keeps five answers of the teacher, the first two of which are the label of the
utterance's cluster. One deviating answer so changes nothing; a label changes once most of the answers agree
on another. Where a label and another answer are equally frequent, the label stays (the paper leaves ties
open).

NumPy on the host: this runs once an epoch.
"""

import numpy as np

NONE = -1  # in place of a label or an answer that is not there


def new_queue(labels: np.ndarray, length: int, copies: int) -> np.ndarray:
    """Return queues (N, length) int64, the newest answer last, that start with ``copies`` times the label of
    each utterance; NONE before.

    Args:
        labels: (N,) int64; NONE where an utterance has none.
        length: answers that are kept.
        copies: of the label, at most ``length``.
    """
    queue = np.full((len(labels), length), NONE, dtype=np.int64)
    queue[:, length - copies :] = labels[:, None]
    return queue


def push(queue: np.ndarray, places: np.ndarray, answers: np.ndarray) -> None:
    """Put answers into the queues, in place; each drives out the oldest of its queue.

    Args:
        queue: (N, L) of :func:`new_queue`.
        places: (M,) utterances, as row numbers, in the order in which they were answered about; an utterance
            may come several times.
        answers: (M,) int64.
    """
    order = np.argsort(places, kind="stable")
    places, answers = places[order], answers[order]
    first = np.searchsorted(places, places)  # where the answers about the same utterance begin
    occurrence = np.arange(len(places)) - first
    for number in range(occurrence.max(initial=-1) + 1):
        here = occurrence == number
        rows = queue[places[here]]
        queue[places[here]] = np.concatenate([rows[:, 1:], answers[here, None]], axis=1)


def mode_of_queue(queue: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the most frequent answer of each queue, (N,) int64.

    Of equally frequent answers the present label wins, and where it is not among them the most recent.

    Args:
        queue: (N, L).
        labels: (N,) the present labels; of an utterance whose queue is empty it is returned as it is.
    """
    length = queue.shape[1]
    counts = np.zeros(queue.shape, dtype=np.int64)
    for column in range(length):
        counts += queue == queue[:, column : column + 1]
    counts[queue == NONE] = 0
    merit = (2 * counts + (queue == labels[:, None])) * length + np.arange(length)
    best = np.take_along_axis(queue, merit.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(best == NONE, labels, best)
