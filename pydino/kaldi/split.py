"""Split a data directory into parts for parallel jobs: ``DATA/split4/1 ... 4``, or ``DATA/split4utt/...``."""

import hashlib
import os
from collections import defaultdict
from pathlib import Path

from pydino.base import UserError, read_json, warn, write_json

from .columns import Columns, write_columns
from .data_dir import (
    FEATURE_METADATA,
    Tables,
    copy_feature_metadata,
    kind_of,
    load,
    recording,
    remove,
    table_names,
)

_FORMAT = 1
_STATE = ".made-from.json"


def split(path, num_parts: int, per_utterance: bool = False) -> Path:
    """Split into ``num_parts`` consecutive parts of about as many utterances, and return the folder that
    holds them.

    Speakers stay whole, unless there are fewer of them than parts or ``per_utterance`` asks otherwise; then
    the folder is called ``split<N>utt``. A split made earlier from the same text is kept; any other is
    regenerated and renamed into place.

    Raises:
        UserError: more parts than utterances.
    """
    path = Path(path)
    tables = load(path)
    utt2spk = tables["utt2spk"]
    count = len(utt2spk.keys)
    if num_parts < 1:
        raise UserError(f"cannot split into {num_parts} parts")
    if num_parts > count:
        raise UserError(
            f"refusing to split {path}: {num_parts} jobs are more than its {count} utterances; use "
            f"--nj {count} or less"
        )
    num_speakers = len(set(utt2spk.rests))
    if not per_utterance and num_speakers < num_parts:
        warn(
            f"{path} has {num_speakers} speakers for {num_parts} jobs: splitting by utterance, into "
            f"split{num_parts}utt"
        )
        per_utterance = True
    target = path / f"split{num_parts}{'utt' if per_utterance else ''}"
    digest = _digest(path)
    if _is_fresh(target, digest):
        return target
    groups = [[u] for u in utt2spk.keys] if per_utterance else list(utt2spk.members().values())
    parts = balance(groups, num_parts)
    del utt2spk, groups  # large, as what follows is
    aside = path / f".{target.name}.{os.getpid()}.tmp"
    remove(aside)
    try:
        _write_parts(aside, path, tables, parts)
        sizes = {str(f.relative_to(aside)): f.stat().st_size for f in sorted(aside.rglob("*")) if f.is_file()}
        write_json(aside / _STATE, {"digest": digest, "files": sizes})
        remove(target)
        os.rename(aside, target)
    except OSError as error:
        if _is_fresh(target, digest):  # another process was faster
            return target
        raise UserError(
            f"cannot write {target}: {error.strerror or error}; free some space or check the permissions"
        ) from error
    finally:
        remove(aside)
    return target


def _write_parts(folder: Path, source: Path, tables: Tables, parts: list[list[bytes]]) -> None:
    """Write the parts, table by table, so that each is read once."""
    segmented = "segments" in tables
    owners: dict[str, dict] = {"utterance": {}, "speaker": defaultdict(set), "recording": defaultdict(set)}
    for number, utterances in enumerate(parts):
        owners["utterance"].update(dict.fromkeys(utterances, (number,)))
    for key, speaker in zip(*tables["utt2spk"], strict=True):
        owners["speaker"][speaker].update(owners["utterance"][key])
    for key, rest in zip(*tables["segments"], strict=True) if segmented else ():
        owners["recording"][recording(rest)].update(owners["utterance"].get(key, ()))
    for name in tables:
        divided = _divide(tables[name], owners[kind_of(name, segmented)], len(parts))
        for number, columns in enumerate(divided, 1):
            write_columns(folder / str(number) / name, columns)
            if name == "utt2spk":
                write_columns(folder / str(number) / "spk2utt", columns.inverted())
        del divided, columns  # before the next table is read
    for number in range(1, len(parts) + 1):
        copy_feature_metadata(source, folder / str(number))


def _divide(columns: Columns, owners: dict, num_parts: int) -> list[Columns]:
    divided = [Columns([], []) for _ in range(num_parts)]
    for key, rest in zip(*columns, strict=True):
        for number in owners.get(key, ()):
            divided[number].keys.append(key)
            divided[number].rests.append(rest)
    return divided


def balance(groups: list[list[bytes]], num_parts: int) -> list[list[bytes]]:
    """Distribute groups, in order and unbroken, over ``num_parts`` non-empty parts with about as many items
    each.
    """
    total = sum(map(len, groups))
    parts: list[list[bytes]] = [[]]
    done = 0
    for place, group in enumerate(groups):
        part = len(parts)
        # Start the next part where this one has its share (to the nearest group), or where each remaining
        # group must start one.
        full = done + len(group) / 2 > part * total / num_parts
        if parts[-1] and part < num_parts and (full or len(groups) - place == num_parts - part):
            parts.append([])
        parts[-1] += group
        done += len(group)
    return parts


def _digest(path: Path) -> str:
    state = hashlib.sha256(f"format {_FORMAT}".encode())
    for name in [*table_names(path), *FEATURE_METADATA]:
        if (path / name).exists():
            state.update(f"\n{name} {(path / name).stat().st_size}\n".encode())
            with open(path / name, "rb") as stream:
                while block := stream.read(1 << 20):
                    state.update(block)
    return state.hexdigest()


def _is_fresh(target: Path, digest: str) -> bool:
    """Whether a split was made from the same text and still has all its files. (Kaldi compares times, and
    misses an edited copy.)
    """
    try:
        state = read_json(target / _STATE)
        return state["digest"] == digest and all(
            (target / f).stat().st_size == size for f, size in state["files"].items()
        )
    except (UserError, OSError, KeyError, TypeError):
        return False
