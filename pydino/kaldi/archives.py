"""Reading archives and scripts: one object by its extended file name, those of a script, those of an archive
in order.
"""

import io
import sys

import numpy as np

from pydino.base import UserError

from .objects import read_object_at
from .rxfilename import Location, parse_rxfilename, run_pipe, select
from .tables import read_table


def read_object(rxfilename: str, allow_pipes: bool = False, key: str = "") -> np.ndarray:
    """Read one object by its extended file name.

    Args:
        rxfilename: ``path``, ``path:offset`` or ``command |``, any with a range: ``[0:9]``, ``[:,2:5]``
            (0-based, both ends counted).
        allow_pipes: run commands.
        key: named in messages.

    Returns:
        float32 or float64 matrix or vector as stored (compressed or text: float32), or int32 vector (a single
            integer: 0-d).

    Raises:
        UserError: missing, truncated or corrupt file; range outside the object; a command that is not allowed
            or fails.
    """
    location = _locate(rxfilename, key)
    with _open_file(location.path, allow_pipes, key) as stream:
        return _read_at(stream, location, key)


def read_scp_objects(scp, allow_pipes: bool = False):
    """Yield (key, array) for each line of a script file (or of a mapping key -> extended file name), in its
    order.

    The lines need not be sorted; a key that is there twice is an error. Errors and arrays as in
    :func:`read_object`; messages name the key.
    """
    table = read_table(scp, check_sorted=False) if not hasattr(scp, "items") else scp
    path, stream = None, io.BytesIO()
    try:
        for key, rxfilename in table.items():
            location = _locate(rxfilename, key)
            if location.path != path:
                stream.close()
                stream, path = _open_file(location.path, allow_pipes, key), location.path
            yield key, _read_at(stream, location, key)
    finally:
        stream.close()


def read_ark(path, allow_pipes: bool = False):
    """Yield (key, array) for each object of an archive, in its order.

    Args:
        path: an archive, ``-`` for standard input, or ``command |``. An archive of length zero has no
            objects.
        allow_pipes: run commands.

    Raises:
        UserError: the archive is missing, truncated (also inside a key, where Kaldi takes it for the end) or
            corrupt, or a key is there twice; names file, key and offset.
    """
    seen = set()
    with _open_file(str(path), allow_pipes) as stream:
        while key := _read_key(stream, path):
            of = f"{path}, byte {stream.tell()} ({key})"
            if key in seen:
                raise UserError(f"{of}: the key is there twice; make the archive again")
            seen.add(key)
            yield key, read_object_at(stream, of)


def _read_key(stream, path) -> str:
    """Read a key and the blank after it; an empty string at the end of the file. Line ends before a key
    belong to a text object.
    """
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
            f"{path}, byte {start}: expected a key, got {key[:20]!r}: corrupt, or after an empty compressed "
            "matrix, which Kaldi "
            "writes but cannot read; make it again"
        )
    if name and not byte:
        raise UserError(
            f"{path}, byte {start}: the file ends inside the key '{name}': truncated; make it again"
        )
    return name


def _locate(rxfilename: str, key: str) -> Location:
    try:
        return parse_rxfilename(rxfilename)
    except UserError as error:
        raise UserError(f"{key}: {error}" if key else str(error)) from None


def _read_at(stream, location: Location, key: str) -> np.ndarray:
    of = f"{location} ({key})" if key else str(location)
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
        of = f" ({key})" if key else ""
        raise UserError(
            f"cannot read {path}{of}: {error.strerror}; is the path right, seen from this folder?"
        ) from error
