"""Objects of archives, one at a time, from an open file: matrices, vectors, integer vectors; binary and text; compressed or not."""

import struct
from dataclasses import dataclass

import numpy as np

from pydino.base import UserError

from . import compressed

_FLOATS = {"FM": np.float32, "DM": np.float64, "FV": np.float32, "DV": np.float64}
_INT = struct.Struct("<bi")  # Kaldi writes the size, 4, before each int32


@dataclass(frozen=True)
class Header:
    """What stands before the numbers of a binary object.

    Attributes:
        token: FM, DM (matrices), FV, DV (vectors), CM, CM2, CM3 (compressed matrices) or I (integers).
        shape: (rows, columns) or (length,).
        start: position in the file of the first byte after the header.
        scale: (min, range) of a compressed matrix.
    """

    token: str
    shape: tuple[int, ...]
    start: int
    scale: tuple[float, float] | None = None

    @property
    def size(self) -> int:
        """Bytes of the body."""
        if self.token == "I":
            return 5 * self.shape[0]
        if self.token in compressed.TOKENS:
            return compressed.body_size(self.token, *self.shape)
        return int(np.prod(self.shape)) * np.dtype(_FLOATS[self.token]).itemsize


def _exactly(stream, size: int, what: str, of: str) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise UserError(f"{of}: the file ends inside the {what} ({len(data)} of {size} bytes): truncated; make it again")
    return data


def read_header(stream, of: str) -> Header:
    """Read the header of a binary object whose ``\\0B`` has been read.

    Raises:
        UserError: truncated, or not an object of Kaldi's; ``of`` names it.
    """
    first = _exactly(stream, 1, "header", of)
    if first == b"\4":
        length = struct.unpack("<i", _exactly(stream, 4, "header", of))[0]
        return Header("I", (length,), stream.tell())
    token = first
    while not token.endswith(b" ") and len(token) < 5:
        token += _exactly(stream, 1, "header", of)
    token = token.decode("latin-1").strip()
    if token in compressed.TOKENS:
        minimum, extent, rows, columns = compressed.HEADER.unpack(_exactly(stream, 16, "header", of))
        header = Header(token, (rows, columns), stream.tell(), (minimum, extent))
    elif token in _FLOATS:
        dimensions = 2 if token.endswith("M") else 1
        sizes = [_INT.unpack(_exactly(stream, 5, "header", of)) for _ in range(dimensions)]
        if any(size != 4 for size, _ in sizes):
            raise UserError(f"{of}: the header is not one of Kaldi's: corrupt, or not an archive")
        header = Header(token, tuple(value for _, value in sizes), stream.tell())
    else:
        raise UserError(f"{of}: unknown type '{token}': corrupt, or not an archive of matrices or vectors")
    if min(header.shape) < 0:
        raise UserError(f"{of}: the header gives the shape {header.shape}: corrupt")
    return header


def read_binary(stream, of: str, alone: bool = False) -> np.ndarray:
    """Read a binary object whose ``\\0B`` has been read.

    Args:
        stream: a seekable binary file.
        of: names the object in messages: file, key, offset.
        alone: the object is a file of its own; Kaldi writes integer vectors without the size bytes then.
    """
    header = read_header(stream, of)
    if header.token == "I":
        return _read_integers(stream, header, of, alone)
    data = _exactly(stream, header.size, "numbers", of)
    if header.token in compressed.TOKENS:
        return decode(header, data)
    return np.frombuffer(data, _FLOATS[header.token]).reshape(header.shape).copy()


def decode(header: Header, data: bytes) -> np.ndarray:
    """Decode the body of a compressed matrix to float32."""
    rows, columns = header.shape
    if header.token != "CM":
        codes = np.frombuffer(data, np.uint16 if header.token == "CM2" else np.uint8).reshape(rows, columns)
        return compressed.decode_rows(header.token, codes, *header.scale, None)
    headers = np.frombuffer(data, np.uint16, 4 * columns).reshape(columns, 4)
    codes = np.frombuffer(data, np.uint8, rows * columns, 8 * columns).reshape(columns, rows).T
    return np.ascontiguousarray(compressed.decode_rows("CM", codes, *header.scale, headers))


def _read_integers(stream, header, of, alone):
    length = header.shape[0]
    if alone:
        return np.frombuffer(_exactly(stream, 4 * length, "numbers", of), np.int32).copy()
    data = stream.read(5 * length)
    # A single integer (num_utts.ark) looks like the head of a vector; only a vector goes on with size bytes.
    if length and (len(data) < 5 or data[0] != 4):
        stream.seek(header.start)
        return np.array(length, dtype=np.int32)
    if len(data) < 5 * length:
        raise UserError(f"{of}: the file ends inside the numbers ({len(data)} of {5 * length} bytes): truncated; make it again")
    cells = np.frombuffer(data, np.dtype([("size", "<i1"), ("value", "<i4")]))
    if (cells["size"] != 4).any():
        raise UserError(f"{of}: not a vector of 32-bit integers: corrupt")
    return cells["value"].copy()


def read_text(stream, of: str) -> np.ndarray:
    """Read a text object: ``[ 1 2 3 ]``, a matrix with a row a line (or ``;``), or bare integers up to the end of the line.

    A vector and a matrix of one row differ by where the numbers begin: a matrix begins on the next line.
    """
    line = stream.readline().decode("utf-8", "replace")
    if "[" not in line:
        try:
            values = [int(word) for word in line.split()]
        except ValueError:
            raise UserError(f"{of}: expected '[', got '{line.strip()[:30]}'") from None
        return np.array(values, dtype=np.int32)
    before, _, content = line.partition("[")
    if before.strip() or (content and not content[0].isspace()):
        raise UserError(f"{of}: expected '[' standing alone, got '{line.strip()[:30]}'")
    is_matrix = not content.strip()
    while "]" not in content:
        line = stream.readline().decode("utf-8", "replace")
        if not line:
            raise UserError(f"{of}: the file ends before the closing ']': truncated; make it again")
        content += line
    content = content.partition("]")[0]
    rows = [row.split() for row in content.replace(";", "\n").split("\n")]
    rows = [row for row in rows if row]
    is_matrix = is_matrix or len(rows) > 1
    try:
        values = [[float(word) for word in row] for row in rows]
    except ValueError as error:
        raise UserError(f"{of}: not a number: {error}") from None
    if len({len(row) for row in values}) > 1:
        raise UserError(f"{of}: the rows have {sorted({len(row) for row in values})} columns; they must all have the same")
    if not is_matrix:
        return np.array(values[0] if values else [], dtype=np.float32)
    return np.array(values, dtype=np.float32).reshape(len(values), -1 if values else 0)


def read_object_at(stream, of: str, alone: bool = False) -> np.ndarray:
    """Read the object, binary or text, at the position of ``stream``."""
    position = stream.tell()
    head = stream.read(2)
    if head == b"\0B":
        return read_binary(stream, of, alone)
    if not head:
        raise UserError(f"{of}: nothing is there (end of the file): truncated; make it again")
    stream.seek(position)
    return read_text(stream, of)
