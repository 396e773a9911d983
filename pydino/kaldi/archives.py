"""Reading archives and scripts: single objects by extended file name, all objects of a script, all objects of
an archive.
"""

import io
import os
import sys

import numpy as np

from pydino.base import UserError

from .objects import read_header, read_object_at
from .rxfilename import Location, clip_rows, parse_rxfilename, run_pipe, select
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
    with ObjectReader(allow_pipes) as reader:
        return reader.read(rxfilename, key)


class ObjectReader:
    """Reads objects by their extended file names; the file that was read last stays open.

    Consecutive entries of a script are mostly in the same archive, which is then opened only once. A pickled
    copy opens its own file. Use as a context, or close it.
    """

    def __init__(self, allow_pipes: bool = False):
        self._allow_pipes = allow_pipes
        self._path, self._stream = None, None

    def read(self, rxfilename: str, key: str = "") -> np.ndarray:
        """Read one object: arguments, result and errors are those of :func:`read_object`."""
        location = self._go_to(rxfilename, key)
        of = f"{location} ({key})" if key else str(location)
        return select(read_object_at(self._stream, of, alone=location.offset == 0), location, of)

    def shape(self, rxfilename: str) -> tuple[int, ...]:
        """Return the shape of a matrix or vector from its header, with the range in ``rxfilename`` applied.

        Raises:
            UserError: missing, no such object there, or the file ends before the object does.
        """
        location = self._go_to(rxfilename)
        if self._stream.read(2) != b"\0B":  # a text archive has no header
            return self.read(rxfilename).shape
        header = read_header(self._stream, str(location))
        lacking = header.start + header.size - os.fstat(self._stream.fileno()).st_size
        if lacking > 0:
            raise UserError(f"{location}: truncated, {lacking} bytes are missing at the end; regenerate it")
        shape = list(header.shape)
        if location.rows:
            first, end = clip_rows(location.rows, shape[0], str(location))
            shape[0] = end - first
        if location.columns and len(shape) == 2:
            shape[1] = location.columns[1] - location.columns[0] + 1
        return tuple(shape)

    def _go_to(self, rxfilename: str, key: str = "") -> Location:
        location = _locate(rxfilename, key)
        if location.path != self._path:
            self.close()
            self._stream = _open_file(location.path, self._allow_pipes, key)
            self._path = location.path
        self._stream.seek(location.offset)
        return location

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._stream is not None:
            self._stream.close()
        self._path, self._stream = None, None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __del__(self):
        self.close()

    def __getstate__(self):
        return {**self.__dict__, "_path": None, "_stream": None}


def read_scp_objects(scp, allow_pipes: bool = False):
    """Yield (key, array) for each line of a script file (or of a mapping key -> extended file name), in its
    order.

    The lines need not be sorted; a duplicate key is an error. Errors and arrays as in
    :func:`read_object`; messages name the key.
    """
    table = read_table(scp, check_sorted=False) if not hasattr(scp, "items") else scp
    with ObjectReader(allow_pipes) as reader:
        for key, rxfilename in table.items():
            yield key, reader.read(rxfilename, key)


def read_ark(path, allow_pipes: bool = False):
    """Yield (key, array) for each object of an archive, in its order.

    Args:
        path: an archive, ``-`` for standard input, or ``command |``. An archive of length zero has no
            objects.
        allow_pipes: run commands.

    Raises:
        UserError: the archive is missing, truncated (also inside a key, where Kaldi assumes the end) or
            corrupt, or has a duplicate key; names file, key and offset.
    """
    seen = set()
    with _open_file(str(path), allow_pipes) as stream:
        while key := _read_key(stream, path):
            of = f"{path}, byte {stream.tell()} ({key})"
            if key in seen:
                raise UserError(f"{of}: duplicate key; regenerate the archive")
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
            "matrix, which Kaldi writes but cannot read; make it again"
        )
    if name and not byte:
        raise UserError(
            f"{path}, byte {start}: the file ends inside the key '{name}': truncated; regenerate it"
        )
    return name


def _locate(rxfilename: str, key: str) -> Location:
    try:
        return parse_rxfilename(rxfilename)
    except UserError as error:
        raise UserError(f"{key}: {error}" if key else str(error)) from None


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
            f"cannot read {path}{of}: {error.strerror}; is the path right, relative to the current folder?"
        ) from error
