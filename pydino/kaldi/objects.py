"""One object of an archive, read from an open file: matrix, compressed matrix, vector or integers; binary or
text.

The formats are those of ``src/matrix`` and ``src/base/io-funcs*`` in Kaldi. kaldiio reads them too, but
returns truncated vectors as shorter ones, guesses integers from text without a decimal point, and unpickles
objects marked as pickles; hence this reader.
"""

import io
import os
import struct
from dataclasses import dataclass

import numpy as np

from pydino.base import UserError

from . import compressed

FLOATS = {"FM": np.dtype("<f4"), "DM": np.dtype("<f8"), "FV": np.dtype("<f4"), "DV": np.dtype("<f8")}
INTEGER = np.dtype([("size", "i1"), ("value", "<i4")])  # Kaldi writes the size, 4, before each int32
_INT = struct.Struct("<bi")


@dataclass(frozen=True)
class Header:
    """The header of a binary object.

    Attributes:
        token: FM, DM (matrices), FV, DV (vectors), CM, CM2, CM3 (compressed matrices) or I (integers).
        shape: (rows, columns) or (length,).
        start: position in the file of the first byte after the header.
        scale: (minimum, range) of a compressed matrix.
    """

    token: str
    shape: tuple[int, ...]
    start: int
    scale: tuple[float, float] | None = None

    @property
    def size(self) -> int:
        """Bytes of the body."""
        if self.token == "I":
            return INTEGER.itemsize * self.shape[0]
        if self.token in compressed.CODES:
            return compressed.body_size(self.token, *self.shape)
        columns = self.shape[1] if len(self.shape) == 2 else 1
        return self.shape[0] * columns * FLOATS[self.token].itemsize


def read_object_at(stream, of: str, alone: bool = False) -> np.ndarray:
    """Read the object, binary or text, at the position of ``stream``.

    Args:
        stream: a seekable binary file.
        of: names the object in messages: file, offset, key.
        alone: the object is a whole file; Kaldi writes integer vectors without the size bytes then.

    Returns:
        float32 or float64 as stored, matrix (R, C) or vector (D,); float32 of a compressed matrix or of text;
        int32 vector, or 0-d array of a single integer. Writable.

    Raises:
        UserError: truncated, corrupt, or not an object of Kaldi's.
    """
    position = stream.tell()
    head = stream.read(2)
    if head == b"\0B":
        return read_binary(stream, of, alone)
    if not head:
        raise UserError(
            f"{of}: the file ends before this object: truncated, or a wrong offset; regenerate it"
        )
    stream.seek(position)
    return read_text(stream, of)


def read_header(stream, of: str) -> Header:
    """Read the header of a binary object whose ``\\0B`` has been read.

    Raises:
        UserError: truncated, or not an object of Kaldi's; ``of`` names it.
    """
    token = _exactly(stream, 1, "header", of)
    if token == b"\4":
        header = Header("I", struct.unpack("<i", _exactly(stream, 4, "header", of)), stream.tell())
        return (
            header if header.shape[0] >= 0 else _corrupt(of, f"the header gives {header.shape[0]} integers")
        )
    while not token.endswith(b" ") and len(token) < 4:
        token += _exactly(stream, 1, "header", of)
    name = token.decode("latin-1").rstrip(" ")
    if name in compressed.CODES:
        minimum, extent, *shape = compressed.HEADER.unpack(
            _exactly(stream, compressed.HEADER.size, "header", of)
        )
        header = Header(name, tuple(shape), stream.tell(), (minimum, extent))
    elif name in FLOATS:
        sizes = [
            _INT.unpack(_exactly(stream, _INT.size, "header", of))
            for _ in range(2 if name.endswith("M") else 1)
        ]
        if any(size != 4 for size, _ in sizes):
            _corrupt(of, "the sizes in the header are not 32-bit integers")
        header = Header(name, tuple(value for _, value in sizes), stream.tell())
    else:
        raise UserError(
            f"{of}: unknown type {name!r}: corrupt, a wrong offset, or not an archive of matrices, vectors "
            "or integers"
        )
    if min(header.shape) < 0:
        _corrupt(of, f"the header gives the shape {header.shape}")
    return header


def read_binary(stream, of: str, alone: bool = False) -> np.ndarray:
    """Read a binary object whose ``\\0B`` has been read; arguments, result and errors as for
    :func:`read_object_at`.
    """
    header = read_header(stream, of)
    if header.token == "I":
        return _read_integers(stream, header, of, alone)
    if header.token in compressed.CODES:
        return compressed.decode(
            header.token, *header.scale, header.shape, _exactly(stream, header.size, "numbers", of)
        )
    _check_left(stream, header.size, of)
    array = np.empty(header.shape, FLOATS[header.token])
    if array.size:
        stream.readinto(array.reshape(-1).view(np.uint8))
    return array


def _exactly(stream, size: int, what: str, of: str) -> bytes:
    if size > 4096:
        _check_left(stream, size, of)
    data = stream.read(size)
    if len(data) < size:
        raise UserError(
            f"{of}: the file ends inside the {what} ({len(data)} of {size} bytes): truncated; regenerate it"
        )
    return data


def _check_left(stream, size: int, of: str) -> None:
    """Raise if fewer than ``size`` bytes are left, before memory is allocated for the sizes in a corrupt
    header.
    """
    end = stream.getbuffer().nbytes if isinstance(stream, io.BytesIO) else os.fstat(stream.fileno()).st_size
    left = end - stream.tell()
    if left < size:
        raise UserError(
            f"{of}: the file ends inside the numbers ({left} of {size} bytes): truncated; regenerate it"
        )


def _corrupt(of: str, why: str):
    raise UserError(f"{of}: {why}: corrupt, or a wrong offset; regenerate it")


def _read_integers(stream, header: Header, of: str, alone: bool) -> np.ndarray:
    length = header.shape[0]
    if alone:
        return np.frombuffer(_exactly(stream, 4 * length, "numbers", of), "<i4").copy()
    following = stream.read(1)
    stream.seek(header.start)
    # A single integer (num_utts.ark) looks like the header of a vector; only in a vector size bytes follow.
    if length and following != b"\4":
        return np.array(length, dtype=np.int32)
    cells = np.frombuffer(_exactly(stream, header.size, "numbers", of), INTEGER)
    if (cells["size"] != 4).any():
        _corrupt(of, "not a vector of 32-bit integers")
    return cells["value"].copy()


def read_text(stream, of: str) -> np.ndarray:
    """Read a text object: ``[ 1 2 3 ]``, a matrix with a row a line (or ``;``), or bare integers up to the
    end of the line.

    A vector and a matrix of one row differ by where the numbers begin: a matrix begins on the next line, as
    Kaldi writes it. ``[ ]`` is an empty vector. ``-inf``, which Kaldi writes but refuses to read, is
    accepted. Numbers become float32, and those beyond its range are refused, as in Kaldi.
    """
    line = stream.readline().decode("utf-8", "replace")
    if "[" not in line:
        return _integers_of(line, of)
    before, _, content = line.partition("[")
    if before.strip() or not (content[:1].isspace() or content[:1] == "]"):
        raise UserError(f"{of}: expected '[' with blanks around it, got {line.strip()[:30]!r}")
    matrix = not content.strip()
    while "]" not in content:
        line = stream.readline().decode("utf-8", "replace")
        if not line:
            raise UserError(f"{of}: the file ends before the closing ']': truncated; regenerate it")
        content += line
    lines = content.partition("]")[0].replace(";", "\n").split("\n")
    rows = [words for words in map(str.split, lines) if words]
    if len({len(row) for row in rows}) > 1:
        raise UserError(
            f"{of}: the rows have {sorted({len(row) for row in rows})} columns; they must all have the same "
            "number"
        )
    try:
        wide = np.array([[float(word) for word in row] for row in rows])
    except ValueError as error:
        raise UserError(f"{of}: not a number ({error})") from None
    with np.errstate(over="ignore"):
        array = wide.astype(np.float32)
    if (np.isinf(array) & np.isfinite(wide)).any():
        raise UserError(f"{of}: a number is beyond the range of 32-bit floats (3.4e38)")
    if not rows:
        return np.empty((0, 0) if matrix else (0,), np.float32)
    return array if matrix or len(rows) > 1 else array[0]


def _integers_of(line: str, of: str) -> np.ndarray:
    try:
        return np.array([int(word) for word in line.split()], dtype=np.int32)
    except ValueError:
        raise UserError(f"{of}: expected '[' or integers, got {line.strip()[:30]!r}") from None
    except OverflowError:
        raise UserError(f"{of}: an integer is beyond 32 bits") from None
