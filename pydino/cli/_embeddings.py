"""Embedding folders for the verbs that read them: xvector.scp and meta.yaml, as steps/extract_embeddings.sh
leaves them.
"""

import os
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePath

import numpy as np

from pydino.base import UserError, log, nearest, read_lines, read_yaml, warn, write_text
from pydino.kaldi import Overlap, read_scp_objects, read_table, read_utt2label

_IN_TRAINING = "in_training.txt"


@dataclass(frozen=True)
class EmbeddingSet:
    """The embeddings of one set: ``keys`` and ``vectors`` (N, D) float32 in the order of the scp; ``meta``
    says whose they are.
    """

    folder: Path
    keys: list[str]
    vectors: np.ndarray
    meta: dict

    @property
    def dim(self) -> int:
        return self.vectors.shape[1]

    def places(self, names, what: str) -> np.ndarray:
        """Return the places of ``names``, or raise a UserError that names the first of those that have no
        embedding.
        """
        place = {key: i for i, key in enumerate(self.keys)}
        unknown = [name for name in names if name not in place]
        if len(unknown) == len(names):
            raise UserError(
                f"{what}: none of its {len(names)} names has an embedding in {self.folder}/xvector.scp, such "
                f"as {unknown[0]}; is {what} the right file, and {self.folder} the set that it is about?"
            )
        if unknown:
            raise UserError(
                f"{what}: {len(unknown)} of {len(names)} utterances have no embedding in "
                f"{self.folder}/xvector.scp, first: "
                f"{unknown[0]}{nearest(unknown[0], self.keys[:5000])}; extract them, or take them out of "
                f"{what}"
            )
        return np.array([place[name] for name in names], dtype=np.int64)

    def labelled(self, label_of: dict, source, max_drop: float) -> np.ndarray:
        """Return the places of the embeddings that have a label; warns of those that have none, and of labels
        without an embedding.

        Args:
            label_of: utterance -> label, read from ``source``.

        Raises:
            UserError: more than ``max_drop`` of the utterances lack a label or an embedding.
        """
        present = set(self.keys)
        lacking = {
            f"label in {source}": [key for key in self.keys if key not in label_of],
            f"embedding in {self.folder}": [key for key in label_of if key not in present],
        }
        dropped, total = sum(map(len, lacking.values())), len(present | set(label_of))
        said = " and ".join(
            f"{len(keys)} utterances have no {what} (first: {keys[0]})"
            for what, keys in lacking.items()
            if keys
        )
        if dropped > max_drop * total:
            raise UserError(f"{said}, of {total}; complete them, or allow more with --max-drop")
        if dropped:
            warn(f"dropped {dropped} of {total}: {said}")
        return np.array([i for i, key in enumerate(self.keys) if key in label_of], dtype=np.int64)


@lru_cache(maxsize=6)
def _cached(read, path: str, _version: tuple):
    return read(path)


def cached(read, path):
    """Return ``read(path)``, which is not to be changed: read once in this process as long as the file stays
    the same, because one process does all the scoring of a system.
    """
    try:
        status = os.stat(path)
        version = (status.st_ino, status.st_mtime_ns, status.st_size)
    except OSError:
        version = ()  # `read` has the message
    return _cached(read, str(path), version)


def read_embeddings(folder) -> EmbeddingSet:
    """Read an embedding folder, once in a process.

    Raises:
        UserError: no xvector.scp, no embedding, embeddings of different sizes, or one that is not finite;
            names file and key.
    """
    scp = Path(folder) / "xvector.scp"
    if not scp.exists():
        raise UserError(f"no {scp}: run steps/extract_embeddings.sh MODEL_DIR DATA {folder}")
    return cached(_read_embeddings, scp)


def read_several(folders, utterances=None) -> EmbeddingSet:
    """Read the embedding folders of several sets as one; ``meta`` is the first's.

    Args:
        folders: of the sets.
        utterances: a table whose first column lists the utterances to take, such as ``utt2hash`` of the
            pre-training directory, which has none that are in a test set; None takes all.

    Raises:
        UserError: as :func:`read_embeddings`; two sets differ in dimension, or have an utterance in common;
            the table lists none of theirs.
    """
    found = _read_several(folders)
    if utterances is None:
        return found
    wanted = cached(read_table, utterances)
    kept = [place for place, key in enumerate(found.keys) if key in wanted]
    if not kept:
        raise UserError(
            f"--utterances {utterances}: none of its {len(wanted)} names has an embedding in {found.folder}; "
            "is it the table of that set?"
        )
    if len(kept) < len(found.keys):
        log(f"{found.folder}: {len(kept)} of {len(found.keys)} utterances are in {utterances}")
    return replace(found, keys=[found.keys[place] for place in kept], vectors=found.vectors[kept])


def _read_several(folders) -> EmbeddingSet:
    sets = [read_embeddings(folder) for folder in folders]
    if len(sets) == 1:
        return sets[0]
    of_key: dict[str, EmbeddingSet] = {}
    for one in sets:
        if one.dim != sets[0].dim:
            raise UserError(
                f"dimension {sets[0].dim} in {sets[0].folder}, {one.dim} in {one.folder}: extract all with "
                "one model"
            )
        for key in one.keys:
            if key in of_key:
                raise UserError(
                    f"{key} is in {of_key[key].folder} and in {one.folder}: give each utterance once"
                )
            of_key[key] = one
    vectors = np.concatenate([one.vectors for one in sets])
    return EmbeddingSet(Path(" and ".join(str(one.folder) for one in sets)), [*of_key], vectors, sets[0].meta)


def utterances_of_crops(crops: EmbeddingSet, folders) -> tuple[list[str], np.ndarray]:
    """Return the utterances of embedded crops, in order of appearance, and for each crop (N,) the place of
    its utterance.

    Args:
        crops: read from ``folders``, each of which has a table ``crop2utt``.

    Raises:
        UserError: no such table, or one that lacks a crop.
    """
    utterance_of: dict[str, str] = {}
    for folder in folders:
        table = Path(folder) / "crop2utt"
        if not table.exists():
            raise UserError(
                f"no {table}: steps/extract_crops.sh MODEL_DIR DATA OUT_DIR embeds crops of each utterance "
                "and writes it"
            )
        utterance_of |= cached(read_utt2label, table)
    unknown = [key for key in crops.keys if key not in utterance_of]
    if unknown:
        raise UserError(
            f"crop2utt of {crops.folder} lacks {len(unknown)} of {len(crops.keys)} crops, first: "
            f"{unknown[0]}; run steps/extract_crops.sh again"
        )
    place: dict[str, int] = {}
    places = [place.setdefault(utterance_of[key], len(place)) for key in crops.keys]
    return [*place], np.array(places, dtype=np.int64)


def _read_embeddings(scp) -> EmbeddingSet:
    folder = Path(scp).parent
    keys, vectors = [], []
    for key, vector in read_scp_objects(scp):
        if np.ndim(vector) != 1 or (vectors and len(vector) != len(vectors[0])):
            expected = f"a vector of dimension {len(vectors[0])}" if vectors else "a vector"
            raise UserError(
                f"{scp}: {key} has the shape {np.shape(vector)}, not {expected}; extract the set again"
            )
        keys.append(key)
        vectors.append(vector)
    if not keys:
        raise UserError(
            f"{scp} is empty: no utterance was left to extract; look at the log of "
            "steps/extract_embeddings.sh"
        )
    stacked = np.asarray(vectors, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(stacked).all(axis=1))
    if len(bad):
        raise UserError(
            f"{scp}: the embedding of {keys[bad[0]]} is not finite ({len(bad)} such): look at its audio, "
            "and whether training diverged"
        )
    meta = folder / "meta.yaml"
    return EmbeddingSet(folder, keys, stacked, (read_yaml(meta) or {}) if meta.exists() else {})


def check_silence(embedded: EmbeddingSet, task) -> None:
    """Raise a UserError if silence was treated otherwise than in the task (TaskDir)."""
    kept = bool(embedded.meta.get("keep_silence"))
    if embedded.meta and kept != task.config.keep_silence:
        said = {True: "kept", False: "removed"}
        raise UserError(
            f"{embedded.folder}: silence was {said[kept]}, and in the task {task.path} it is "
            f"{said[not kept]}; extract the set again, --keep-silence is an option of it"
        )


def write_overlap(folder, parts: list[Overlap]) -> dict:
    """Write ``in_training.txt``: the utterances of an embedding folder that its model was trained on; no file
    where there are none, or it is not known.

    Args:
        folder: of the embeddings.
        parts: of the utterances, in order.

    Returns:
        ``training_overlap`` of ``meta.yaml``.
    """
    path = Path(folder) / _IN_TRAINING
    unknown = next((part.unknown for part in parts if part.unknown), "")
    heard = [] if unknown else [utterance for part in parts for utterance in part.utterances]
    if heard:
        write_text(path, "".join(f"{utterance}\n" for utterance in heard))
    else:
        path.unlink(missing_ok=True)
    return {"known": False, "why": unknown} if unknown else {"known": True, "count": len(heard)}


def read_overlap(folder) -> Overlap:
    """Return which utterances of an embedding folder its model was trained on.

    Raises:
        UserError: ``in_training.txt`` is missing or incomplete.
    """
    meta, path = Path(folder) / "meta.yaml", Path(folder) / _IN_TRAINING
    recorded = ((read_yaml(meta) or {}) if meta.exists() else {}).get("training_overlap", {})
    if not recorded.get("known"):
        return Overlap([], recorded.get("why") or f"{folder} was extracted before hashes were compared")
    utterances = read_lines(path) if recorded["count"] else []
    if len(utterances) != recorded["count"]:
        raise UserError(
            f"{path} has {len(utterances)} lines, and {meta} says {recorded['count']}: remove {folder}/.done "
            "and extract the set again"
        )
    return Overlap(utterances)


def configuration_name(meta: dict) -> str:
    """What distinguishes two models of one method, the same for every seed: the model's folder in exp/
    without the seed.
    """
    parts = [
        part
        for part in PurePath(str(meta.get("model_dir") or "")).parts
        if not re.fullmatch(r"seed\d+", part)
    ]
    name = "/".join(parts[-2:]) or "unknown"
    system = PurePath(str(meta.get("system") or "")).parent.name
    if system and system not in parts:  # a model from elsewhere, where another may be called alike
        name += f" ({system})"
    return f"{name}, silence kept" if meta.get("keep_silence") else name
