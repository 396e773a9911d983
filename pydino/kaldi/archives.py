"""Reading archives and scripts: one object by its extended file name, those of a script, those of an archive in order."""

import io
import sys
from contextlib import contextmanager

import numpy as np

from pydino.base import UserError

from .objects import read_object_at
from .rxfilename import Location, parse_rxfilename, run_pipe, select
from .tables import read_table


def read_object(rxfilename: str, allow_pipes: bool = False) -> np.ndarray:
    """Read one object by its extended file name.

    Args:
        rxfilename: ``path``, ``path:offset`` or ``command |``, any with a range: ``[0:9]``, ``[:,2:5]`` (0-based, both ends counted).
        allow_pipes: run commands.

    Returns:
        float32 or float64 matrix or vector as stored (compressed or text: float32), or int32 vector (a single integer: 0-d).

    Raises:
        UserError: missing, truncated or corrupt file; range outside the object; a command that is not allowed or fails.
    """
    location = parse_rxfilename(rxfilename)
    with _open(location.path, allow_pipes) as stream:
        return _read_at(stream, location, str(location))


def read_scp_objects(scp, allow_pipes: bool = False):
    """Yield (key, array) for each line of a script file (or of a mapping key -> extended file name), in its order.

    The lines need not be sorted; a key that is there twice is an error. Errors and arrays as in :func:`read_object`; messages name
    the key.
    """
    table = read_table(scp, check_sorted=False) if not hasattr(scp, "items") else scp
    path, stream = None, None
    try:
        for key, rxfilename in table.items():
            try:
                location = parse_rxfilename(rxfilename)
            except UserError as error:
                raise UserError(f"{key}: {error}") from None
            if location.path != path:
                if stream is not None:
                    stream.close()
                path, stream = None, None  # nothing to close twice, should the next file not open
                stream = _open_file(location.path, allow_pipes, key)
                path = location.path
            yield key, _read_at(stream, location, f"{location} ({key})")
    finally:
        if stream is not None:
            stream.close()


def read_ark(path, allow_pipes: bool = False):
    """Yield (key, array) for each object of an archive, in its order.

    Args:
        path: an archive, ``-`` for standard input, or ``command |``. An archive of length zero has no objects.
        allow_pipes: run commands.

    Raises:
        UserError: the archive is missing, truncated (also inside a key, where Kaldi takes it for the end) or corrupt, or a key is there
            twice; names file, key and offset.
    """
    seen = set()
    with _open(str(path), allow_pipes) as stream:
        while key := _read_key(stream, path):
            of = f"{path}, byte {stream.tell()} ({key})"
            if key in seen:
                raise UserError(f"{of}: the key is there twice; make the archive again")
            seen.add(key)
            yield key, read_object_at(stream, of)


def _read_key(stream, path) -> str:
    """Read a key and the blank after it; an empty string at the end of the file. Line ends before a key belong to a text object."""
    byte = stream.read(1)
    while byte in (b"\n", b"\r", b" ", b"\t") and byte:
        byte = stream.read(1)
    start = stream.tell() - len(byte)
    key = b""
    while byte not in (b" ", b"\t", b"\n", b""):
        key += byte
        byte = stream.read(1)
    if byte == b"\n":
        stream.seek(-1, io.SEEK_CUR)  # an empty line of integers
    try:
        name = key.decode("utf-8")
    except UnicodeDecodeError:
        name = "\0"
    if not name.isprintable():
        raise UserError(
            f"{path}, byte {start}: expected a key, got {key[:20]!r}: corrupt, or after an empty compressed matrix, which Kaldi "
            "writes but cannot read; make it again"
        )
    if name and not byte:
        raise UserError(f"{path}, byte {start}: the file ends inside the key '{name}': truncated; make it again")
    return name


def _read_at(stream, location: Location, of: str) -> np.ndarray:
    stream.seek(location.offset)
    return select(read_object_at(stream, of, alone=location.offset == 0), location, of)


def _open_file(path: str, allow_pipes: bool, key: str = ""):
    if path.endswith("|"):
        return io.BytesIO(run_pipe(path, allow_pipes))
    if path == "-":
        return io.BytesIO(sys.stdin.buffer.read())
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"cannot read {path}{f' ({key})' if key else ''}: {error.strerror}") from error


@contextmanager
def _open(path: str, allow_pipes: bool):
    with _open_file(path, allow_pipes) as stream:
        yield stream
