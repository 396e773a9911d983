"""Split a data directory into parts for parallel jobs: ``DATA/split4/1 ... 4``, or ``DATA/split4utt/...``."""

import hashlib
import os
from pathlib import Path

from pydino.base import UserError, read_json, warn, write_json

from .data_dir import FEATURE_FACTS, invert, load, remove, restrict, store, table_names

_FORMAT = 1
_STATE = ".made-from.json"


def split(path, num_parts: int, per_utterance: bool = False) -> Path:
    """Split into ``num_parts`` consecutive parts of about as many utterances, and return the folder that
    holds them.

    Speakers stay whole, unless there are fewer of them than parts or ``per_utterance`` asks otherwise; then
    the folder is called ``split<N>utt``. A split made from the same text before is left as it is; anything
    else is made anew and renamed into place.

    Raises:
        UserError: more parts than utterances.
    """
    path = Path(path)
    tables = load(path)
    utt2spk = tables["utt2spk"]
    if num_parts < 1:
        raise UserError(f"cannot split into {num_parts} parts")
    if num_parts > len(utt2spk):
        raise UserError(
            f"refusing to split {path}: {num_parts} jobs are more than its {len(utt2spk)} utterances; use "
            f"--nj {len(utt2spk)} or less"
        )
    num_speakers = len(set(utt2spk.values()))
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
    groups = [[u] for u in utt2spk] if per_utterance else [own.split() for own in invert(utt2spk).values()]
    aside = path / f".{target.name}.{os.getpid()}.tmp"
    remove(aside)
    try:
        for number, utterances in enumerate(balance(groups, num_parts), 1):
            store(aside / str(number), restrict(tables, utterances), facts_from=path)
        sizes = {str(f.relative_to(aside)): f.stat().st_size for f in sorted(aside.rglob("*")) if f.is_file()}
        write_json(aside / _STATE, {"digest": digest, "files": sizes})
        remove(target)
        os.rename(aside, target)
    except OSError as error:
        if _is_fresh(target, digest):  # another process was faster
            return target
        raise UserError(
            f"cannot write {target}: {error.strerror or error}; free some space or check who may write there"
        ) from error
    finally:
        remove(aside)
    return target


def balance(groups: list[list[str]], num_parts: int) -> list[list[str]]:
    """Deal groups, in order and never broken, to ``num_parts`` parts, none empty, that hold about as many
    items each.
    """
    total = sum(map(len, groups))
    parts: list[list[str]] = [[]]
    done = 0
    for place, group in enumerate(groups):
        part = len(parts)
        # Go on to the next part where this one has its share (to the nearest group), or where the groups left
        # must each open one.
        full = done + len(group) / 2 > part * total / num_parts
        if parts[-1] and part < num_parts and (full or len(groups) - place == num_parts - part):
            parts.append([])
        parts[-1] += group
        done += len(group)
    return parts


def _digest(path: Path) -> str:
    state = hashlib.sha256(f"format {_FORMAT}".encode())
    for name in [*table_names(path), *FEATURE_FACTS]:
        if (path / name).exists():
            content = (path / name).read_bytes()
            state.update(f"\n{name} {len(content)}\n".encode() + content)
    return state.hexdigest()


def _is_fresh(target: Path, digest: str) -> bool:
    """Tell whether a split stands for the same text and still has all its files. (Kaldi compares times, and
    misses an edited copy.)
    """
    try:
        state = read_json(target / _STATE)
        return state["digest"] == digest and all(
            (target / f).stat().st_size == size for f, size in state["files"].items()
        )
    except (UserError, OSError, KeyError, TypeError):
        return False
