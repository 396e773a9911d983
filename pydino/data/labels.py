"""Labels of the utterances of a pre-training directory, or clusters in their place, for the methods that read
them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pydino.base import UTT2CLUSTER, UserError
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

    def of_at_least(self, utterances: int) -> "Labels":
        """Return those of classes with so many utterances or more, numbered in the same order."""
        kept = np.bincount(self.classes, minlength=self.num_classes) >= utterances
        rows = kept[self.classes]
        numbers = np.cumsum(kept) - 1
        names = [name for name, is_kept in zip(self.names, kept, strict=True) if is_kept]
        return Labels(self.hashes[rows], numbers[self.classes[rows]], names)


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
    table: dict[str, str] = {}
    for path in paths:
        for key, label in read_table(path).items():
            if table.setdefault(key, label) != label:
                raise UserError(
                    f"{path} calls {key} '{label}', and another of {' '.join(map(str, paths))} "
                    f"'{table[key]}'; which is it?"
                )
    path = " ".join(map(str, paths))
    remedy = (
        f"give the labels of all of them, or make {data} of those that have one "
        "(utils/subset_data_dir.sh, then steps/make_train_set.sh)"
    )
    return _numbered(data, table, path, "label", remedy)


def read_clusters(data: Path, folder: Path) -> Labels:
    """Return the clusters of a pre-training directory's utterances as labels, numbered as those are.

    Args:
        data: the pre-training directory.
        folder: made by steps/cluster.sh, with ``utt2cluster``; utterances that are not in ``data`` are
            ignored.

    Raises:
        UserError: an utterance without a cluster, or only one cluster in all.
    """
    path = Path(folder, UTT2CLUSTER)
    return _numbered(
        data,
        read_table(path),
        str(path),
        "cluster",
        "cluster the embeddings of all of them (steps/cluster.sh)",
    )


def _numbered(data: Path, table: dict[str, str], path: str, noun: str, remedy: str) -> Labels:
    """Return what ``table`` calls each utterance, numbered in the order of the smallest hash."""
    if not (data / "utt2hash").exists():
        raise UserError(
            f"no {data}/utt2hash: not a pre-training directory; steps/make_train_set.sh makes one"
        )
    hashes, keys = read_hashes(data)
    without = [key for key in keys if not table.get(key)]
    if without:
        raise UserError(
            f"{path} has no {noun} for {len(without)} of the {len(keys)} utterances of {data}, such as "
            f"'{min(without)}'; {remedy}"
        )
    numbers: dict[str, int] = {}
    classes = np.array([numbers.setdefault(table[key], len(numbers)) for key in keys], dtype=np.int64)
    if len(numbers) == 1:
        raise UserError(
            f"{path} gives all utterances of {data} one {noun}, '{table[keys[0]]}'; there is nothing to tell "
            "apart"
        )
    return Labels(hashes, classes, list(numbers))
