"""Speaker-disjoint folds for cross-validation."""

import numpy as np

from pydino.base import keyed_permutation, purpose

LEAVE_ONE_OUT_UP_TO = 10  # speakers; with more, this many folds


def default_fold_count(speakers: int) -> int:
    """Leave one speaker out for up to 10 speakers; 10 folds of whole speakers for more."""
    return min(speakers, LEAVE_ONE_OUT_UP_TO)


def assign_folds(
    speakers: np.ndarray, folds: int, strata: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """Assign whole speakers to folds, in a keyed order that depends on the seed alone.

    Args:
        speakers: (N,) ints from 0 to S - 1, the speaker of each utterance.
        folds: K, from 2 to S.
        strata: (N,) ints; folds are stratified by the most frequent value of each speaker.
            None for none.
        seed: of the order within a stratum.

    Returns:
        (N,) ints from 0 to K - 1, none unused.

    Raises:
        ValueError: K below 2 or above the number of speakers.
    """
    count = int(speakers.max()) + 1
    if not 2 <= folds <= count:
        raise ValueError(
            f"cannot divide {count} speakers into {folds} folds; the number of folds must be from 2 to the "
            "number of speakers"
        )
    shuffled = keyed_permutation(count, seed, purpose("folds"))
    if strata is not None:
        table = np.zeros((count, int(strata.max()) + 1), dtype=np.int64)
        np.add.at(table, (speakers, strata), 1)
        shuffled = shuffled[np.argsort(table.argmax(axis=1)[shuffled], kind="stable")]
    fold_of_speaker = np.empty(count, dtype=np.int64)
    fold_of_speaker[shuffled] = np.arange(count) % folds
    return fold_of_speaker[speakers]
