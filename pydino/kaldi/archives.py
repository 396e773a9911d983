"""Archives and scripts: reading them in order or by name, and writing both together, whole or not at all."""

import io
import os
import tempfile
from pathlib import Path

import numpy as np

from pydino.base import UserError, write_text

from . import compressed
from .objects import read_object_at
from .rxfilename import parse_rxfilename, run_pipe, select
from .tables import read_table

_TOKENS = {(2, "f4"): b"FM ", (2, "f8"): b"DM ", (1, "f4"): b"FV ", (1, "f8"): b"DV "}


def _open(path: str):
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def read_object(rxfilename: str, allow_pipes: bool = False, key: str = "") -> np.ndarray:
    """Read one object by its extended file name.

    Args:
        rxfilename: ``path``, ``path:offset``, either with a range, or ``command |``.
        allow_pipes: run commands.
        key: named in messages.

    Returns:
        float32 or float64 matrix or vector as stored (compressed: float32), or int32 vector (a single integer: 0-d).

    Raises:
        UserError: missing, truncated or corrupt file, naming file, key and offset; range outside the object.
    """
    location = parse_rxfilename(rxfilename)
    of = f"{location}{f' ({key})' if key else ''}"
    if location.is_pipe:
        return read_object_at(io.BytesIO(run_pipe(location.path, allow_pipes)), of, alone=True)
    with _open(location.path) as stream:
        stream.seek(location.offset)
        array = read_object_at(stream, of, alone=location.offset == 0)
    return select(array, location, of)


def read_scp_objects(scp, allow_pipes: bool = False):
    """Yield (key, array) for each line of a script file (or of a mapping key -> extended file name), in its order."""
    table = scp if isinstance(scp, dict) else read_table(scp)
    for key, rxfilename in table.items():
        yield key, read_object(rxfilename, allow_pipes, key)


def read_ark(path):
    """Yield (key, array) for each object of an archive, in its order.

    Raises:
        UserError: the archive is truncated or corrupt; names file, key and offset.
    """
    with _open(path) as stream:
        while True:
            key = b""
            while (byte := stream.read(1)) not in (b" ", b"\t", b""):
                key += byte
            name = key.decode("utf-8", "replace").strip()
            if byte == b"":
                if name:
                    raise UserError(f"{path}: the file ends inside the key '{name}': truncated; make it again")
                return
            yield name, read_object_at(stream, f"{path}, byte {stream.tell()} ({name})")
            # A text object leaves the rest of its line.
            position = stream.tell()
            if stream.read(1) != b"\n":
                stream.seek(position)


class ArchiveWriter:
    """Write an archive and, with it, the script that points into it.

    Both are written aside and renamed when the ``with`` block ends well, the script last, so that a script never points to what
    is not there; when it ends with an error, nothing is left and an earlier archive stays as it was. The script names the archive
    as it was given (a relative path stays relative). A path with blanks in it is read back here, but not by Kaldi.

    Args:
        ark, scp: paths; ``scp`` may be None.
        compression: None, or Kaldi's compression method 1 to 7 for matrices (see :func:`pydino.kaldi.compressed.compress`).
        text: write text, with as many digits as read back the same float32.
    """

    def __init__(self, ark, scp=None, compression: int | None = None, text: bool = False):
        if compression is not None and compression not in range(1, 8):
            raise UserError(f"compression method must be 1 to 7, got {compression}")
        self._ark, self._scp, self._compression, self._text = Path(ark), scp, compression, text
        self._lines: dict[str, str] = {}
        self._stream = self._temporary = None

    def __enter__(self):
        try:
            self._ark.parent.mkdir(parents=True, exist_ok=True)
            handle, self._temporary = tempfile.mkstemp(prefix=f".{self._ark.name[:60]}.", suffix=".tmp", dir=self._ark.parent)
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(handle, 0o666 & ~mask)
            self._stream = os.fdopen(handle, "wb", buffering=1 << 20)
        except OSError as error:
            raise UserError(f"cannot write {self._ark}: {error.strerror}") from error
        self._position = 0
        return self

    def write(self, key: str, array: np.ndarray) -> None:
        """Append a matrix or vector (float32, float64) or a vector of integers (int32).

        Raises:
            UserError: the key is not one or was written before, the array cannot be stored, or the disk is full.
        """
        if not key or key.split() != [key]:
            raise UserError(f"{self._ark}: '{key}' cannot be a key: keys are not empty and have no white space")
        if key in self._lines:
            raise UserError(f"{self._ark}: the key '{key}' is written twice")
        name = key.encode("utf-8") + b" "
        body = self._text_body(array) if self._text else self._body(key, np.asarray(array))
        self._lines[key] = f"{self._ark}:{self._position + len(name)}"
        try:
            self._stream.write(name)
            for part in body:
                self._stream.write(part)
        except OSError as error:
            raise self._disk_error(error) from error
        self._position += len(name) + sum(memoryview(part).nbytes for part in body)

    def _disk_error(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self._ark}: {error.strerror}; nothing is left of it; make room and run the step again")

    def _body(self, key: str, array: np.ndarray) -> list:
        if array.dtype.kind in "iu" and array.ndim == 1:
            cells = np.empty(len(array), np.dtype([("size", "<i1"), ("value", "<i4")]))
            cells["size"], cells["value"] = 4, array
            return [b"\0B\4" + len(array).to_bytes(4, "little"), cells.tobytes()]
        token = _TOKENS.get((array.ndim, array.dtype.str[1:]))
        if token is None:
            raise UserError(f"{self._ark}: '{key}' is {array.dtype} of shape {array.shape}; only float vectors and matrices and int vectors are stored")
        if self._compression and array.ndim == 2 and array.size:
            if not np.isfinite(array).all():
                raise UserError(f"{self._ark}: '{key}' has NaN or infinity in it, which cannot be compressed")
            return [b"\0B" + compressed.compress(array, self._compression)]
        sizes = b"".join(b"\4" + size.to_bytes(4, "little") for size in array.shape)
        return [b"\0B" + token + sizes, np.ascontiguousarray(array).data if array.size else b""]

    def _text_body(self, array: np.ndarray) -> list[bytes]:
        array = np.asarray(array)
        if array.dtype.kind in "iu":
            return [(" ".join(map(str, array.tolist())) + " \n").encode()]

        def words(row):
            return " ".join(np.format_float_positional(x, trim="-") if 1e-4 <= abs(x) < 1e7 or x == 0 else repr(float(str(x))) for x in row)

        if array.ndim == 1:
            return [f" [ {words(array)} ]\n".encode()]
        return [(" [\n  " + "\n  ".join(f"{words(row)} " for row in array) + "]\n").encode()]

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self._stream.flush()
                os.fsync(self._stream.fileno())
        except OSError as failure:
            kind = type(failure)
            raise self._disk_error(failure) from failure
        finally:
            try:
                self._stream.close()
            except OSError:
                kind = kind or OSError
            if kind is not None:
                os.unlink(self._temporary)
        os.replace(self._temporary, self._ark)
        if self._scp is not None:
            keys = sorted(self._lines, key=lambda k: k.encode("utf-8"))
            write_text(self._scp, "".join(f"{key} {self._lines[key]}\n" for key in keys))
