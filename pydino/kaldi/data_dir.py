"""Kaldi data directories: their files, what these are keyed by, and subsets of a directory.

A file is recognised by its name, so that a label map that a recipe adds (``utt2emotion``, ``spk2age``) is
filtered, split, combined and copied like Kaldi's own: ``utt2*`` is keyed by utterance, ``spk2*`` by speaker,
``reco2*`` by recording. ``wav.scp`` is keyed by recording where ``segments`` exists, else by utterance.
``spk2utt`` is derived from ``utt2spk``, which is the primary map.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path

from pydino.base import Lock, UserError, atomic_open, lock_path, split_fields

from .columns import Columns, read_columns, text, write_columns
from .tables import read_table

UTTERANCE_FILES = ("text", "segments", "feats.scp", "vad.scp", "energy.scp")
# Files that, where they exist, have an entry for every utterance (speaker, recording). Label maps, the other
# files recognised by prefix, may be incomplete: not every utterance has a label.
COMPLETE_FILES = {
    *UTTERANCE_FILES,
    "wav.scp",
    "utt2dur",
    "utt2num_frames",
    "utt2lang",
    "utt2uniq",
    "utt2hash",
    "cmvn.scp",
    "spk2gender",
    "reco2dur",
}
# How features were computed; copied along with them, and equal in directories to be combined.
FEATURE_METADATA = ("frame_shift", "conf/fbank.yaml", "conf/mfcc.yaml", "conf/vad.yaml")

_BY_PREFIX = re.compile(r"(utt|spk|reco)2[A-Za-z0-9_]+")
_KINDS = {"utt": "utterance", "spk": "speaker", "reco": "recording"}


def kind_of(name: str, segmented: bool) -> str | None:
    """Return what the file is keyed by: ``utterance``, ``speaker`` or ``recording``; None if it is no table
    of the directory.
    """
    if name in UTTERANCE_FILES:
        return "utterance"
    if name == "cmvn.scp":
        return "speaker"
    if name == "wav.scp":
        return "recording" if segmented else "utterance"
    match = _BY_PREFIX.fullmatch(name)
    if not match:
        return None
    # Without segments a recording is an utterance.
    return _KINDS[match[1]] if segmented or match[1] != "reco" else "utterance"


def table_names(path) -> list[str]:
    """Return the names of the tables in a data directory, sorted, with ``utt2spk`` and without the derived
    ``spk2utt``.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"no such directory {path}")
    return sorted(
        p.name for p in path.iterdir() if p.is_file() and p.name != "spk2utt" and kind_of(p.name, True)
    )


class Tables(Mapping[str, Columns]):
    """The tables of a data directory, each read (or derived) on access, and not cached.

    Args:
        names: file names, ``utt2spk`` among them.
        read: returns the table of a name.
    """

    def __init__(self, names: Iterable[str], read: Callable[[str], Columns]):
        self._names, self._read = list(names), read

    def __getitem__(self, name: str) -> Columns:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __contains__(self, name) -> bool:
        return name in self._names

    def __iter__(self):
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def load(path) -> Tables:
    """Return the tables of a data directory.

    Raises:
        UserError: there is no ``utt2spk``. On access to a table: it is malformed, unsorted or has
            duplicates, or there is no utterance.
    """
    path, names = Path(path), table_names(path)
    if "utt2spk" not in names:
        raise UserError(
            f"no such file {path}/utt2spk: not a data directory, or its preparation was not finished"
        )
    return Tables(names, lambda name: _read_utt2spk(path) if name == "utt2spk" else read_columns(path / name))


def _read_utt2spk(path: Path) -> Columns:
    columns = read_columns(path / "utt2spk")
    if not columns.keys:
        raise UserError(f"empty file {path}/utt2spk: the directory holds no utterance")
    for utterance, speaker in zip(*columns, strict=True):
        if len(speaker.split(None, 1)) != 1:
            raise UserError(_wrong_speakers(path / "utt2spk", text(utterance), len(speaker.split())))
    return columns


def _wrong_speakers(path: Path, utterance: str, count: int) -> str:
    return f"{path} has wrong format: utterance '{utterance}' has {count} speakers, expected one"


def keys_needed(tables: Tables, utterances: set[bytes]) -> dict[str, set[bytes]]:
    """Return the keys that some utterances need, by kind: their own, their speakers' and recordings'."""
    needed = {"utterance": utterances, "speaker": set(tables["utt2spk"].only(utterances).rests)}
    if "segments" in tables:
        needed["recording"] = {recording(rest) for rest in tables["segments"].only(utterances).rests}
    return needed


def recording(segment: bytes) -> bytes:
    """Return the recording that a line of ``segments`` names, given its rest."""
    return segment.partition(b" ")[0] if b"\t" not in segment else segment.split(None, 1)[0]


def restrict(tables: Tables, utterances) -> Tables:
    """Return the tables of these utterances only, with the speakers and recordings they need; order is
    kept.
    """
    utterances, segmented = set(utterances), "segments" in tables
    needed = cache(lambda: keys_needed(tables, utterances))

    def read(name: str) -> Columns:
        kind = kind_of(name, segmented)
        return tables[name].only(utterances if kind == "utterance" else needed()[kind])

    return Tables(tables, read)


def store(path, tables: Tables, metadata_from=None) -> None:
    """Write a data directory, ``spk2utt`` derived, tables of an earlier directory removed.

    All files are first written to a temporary directory: an error leaves an earlier directory as it was.

    Args:
        path: directory; created if needed. Files that are not tables of a data directory, such as trials, are
            kept.
        tables: at least ``utt2spk``.
        metadata_from: data directory whose ``frame_shift`` and ``conf/`` are copied too.
    """
    path = Path(path)
    held = Lock(lock_path(path)).wait(path)
    existed = path.exists()
    aside = path / f".tables.{os.getpid()}.tmp"
    try:
        aside.mkdir(parents=True)
        for name in tables:
            columns = tables[name]
            write_columns(aside / name, columns)
            if name == "utt2spk":
                write_columns(aside / "spk2utt", columns.inverted())
            del columns
        for name in set(table_names(path)) - set(tables):
            (path / name).unlink()
        for file in sorted(aside.iterdir()):
            os.replace(file, path / file.name)
        if metadata_from:
            copy_feature_metadata(metadata_from, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another place"
        ) from error
    finally:
        remove(aside)
        if not existed and path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        held.release()


def copy_feature_metadata(source, target) -> None:
    """Copy ``frame_shift`` and ``conf/`` of features to another directory; remove there what the source
    lacks.
    """
    for name in FEATURE_METADATA:
        old, new = Path(source) / name, Path(target) / name
        if not old.exists():
            new.unlink(missing_ok=True)
        elif old.resolve() != new.resolve():
            with atomic_open(new, "wb") as stream:
                stream.write(old.read_bytes())


def remove(path) -> None:
    """Remove a directory tree if it exists."""
    shutil.rmtree(path, ignore_errors=True)


def invert(utt2spk: dict[str, str]) -> dict[str, str]:
    """Return ``spk2utt``: speaker -> utterances separated by a blank, both in order of appearance."""
    members: dict[str, list[str]] = {}
    for utterance, speaker in utt2spk.items():
        members.setdefault(speaker, []).append(utterance)
    return {speaker: " ".join(utterances) for speaker, utterances in members.items()}


def read_utt2label(path) -> dict[str, str]:
    """Read ``utt2spk``, ``utt2emotion`` or the like: utterance -> the one label beside it.

    Raises:
        UserError: a line without a label or with more than one, besides what ``read_table`` raises.
    """
    table = read_table(path)
    for key, label in table.items():
        if len(fields := split_fields(label)) != 1:
            raise UserError(f"{path}: {key} has {len(fields)} fields beside it ('{label}'), expected one")
    return table


def named(keys, limit: int = 5) -> str:
    """Return a list of keys for a message: the first few, and how many more."""
    keys = [text(key) if isinstance(key, bytes) else key for key in keys]
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return " ".join(keys[:limit]) + more


class DataDir:
    """A data directory whose tables are read on first access.

    Attributes are file names with dots as underscores, ``feats_scp``, ``utt2num_frames``: a dict, or None if
        there is no such file.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise UserError(f"no such directory {path}")
        self._tables: dict[str, dict[str, str] | None] = {}

    def table(self, name: str) -> dict[str, str] | None:
        """Return the table in the file ``name``, or None if there is no such file."""
        if name not in self._tables:
            file = self.path / name
            if name == "utt2spk" and file.exists():
                self._tables[name] = read_utt2label(file)
            else:
                self._tables[name] = read_table(file) if file.exists() else None
        return self._tables[name]

    def __getattr__(self, attribute: str):
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        name = attribute.removesuffix("_scp") + ".scp" if attribute.endswith("_scp") else attribute
        if kind_of(name, True) is None:
            raise AttributeError(f"a data directory has no table {attribute}")
        return self.table(name)

    @cached_property
    def utterances(self) -> list[str]:
        """The utterances in the order of ``utt2spk``."""
        if self.utt2spk is None:
            raise UserError(f"no such file {self.path}/utt2spk")
        return list(self.utt2spk)
