"""Common to both kinds of input: check that a pre-training directory is up to date, read the stored hashes of
its utterances, and their VAD decisions.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pydino.base import UserError, out_of_date
from pydino.kaldi import read_scp_objects, read_table

REMEDY = "regenerate the directory with steps/make_train_set.sh"


def check_current(data) -> None:
    """Refuse a directory that may point into archives that were replaced since, or are being replaced.

    Raises:
        UserError: features or VAD of a source were recomputed, or that was interrupted.
    """
    mark = Path(data) / ".done"
    reason = out_of_date(mark) if mark.exists() else ""  # a directory made by hand has no mark
    if reason:
        raise UserError(
            f"{data} is out of date: {reason}; finish stage 2 (make_fbank.sh, compute_vad.sh), then run "
            "stage 3"
        )


def read_hashes(data, only: np.ndarray | None = None) -> tuple[np.ndarray, list[str]]:
    """Return the hashes of ``utt2hash``, (N,) uint64 ascending, and the utterances in their order.

    Args:
        data: the directory.
        only: hashes of the utterances to return, such as those of the training part of a fold; None: all.

    Raises:
        UserError: no utterance, or two of one hash.
    """
    stored = read_table(Path(data) / "utt2hash")
    if not stored:
        raise UserError(f"{data} holds no utterance")
    keys = list(stored)
    hashes = np.array([int(value) for value in stored.values()], dtype=np.uint64)
    order = np.argsort(hashes)
    hashes = hashes[order]
    if (hashes[1:] == hashes[:-1]).any():
        raise UserError(f"{data}/utt2hash has two utterances with the same hash; {REMEDY}")
    if only is not None:
        kept = np.isin(hashes, only)
        hashes, order = hashes[kept], order[kept]
        if not len(hashes):
            raise UserError(f"{data} holds none of the {len(only)} utterances to train on; {REMEDY}")
    return hashes, [keys[i] for i in order]


def read_voiced(data, keys: list[str], num_frames: Callable[[int], int]) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, (T,) bool: voiced or not) of every utterance of ``keys``, in the order of ``vad.scp``.

    Args:
        data: the directory.
        keys: utterances.
        num_frames: of the utterance with an index, T.

    Raises:
        UserError: an utterance is missing in ``vad.scp``, has another number of frames, or none is voiced.
    """
    places = {key: place for place, key in enumerate(keys)}
    for key, decisions in read_scp_objects(Path(data) / "vad.scp"):
        place = places.pop(key, None)
        if place is None:
            continue
        if len(decisions) != num_frames(place):
            raise UserError(
                f"{data}: '{key}' has {num_frames(place)} frames but {len(decisions)} VAD decisions; {REMEDY}"
            )
        voiced = decisions > 0.5
        if not voiced.any():
            raise UserError(f"{data}: '{key}' has no voiced frame; {REMEDY}")
        yield place, voiced
    if places:
        raise UserError(f"{data}/vad.scp: '{next(iter(places))}' is not in it; {REMEDY}")
