"""Trials between crops of one utterance (steps/extract_crops.sh), and between utterances, drawn without a
label.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pydino.base import (
    UTT2CLUSTER,
    UserError,
    cluster_files,
    plural,
    read_yaml,
    split_fields,
    utterance_hash,
    warn,
)
from pydino.cli._backend_labels import labels_of_table
from pydino.kaldi import read_table


@dataclass(frozen=True)
class Crops:
    """The crops of a folder, its utterances, and pairs of them.

    Attributes:
        keys: (C + U,) names of crops, in the order of ``crop2utt``, then of the utterances.
        utterances: (C,) ints, the utterance of each crop.
        numbers: (C,) ints, which crop of its utterance each is.
        hashes: (U,) uint64 of the utterances.
        clusters: (U,) ints, or None.
        labels: what the pairs were drawn with: "none", or the labels of the clusters.
    """

    keys: list[str]
    utterances: np.ndarray
    numbers: np.ndarray
    hashes: np.ndarray
    clusters: np.ndarray | None
    labels: str

    def pairs(
        self, wanted: int, seed: int, of_clusters: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (N,) and (N,) places in ``keys`` and (N,) bools, whether it is a target pair: at most
        ``wanted`` pairs of crops of one utterance or, ``of_clusters``, of utterances of one cluster; and as
        many of different utterances, of different clusters where there are clusters.
        """
        from pydino.backend.crop_pairs import cluster_pairs, crop_pairs, utterance_pairs

        crops = len(self.utterances)
        if of_clusters:
            targets = [crops + side for side in cluster_pairs(self.hashes, self.clusters, wanted, seed)]
        else:
            targets = crop_pairs(self.utterances, self.numbers, self.hashes, wanted, seed)
        others = utterance_pairs(self.hashes, wanted, seed, self.clusters)
        first, second = (np.concatenate([a, crops + b]) for a, b in zip(targets, others, strict=True))
        return first, second, np.arange(len(first)) < len(targets[0])


def check_one_model(crops, dim_of_crops: int, whole, dim: int) -> None:
    """Check that a folder of crops and one of whole utterances were embedded with one model.

    Warns where another model of the same dimension made the crops, whose directions are others.

    Raises:
        UserError: the dimensions differ.
    """
    if dim_of_crops != dim:
        raise UserError(
            f"{crops} has {dim_of_crops} dimensions, and {whole} {dim}; extract the crops with the model of "
            "the embeddings"
        )
    metas = [Path(folder) / "meta.yaml" for folder in (crops, whole)]
    models = [((read_yaml(path) or {}) if path.is_file() else {}).get("model_dir") for path in metas]
    if all(models) and len({os.path.realpath(model) for model in models}) > 1:
        warn(f"{crops} are crops embedded by {models[0]}, and {whole} is of {models[1]}")


def crop_files(folder, clusters) -> list[Path]:
    """Return the files that :func:`read_crops` reads."""
    return [Path(folder) / "crop2utt", *(cluster_files(clusters) if clusters else ())]


def read_crops(folder, clusters: str | None) -> Crops:
    """Read ``crop2utt`` of a folder of crops, ``utt2hash`` if it is there, and the clusters.

    Args:
        folder: of the crops.
        clusters: folder of steps/cluster.sh, or None.

    Raises:
        UserError: a table is missing or does not fit the others, or no utterance has two crops.
    """
    path = Path(folder) / "crop2utt"
    if not path.is_file():
        raise UserError(f"no {path}: run steps/extract_crops.sh MODEL_DIR DATA {folder}")
    table = {key: "".join(split_fields(text)[:1]) for key, text in read_table(path).items()}
    names = list(dict.fromkeys(table.values()))
    place = {name: i for i, name in enumerate(names)}
    utterances = np.array([place[name] for name in table.values()], dtype=np.int64)
    if len(names) < 2 or np.bincount(utterances, minlength=1).max() < 2:
        raise UserError(
            f"{path}: {plural(len(table), 'crop')} of {plural(len(names), 'utterance')}; pairs need two "
            "utterances or more, with two crops each"
        )
    stored = read_table(path.with_name("utt2hash")) if path.with_name("utt2hash").is_file() else {}
    lacking = [name for name in names if name not in stored] if stored else []
    if lacking:
        raise UserError(
            f"{path.with_name('utt2hash')}: {len(lacking)} of {len(names)} utterances are not in it, first: "
            f"{lacking[0]}; make the crops again"
        )
    hashes = np.array(
        [int(stored[name]) if stored else utterance_hash(name) for name in names], dtype=np.uint64
    )
    groups, labels = _read_clusters(clusters, names, path) if clusters else (None, "none")
    return Crops(
        [*table, *names],
        utterances,
        np.array([_number(key) for key in table], dtype=np.int64),
        hashes,
        groups,
        labels,
    )


def _number(key: str) -> int:
    number = key.rpartition("#")[2]
    if not number.isdigit():
        raise UserError(f"crop2utt: '{key}' is not the name of a crop, UTT#K; make the crops again")
    return int(number)


def _read_clusters(folder, names: list[str], path) -> tuple[np.ndarray, str]:
    table = Path(folder) / UTT2CLUSTER
    if not table.is_file():
        raise UserError(f"no {table}: run steps/cluster.sh XVECTOR_DIR {folder}")
    cluster_of = read_table(table)
    lacking = [name for name in names if name not in cluster_of]
    if lacking:
        raise UserError(
            f"{table}: {len(lacking)} of {len(names)} utterances of {path} have no cluster, first: "
            f"{lacking[0]}; give crops and clusters of the same set"
        )
    _, groups = np.unique([cluster_of[name] for name in names], return_inverse=True)
    return groups, labels_of_table(table)
