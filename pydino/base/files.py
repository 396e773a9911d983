"""Atomic writes: to a temporary file, flushed to disk, then renamed."""

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from .messages import UserError
from .text import read_lines, read_text


@contextmanager
def atomic_open(path, mode: str = "w"):
    """Open a temporary file beside ``path`` for writing; rename it to ``path`` when the block ends well.

    Folders are created as needed. An error inside the block leaves an earlier ``path`` as it was and removes
    the temporary file.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary, inside = None, False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, mode, **({} if "b" in mode else {"encoding": "utf-8"})) as stream:
            inside = True
            yield stream
            inside = False
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        if inside and error.filename is not None:  # about a file that the block itself opened
            raise
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path, text: str) -> None:
    """Write ``text`` to ``path`` atomically."""
    with atomic_open(path) as stream:
        stream.write(text)


def write_json(path, value) -> None:
    """Write ``value`` as indented JSON, keys in the order given, atomically."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path):
    """Read a JSON file.

    Raises:
        UserError: the file is missing or not JSON; the message names it.
    """
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise UserError(
            f"{path} is not JSON ({error}); remove it and run the step that writes it again"
        ) from error


def read_json_lines(path) -> list[dict]:
    """Return the objects of a file that has one on each line, as a run that goes on writes it; without lines
    that a kill truncated, and none where there is no file.
    """
    found = []
    for text in read_lines(path) if os.path.isfile(path) else ():
        try:
            value = json.loads(text)
        except ValueError:
            continue
        found += [value] if isinstance(value, dict) else []
    return found
