"""Labels of the utterances of a pre-training directory, for the methods that read them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pydino.base import UserError
from pydino.kaldi import read_table

from .training_dir import read_hashes


@dataclass
class Labels:
    """Classes of utterances.

    Attributes:
        hashes: (N,) uint64, ascending: the utterances.
        classes: (N,) int64, numbers from 0.
        names: of the classes, by number.
    """

    hashes: np.ndarray
    classes: np.ndarray
    names: list[str]

    @property
    def num_classes(self) -> int:
        return len(self.names)

    def of(self, hashes: np.ndarray) -> np.ndarray:
        """Return the classes (B,) of utterances (B,)."""
        return self.classes[np.searchsorted(self.hashes, hashes)]


def read_labels(data: Path, paths: list) -> Labels:
    """Return the labels of a pre-training directory's utterances.

    Labels are numbered in the order of the smallest hash among their utterances: the names of labels and
    utterances have no influence.

    Args:
        data: the pre-training directory.
        paths: files of lines 'utterance label'; together they label each utterance; others are ignored.

    Raises:
        UserError: an utterance without a label or with several, or only one label in all.
    """
    if not (data / "utt2hash").exists():
        raise UserError(
            f"no {data}/utt2hash: not a pre-training directory; steps/make_train_set.sh makes one"
        )
    hashes, keys = read_hashes(data)
    table: dict[str, str] = {}
    for path in paths:
        for key, label in read_table(path).items():
            if table.setdefault(key, label) != label:
                raise UserError(
                    f"{path} calls {key} '{label}', and another of {' '.join(map(str, paths))} "
                    f"'{table[key]}'; which is it?"
                )
    path = " ".join(map(str, paths))
    without = [key for key in keys if not table.get(key)]
    if without:
        raise UserError(
            f"{path} has no label for {len(without)} of the {len(keys)} utterances of {data}, such as "
            f"'{min(without)}'; give the labels of all of them, or make {data} of those that have one "
            "(utils/subset_data_dir.sh, then steps/make_train_set.sh)"
        )
    numbers: dict[str, int] = {}
    classes = np.array([numbers.setdefault(table[key], len(numbers)) for key in keys], dtype=np.int64)
    if len(numbers) == 1:
        raise UserError(
            f"{path} gives all utterances of {data} one label, '{table[keys[0]]}'; there is nothing to tell "
            "apart"
        )
    return Labels(hashes, classes, list(numbers))
