"""``utt2audiohash``: utterance -> hash of its samples, 16 hexadecimal digits, written along with the
features. By it a recording is recognised under any name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydino.base import UserError

from .tables import read_table

AUDIO_HASHES = "utt2audiohash"
TRAINING_AUDIO = "training_audio.npy"  # of a model folder: the hashes of what it was trained on
_FORM = re.compile("[0-9a-f]{16}")


def is_audio_hash(value: str) -> bool:
    """Return whether this is a hash of samples."""
    return _FORM.fullmatch(value) is not None


def read_audio_hashes(data) -> dict[str, str]:
    """Read the hashes of a data directory; nothing where it has none: features made elsewhere, or before
    hashes were stored.

    Raises:
        UserError: a malformed table.
    """
    path = Path(data) / AUDIO_HASHES
    table = read_table(path) if path.is_file() else {}
    wrong = next((key for key, value in table.items() if not is_audio_hash(value)), None)
    if wrong is not None:
        raise UserError(
            f"{path}: {wrong} has '{table[wrong]}', expected 16 hexadecimal digits; remove the table "
            "and compute the features again (steps/make_fbank.sh, stage 2), which makes it"
        )
    return table


def duplicates(table: Mapping[str, str]) -> list[list[str]]:
    """Return the groups of keys, two or more each, that have the same value: of ``utt2audiohash``, utterances
    of the same samples. Keys within a group are in the order of the table, groups in that of their first
    keys.
    """
    if len(set(table.values())) == len(table):
        return []
    groups: dict[str, list[str]] = {}
    for key, value in table.items():
        groups.setdefault(value, []).append(key)
    return [keys for keys in groups.values() if len(keys) > 1]


@dataclass(frozen=True)
class Overlap:
    """Which utterances of a data directory a model was trained on, in its own training or in one that it
    started from.

    Attributes:
        utterances: these, as the directory names them, sorted.
        unknown: why it cannot be told; empty where it is known.
    """

    utterances: list[str]
    unknown: str = ""
