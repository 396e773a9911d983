"""Common to both kinds of input: check that a pre-training directory is up to date, and read the stored
hashes of its utterances.
"""

from pathlib import Path

import numpy as np

from pydino.base import UserError, out_of_date
from pydino.kaldi import read_table


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


def read_hashes(data) -> tuple[np.ndarray, list[str]]:
    """Return the hashes of ``utt2hash``, (N,) uint64 ascending, and the utterances in their order.

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
        raise UserError(
            f"{data}/utt2hash has two utterances with the same hash; regenerate it with "
            "steps/make_train_set.sh"
        )
    return hashes, [keys[i] for i in order]
