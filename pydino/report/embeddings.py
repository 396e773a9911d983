"""Embeddings for the report: which sets and systems are shown, the points of their maps, and the nearest
neighbours of some recordings.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pydino.backend.vectors import normalise_length
from pydino.base import keyed_permutation, purpose, utterance_hash
from pydino.kaldi import read_scp_objects, read_table
from pydino.report.gather import gather_embedding_folders
from pydino.report.tables import Table, is_baseline, system_order

MAP_POINTS = 800
MAP_GROUPS = 12  # speakers in colour
SYSTEMS_SIDE_BY_SIDE = 3
NEIGHBOURS_OF = 10  # recordings
NEIGHBOURS = 5  # of each
_BLOCK = 10_000  # embeddings in memory at a time


def systems_by_set(root, test_sets) -> list[tuple[str, list[dict]]]:
    """Return (set, embedding folders of its systems) for every set that is shown, trained models before
    baselines: the test sets, or in a recipe without results all sets. A set with embeddings of baselines
    alone is omitted. Embeddings with silence are shown where a set has no others.
    """
    by_set: dict[str, dict[str, dict]] = {}
    folders = gather_embedding_folders(root)
    without_silence = {str(folder["data"]) for folder in folders if not folder.get("keep_silence")}
    for folder in folders:
        shown = not folder.get("keep_silence") or str(folder["data"]) not in without_silence
        if shown and (not test_sets or str(folder["data"]) in test_sets):
            by_set.setdefault(str(folder["data"]), {}).setdefault(folder["model"], folder)
    return [
        (name, sorted(models.values(), key=system_order))
        for name, models in sorted(by_set.items())
        if not all(is_baseline(model) for model in models)
    ]


def side_by_side(systems: list[dict]) -> list[dict]:
    """Return up to SYSTEMS_SIDE_BY_SIDE of the systems, with the last baseline, if any, among them."""
    trained = [system for system in systems if not is_baseline(system["model"])]
    baselines = [system for system in systems if is_baseline(system["model"])]
    return trained[: SYSTEMS_SIDE_BY_SIDE - bool(baselines)] + baselines[-1:]


def speakers_of(folder: dict) -> dict[str, str]:
    """Return utt2spk of an embedded set; empty if it is missing or maps every utterance to itself."""
    path = Path(folder.get("data_dir", "")) / "utt2spk"
    if not path.is_file():
        return {}
    utt2spk = read_table(path)
    return {} if len(set(utt2spk.values())) == len(utt2spk) else utt2spk


def map_points(folder: dict, utt2spk: dict[str, str]) -> tuple[np.ndarray, list[str | None]]:
    """Return the embeddings (N, D) of at most MAP_POINTS utterances, and the speaker of each or None.

    Up to MAP_GROUPS speakers, chosen by key, are named, and their utterances come first.
    """
    scp = _places(folder)
    keys = [key for key in scp if not utt2spk or key in utt2spk]
    speakers = set(sorted(set(utt2spk.values()), key=utterance_hash)[:MAP_GROUPS])
    if len(keys) > MAP_POINTS:
        shuffled = [keys[i] for i in keyed_permutation(len(keys), 0, purpose("embedding map"))]
        keys = sorted(shuffled, key=lambda key: utt2spk.get(key) not in speakers)[:MAP_POINTS]
    vectors = [vector for _, vector in read_scp_objects({key: scp[key] for key in keys})]
    groups = [speaker if (speaker := utt2spk.get(key)) in speakers else None for key in keys]
    return np.stack(vectors).astype(np.float64), groups


def neighbours_table(name: str, folder: dict) -> Table | None:
    """Return the recordings nearest to some of a set, by cosine; None for a set of one recording."""
    scp = _places(folder)
    keys = list(scp)
    if len(keys) < 2:
        return None
    chosen = [keys[i] for i in keyed_permutation(len(keys), 0, purpose("nearest neighbours"))[:NEIGHBOURS_OF]]
    chosen.sort(key=lambda key: key.encode("utf-8"))
    found = nearest(scp, chosen, NEIGHBOURS)
    count = len(found[0])
    rows = [
        [key, *(f"{other} ({cosine:.2f})" for other, cosine in row)]
        for key, row in zip(chosen, found, strict=True)
    ]
    caption = (
        f"The recordings nearest to {len(chosen)} of the {len(keys):,}, chosen at random: cosine "
        f"similarity of the embeddings of {folder['model']}."
    )
    header = ["recording", "nearest", *(f"{n}." for n in range(2, count + 1))]
    return Table(
        f"Nearest neighbours: {name}", caption, header, rows, text_columns=count + 1, explained=False
    )


def nearest(scp: dict[str, str], chosen: list[str], count: int) -> list[list[tuple[str, float]]]:
    """Return, for each chosen key, the ``count`` other keys with the largest cosine similarity, largest
    first; among equals the one that comes first in ``scp``.

    Args:
        scp: key -> extended file name of its embedding (D,); at least two.
        chosen: keys of ``scp``.
    """
    queries = np.stack([vector for _, vector in read_scp_objects({key: scp[key] for key in chosen})])
    queries = normalise_length(queries, scale_up=False)
    places = {key: place for place, key in enumerate(scp)}
    itself = np.array([places[key] for key in chosen])
    best = np.full((len(chosen), 0), -np.inf)
    indices = np.zeros((len(chosen), 0), dtype=np.int64)
    for start, block in _blocks(scp):
        here = np.broadcast_to(np.arange(start, start + len(block)), (len(chosen), len(block)))
        cosines = queries @ normalise_length(block, scale_up=False).T
        cosines[here == itself[:, None]] = -np.inf
        best, indices = np.hstack([best, cosines]), np.hstack([indices, here])
        order = np.argsort(-best, axis=1, kind="stable")[:, :count]
        best, indices = np.take_along_axis(best, order, 1), np.take_along_axis(indices, order, 1)
    keys = list(scp)
    return [
        [(keys[i], float(cosine)) for i, cosine in zip(*row, strict=True) if cosine > -np.inf]
        for row in zip(indices, best, strict=True)
    ]


def _blocks(scp: dict[str, str]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index of the first, embeddings) of up to _BLOCK embeddings at a time."""
    start, block = 0, []
    for _, vector in read_scp_objects(scp):
        block.append(vector)
        if len(block) == _BLOCK:
            yield start, np.stack(block)
            start, block = start + len(block), []
    if block:
        yield start, np.stack(block)


def _places(folder: dict) -> dict[str, str]:
    return read_table(Path(folder["folder"]) / "xvector.scp")
