"""Writing archives: an archive and the script that points into it, both or neither."""

import io
import os
import sys
from contextlib import ExitStack

import numpy as np
from kaldiio.matio import write_array

from pydino.base import UserError, atomic_open

from . import compressed
from .objects import INTEGER
from .rxfilename import Location, parse_rxfilename


class ArchiveWriter:
    """Write an archive and, with it, the script that points into it.

    Both are written aside and renamed when the ``with`` block ends well, the script last, so that a script
    never points to missing objects; on an error (such as a full disk) earlier files stay as they were and no
    partial file remains.

    The script names the archive as it was given (a relative path stays relative) and is sorted by key in C
    order, whatever the order of writing. A path may contain blanks: Kaldi splits a line at its first blank
    only and reads it too, but many Kaldi scripts do not.

    Args:
        ark: path of the archive; folders are created as needed.
        scp: path of the script, or None.
        compression: None, or Kaldi's compression method 1 to 7 for matrices
            (:func:`pydino.kaldi.compressed.encode`). An empty matrix is written uncompressed: Kaldi cannot
            read past an empty compressed one.
        text: write text, with 7 significant digits like Kaldi; a float32 read back may differ in its last
            bits.

    Raises:
        UserError: on opening, writing or closing; names the file, and the key where there is one.
    """

    def __init__(self, ark, scp=None, compression: int | None = None, text: bool = False):
        self._ark, self._scp = os.fspath(ark), None if scp is None else os.fspath(scp)
        if compression is not None and compression not in compressed.METHODS:
            raise UserError(f"{ark}: the compression method must be 1 to 7, got {compression}")
        if compression is not None and text:
            raise UserError(f"{ark}: text cannot be compressed; omit one of the two")
        if parse_rxfilename(f"{ark}:0") != Location(self._ark) or "\n" in self._ark:
            raise UserError(
                f"'{ark}' cannot be named in a script file: no blank or '|' at its ends, no line break"
            )
        self._compression, self._text = compression, text

    def __enter__(self):
        self._positions: dict[str, int] = {}
        self._position = 0
        self._stack = ExitStack()
        try:
            # Exited in reverse order: the archive is renamed before its script.
            self._script = (
                self._stack.enter_context(atomic_open(self._scp)) if self._scp is not None else None
            )
            self._stream = self._stack.enter_context(atomic_open(self._ark, "wb"))
        except BaseException:
            self._stack.__exit__(*sys.exc_info())
            raise
        return self

    def write(self, key: str, array: np.ndarray) -> None:
        """Append one object: a matrix or vector of floats (32 or 64 bits), a vector of integers or a single
        integer (int32).

        Raises:
            UserError: the key is invalid or was written before, the array cannot be stored, or the disk is
                full.
        """
        if not key or key.split() != [key] or not key.isprintable():
            raise UserError(
                f"{self._ark}: {key!r} cannot be a key: keys are not empty, without blanks or control "
                "characters"
            )
        if key in self._positions:
            raise UserError(f"{self._ark}: duplicate key '{key}'")
        try:
            body = encode_object(array, self._compression, self._text)
        except ValueError as error:
            raise UserError(f"{self._ark}: '{key}' {error}") from None
        name = f"{key} ".encode()
        try:
            self._stream.write(name)
            self._stream.write(body)
        except OSError as error:
            raise self._unwritten(error) from error
        self._positions[key] = self._position + len(name)
        self._position += len(name) + len(body)

    def __exit__(self, kind, error, trace):
        if kind is None and self._script is not None:
            try:
                for key in sorted(self._positions, key=str.encode):
                    self._script.write(f"{key} {self._ark}:{self._positions[key]}\n")
                self._script.flush()
                self._stream.flush()
                # An earlier script would point into the new archive if we were killed between the two
                # renames.
                if os.path.exists(self._scp):
                    os.unlink(self._scp)
            except OSError as failure:
                error = self._unwritten(failure)
                self._stack.__exit__(UserError, error, None)
                raise error from failure
        return self._stack.__exit__(kind, error, trace)

    def _unwritten(self, error: OSError) -> UserError:
        return UserError(
            f"cannot write {self._ark}: {error.strerror or error}; nothing half-written is left; free some "
            "space or choose another place, and run the step again"
        )


def encode_object(array, compression: int | None = None, text: bool = False) -> bytes:
    """Return the bytes of an object in an archive, after its key and blank; arguments as for
    :class:`ArchiveWriter`.

    Raises:
        ValueError: the array cannot be stored; the message says why.
    """
    array = np.asarray(array)
    integers = array.dtype.kind in "iu" and array.ndim <= 1
    if not integers and (
        array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8) or array.ndim not in (1, 2)
    ):
        raise ValueError(
            f"is {array.dtype} of shape {array.shape}; only vectors and matrices of 32- or 64-bit floats "
            "and vectors of integers are stored"
        )
    if integers and array.size and not -(2**31) <= int(array.min()) <= int(array.max()) < 2**31:
        raise ValueError("has integers beyond 32 bits")
    if text:
        return _integer_text(array) if integers else _float_text(array)
    if integers:
        return _integer_bytes(array)
    if compression is not None and array.ndim == 2 and array.size:
        if not np.isfinite(array).all():
            raise ValueError("has NaN or infinity in it, which cannot be compressed")
        return b"\0B" + compressed.encode(array, compression)
    stream = io.BytesIO()
    write_array(stream, array.astype(array.dtype.newbyteorder("<"), copy=False))
    return stream.getvalue()


def _integer_bytes(array: np.ndarray) -> bytes:
    if array.ndim == 0:
        return b"\0B\4" + int(array).to_bytes(4, "little", signed=True)
    cells = np.empty(len(array), INTEGER)
    cells["size"], cells["value"] = 4, array
    return b"\0B\4" + len(array).to_bytes(4, "little") + cells.tobytes()


def _integer_text(array: np.ndarray) -> bytes:
    return ("".join(f"{value} " for value in np.atleast_1d(array).tolist()) + "\n").encode()


def _float_text(array: np.ndarray) -> bytes:
    if not array.size:
        return b" [ ]\n"
    if array.ndim == 1:
        return f" [ {_numbers(array)}]\n".encode()
    return (" [" + "".join(f"\n  {_numbers(row)}" for row in array) + "]\n").encode()


def _numbers(row: np.ndarray) -> str:
    return "".join(f"{value:.7g} " for value in row.tolist())
