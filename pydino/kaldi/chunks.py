"""Random access to rows of archived matrices, by offset, without reading the rest."""

import io
import os
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from pydino.base import UserError

from . import compressed
from .objects import FLOATS, read_header
from .rxfilename import clip_rows, parse_rxfilename
from .tables import read_table

_OPEN_FILES = 64
_HEAD = 64  # bytes that hold any binary header
# Of a column-wise matrix, up to this many rows are skipped by reading over them: one system call for all
# columns costs less than one for each. Longer ones are read column by column.
_READ_OVER = 16384


class _Matrix(NamedTuple):
    """Where a matrix is stored; a range of rows is already applied."""

    of: str  # for messages: file, offset, key
    path: str
    token: str
    start: int  # of the body
    first: int  # row
    rows: int
    stored_rows: int
    stored_columns: int
    columns: slice
    scale: tuple[float, float] | None


class ChunkReader:
    """Random access to rows of the matrices of a script file, plain and compressed, by ``pread``.

    Readers in forked processes are independent, and a reader may be pickled. The 64 files used last stay
    open. Text archives and commands are refused: they have no random access.

    Args:
        scp: path of a script file, or mapping key -> extended file name; ranges of rows and columns are
            honoured.

    Attributes:
        keys: the keys, in order.
        dim: columns of every matrix (of each, checked when it is first read).

    Raises:
        UserError: unreadable, empty or malformed script; here and in every method: a file that is missing,
            truncated or no matrix.
    """

    def __init__(self, scp):
        self._table = dict(scp) if hasattr(scp, "items") else read_table(scp, check_sorted=False)
        self._name = "the given table" if hasattr(scp, "items") else str(scp)
        if not self._table:
            raise UserError(f"{self._name} is empty: there is nothing to read")
        self.keys = list(self._table)
        self._matrices: dict[str, _Matrix] = {}
        self._files: OrderedDict[str, int] = OrderedDict()
        self._last_columns: tuple[str, np.ndarray] = ("", np.empty(0))
        self.dim = None
        self._matrix(self.keys[0])

    def num_frames(self, key: str) -> int:
        """Return the number of rows of a matrix; reads its header only, once."""
        return self._matrix(key).rows

    def read(self, key: str, start: int = 0, length: int | None = None) -> np.ndarray:
        """Return rows ``start`` to ``start + length`` (default: to the end) of a matrix: float32 (length,
        dim).

        Raises:
            IndexError: the rows are outside the matrix.
        """
        matrix = self._matrix(key)
        length = max(0, matrix.rows - start) if length is None else length
        out = np.empty((length, self.dim), np.float32)
        self._fill(out, key, matrix, start)
        return out

    def close(self) -> None:
        """Close the files; a later read opens them again."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __getstate__(self):
        return {**self.__dict__, "_files": OrderedDict()}

    def __del__(self):
        if hasattr(self, "_files"):
            self.close()

    def _fill(self, out, key, matrix, start) -> None:
        if start < 0 or start + len(out) > matrix.rows:
            raise IndexError(f"{key}: rows {start} to {start + len(out)} are outside its {matrix.rows} rows")
        if not out.size:
            return
        handle = self._open(matrix.path, matrix.of)
        start += matrix.first
        if matrix.token == "FM" and matrix.stored_columns == self.dim:
            if os.preadv(handle, [out], matrix.start + 4 * self.dim * start) < out.nbytes:
                self._truncated(matrix)
        elif matrix.token == "CM":
            values = self._column_values(handle, key, matrix)[matrix.columns]
            out[...] = compressed.decode_columns(
                values, self._column_codes(handle, matrix, start, len(out))
            ).T
        else:
            kind = FLOATS.get(matrix.token) or compressed.CODES[matrix.token]
            width = kind.itemsize * matrix.stored_columns
            data = self._pread(handle, width * len(out), matrix.start + width * start, matrix)
            stored = np.frombuffer(data, kind).reshape(len(out), -1)[:, matrix.columns]
            out[...] = compressed.decode_rows(matrix.token, *matrix.scale, stored) if matrix.scale else stored

    def _column_values(self, handle, key, matrix) -> np.ndarray:
        # Cached for the last matrix: crops of one utterance are read one after another.
        if self._last_columns[0] != key:
            headers = self._pread(handle, 8 * matrix.stored_columns, matrix.start, matrix)
            values = compressed.column_values(*matrix.scale, np.frombuffer(headers, "<u2").reshape(-1, 4))
            self._last_columns = (key, values)
        return self._last_columns[1]

    def _column_codes(self, handle, matrix, start, length) -> np.ndarray:
        """Return the codes (columns, length) of some rows of a matrix that is stored column by column."""
        rows = matrix.stored_rows
        first, last, _ = matrix.columns.indices(matrix.stored_columns)
        position = matrix.start + 8 * matrix.stored_columns + first * rows + start
        if rows - length <= _READ_OVER:
            data = self._pread(handle, rows * (last - first - 1) + length, position, matrix)
            return np.lib.stride_tricks.as_strided(
                np.frombuffer(data, np.uint8), (last - first, length), (rows, 1), writeable=False
            )
        parts = (
            self._pread(handle, length, position + rows * column, matrix) for column in range(last - first)
        )
        return np.frombuffer(b"".join(parts), np.uint8).reshape(last - first, length)

    def _matrix(self, key: str) -> _Matrix:
        return self._matrices.get(key) or self._locate(key)

    def _locate(self, key: str) -> _Matrix:
        if key not in self._table:
            raise UserError(f"'{key}' is not in {self._name}")
        location = parse_rxfilename(self._table[key])
        of = f"{location} ({key})"
        if location.is_pipe:
            raise UserError(
                f"{of}: no random access to the output of a command; copy it with pydino copy-feats"
            )
        handle = self._open(location.path, of)
        stream = io.BytesIO(os.pread(handle, _HEAD, location.offset))
        if stream.read(2) != b"\0B":
            raise UserError(
                f"{of}: no binary object here: a wrong offset, or a text archive, which has no random "
                "access; copy that with pydino copy-feats"
            )
        header = read_header(stream, of)
        if len(header.shape) != 2:
            raise UserError(f"{of}: a vector, where a matrix is expected")
        start = location.offset + header.start
        if start + header.size > os.fstat(handle).st_size:
            raise UserError(f"{of}: the file ends inside the numbers: truncated; make it again")
        rows, columns = header.shape
        first, end = clip_rows(location.rows, rows, of) if location.rows is not None else (0, rows)
        chosen = (
            slice(0, columns)
            if location.columns is None
            else slice(location.columns[0], location.columns[1] + 1)
        )
        if chosen.stop > columns:
            raise UserError(
                f"{of}: columns {chosen.start}:{chosen.stop - 1} are outside its {columns} columns"
            )
        dim = chosen.stop - chosen.start
        if self.dim is None:
            self.dim = dim
        elif dim != self.dim and rows:  # Kaldi's empty matrix has no columns either
            raise UserError(f"{of}: {dim} columns, but the other matrices have {self.dim}")
        matrix = _Matrix(
            of, location.path, header.token, start, first, end - first, rows, columns, chosen, header.scale
        )
        self._matrices[key] = matrix
        return matrix

    def _open(self, path: str, of: str) -> int:
        handle = self._files.get(path)
        if handle is None:
            try:
                handle = os.open(path, os.O_RDONLY)
            except OSError as error:
                raise UserError(
                    f"cannot read {of}: {error.strerror}; is the path right, relative to the current folder?"
                ) from error
            self._files[path] = handle
            if len(self._files) > _OPEN_FILES:
                os.close(self._files.popitem(last=False)[1])
        else:
            self._files.move_to_end(path)
        return handle

    def _pread(self, handle, size, position, matrix) -> bytes:
        data = os.pread(handle, size, position)
        if len(data) < size:
            self._truncated(matrix)
        return data

    def _truncated(self, matrix):
        raise UserError(f"{matrix.of}: the file ends inside the numbers: truncated; make it again")
