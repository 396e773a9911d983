"""Pieces of matrices read at random from archives, by offset, without reading the rest."""

import io
import os
from collections import OrderedDict

import numpy as np

from pydino.base import UserError

from . import compressed
from .objects import Header, read_header
from .rxfilename import Location, clip_rows, parse_rxfilename
from .tables import read_table

_OPEN_FILES = 64
_HEAD = 64  # bytes that hold any binary header


class ChunkReader:
    """Random access to rows of the matrices of a script file.

    Every read is one ``pread`` (of a column-wise compressed matrix: one for its column headers and codes), so that readers in
    several processes or threads do not disturb each other. Text archives and pipes are refused: they have no random access.

    Args:
        scp: path of a script file, or mapping key -> extended file name (a row range is honoured, a column range refused).

    Attributes:
        keys: the keys, in order.
        dim: columns of every matrix (checked when one is first read).
    """

    def __init__(self, scp):
        table = scp if isinstance(scp, dict) else read_table(scp)
        self._name = "the given table" if isinstance(scp, dict) else str(scp)
        if not table:
            raise UserError(f"{self._name} is empty: there is nothing to read")
        self.keys = list(table)
        self._locations: dict[str, Location] = {key: parse_rxfilename(value) for key, value in table.items()}
        self._headers: dict[str, Header] = {}
        self._files: OrderedDict[str, int] = OrderedDict()
        self._process = os.getpid()
        self.dim = self._header(self.keys[0]).shape[1]

    def _file(self, path: str) -> int:
        if self._process != os.getpid():  # forked: the parent's descriptors are shared, and pread leaves them alone
            self._process = os.getpid()
        handle = self._files.get(path)
        if handle is None:
            try:
                handle = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise UserError(f"cannot read {path}: {error.strerror}") from error
            self._files[path] = handle
            if len(self._files) > _OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
        else:
            self._files.move_to_end(path)
        return handle

    def _header(self, key: str) -> Header:
        header = self._headers.get(key)
        if header is None:
            location = self._locations.get(key)
            if location is None:
                raise UserError(f"'{key}' is not in {self._name}")
            of = f"{location} ({key})"
            if location.is_pipe or location.columns is not None:
                raise UserError(f"{of}: rows cannot be read at random from a command or a range of columns; copy it with pydino copy-feats")
            head = os.pread(self._file(location.path), _HEAD, location.offset)
            if head[:2] != b"\0B":
                raise UserError(f"{of}: no binary object is there; text archives have no random access, copy them with pydino copy-feats")
            stream = io.BytesIO(head)
            stream.seek(2)
            header = read_header(stream, of)
            if len(header.shape) != 2:
                raise UserError(f"{of}: a vector, where a matrix is expected")
            header = Header(header.token, header.shape, location.offset + header.start, header.scale)
            end = os.fstat(self._file(location.path)).st_size
            if header.start + header.size > end:
                raise UserError(f"{of}: the file ends inside the numbers: truncated; make it again")
            if self._headers and header.shape[1] != self.dim:
                raise UserError(f"{of}: {header.shape[1]} columns, where the others have {self.dim}")
            self._headers[key] = header
        return header

    def _interval(self, key: str) -> tuple[int, int]:
        header, rows = self._header(key), self._locations[key].rows
        return (0, header.shape[0]) if rows is None else clip_rows(rows, header.shape[0], f"{self._locations[key]} ({key})")

    def num_frames(self, key: str) -> int:
        """Return the number of rows of a matrix; reads its header only, once."""
        first, end = self._interval(key)
        return end - first

    def read(self, key: str, start: int = 0, length: int | None = None) -> np.ndarray:
        """Return rows ``start`` to ``start + length`` of a matrix, float32, (length, dim).

        Raises:
            UserError: the key is unknown or the file truncated or corrupt.
            IndexError: the rows are outside the matrix.
        """
        header = self._header(key)
        first, end = self._interval(key)
        length = end - first - start if length is None else length
        if start < 0 or length < 0 or first + start + length > end:
            raise IndexError(f"{key}: rows {start} to {start + length} are outside its {end - first} rows")
        start += first
        handle, (rows, columns) = self._file(self._locations[key].path), header.shape
        if header.token == "CM":
            return self._read_columns(handle, header, start, length, key)
        width = header.size // max(1, rows)
        data = os.pread(handle, width * length, header.start + width * start)
        if len(data) < width * length:
            raise UserError(f"{self._locations[key]} ({key}): the file ends inside the numbers: truncated; make it again")
        if header.token == "FM":
            return np.frombuffer(data, np.float32).reshape(length, columns)
        if header.token == "DM":
            return np.frombuffer(data, np.float64).reshape(length, columns).astype(np.float32)
        codes = np.frombuffer(data, np.uint16 if header.token == "CM2" else np.uint8).reshape(length, columns)
        return compressed.decode_rows(header.token, codes, *header.scale, None)

    def _read_columns(self, handle, header, start, length, key):
        # Column-wise codes: the rows asked for are spread over the whole body, one byte a value. One read of the span from the
        # first column's first to the last column's last row is at most a quarter of the plain matrix, and one system call.
        rows, columns = header.shape
        headers = np.frombuffer(os.pread(handle, 8 * columns, header.start), np.uint16).reshape(columns, 4)
        span = rows * (columns - 1) + length
        data = os.pread(handle, span, header.start + 8 * columns + start)
        if len(data) < span:
            raise UserError(f"{self._locations[key]} ({key}): the file ends inside the numbers: truncated; make it again")
        codes = np.lib.stride_tricks.as_strided(np.frombuffer(data, np.uint8), (length, columns), (1, rows))
        return np.ascontiguousarray(compressed.decode_rows("CM", codes, *header.scale, headers))

    def read_into(self, out: np.ndarray, keys, starts) -> None:
        """Fill ``out`` (n, length, dim), float32, with rows ``starts[i]`` and on of matrix ``keys[i]``."""
        length = out.shape[1]
        for row, key, start in zip(out, keys, starts, strict=True):
            row[...] = self.read(key, int(start), length)
