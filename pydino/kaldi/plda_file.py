"""The files of a speaker back-end as Kaldi writes them: ``mean.vec``, ``transform.mat`` and ``plda``, one object each.

A ``plda`` file is ``<Plda> `` followed by the mean (vector), the transform (matrix), psi (vector) and ``</Plda> ``, double
precision (``src/ivector/plda.cc``); binary files begin with the two bytes ``\\0B``, text files do not.
"""

import re

import numpy as np

from pydino.base import UserError, atomic_open

_BINARY = b"\0B"


def write_vector(path, vector: np.ndarray) -> None:
    """Write one vector (D,) as text, as ``ivector-mean`` does by default; nine digits keep every float32."""
    with atomic_open(path, "wb") as stream:
        stream.write(_vector_text(vector) + b"\n")


def write_matrix(path, matrix: np.ndarray) -> None:
    """Write one matrix (R, C) in binary, single precision, as ``ivector-compute-lda`` does."""
    with atomic_open(path, "wb") as stream:
        stream.write(_BINARY + _matrix_bytes(matrix, "F"))


def write_plda(path, mean: np.ndarray, transform: np.ndarray, psi: np.ndarray, binary: bool = True) -> None:
    """Write a PLDA model: mean (D,), transform (D, D), psi (D,). In text, 17 digits keep every double."""
    with atomic_open(path, "wb") as stream:
        if binary:
            parts = (_vector_bytes(mean), _matrix_bytes(transform, "D"), _vector_bytes(psi))
            stream.write(_BINARY + b"<Plda> " + b"".join(parts) + b"</Plda> ")
        else:
            rows = b"".join(b"\n  " + _numbers(row, 17) for row in transform)
            parts = (_vector_text(mean, 17), b" [" + rows + b" ]", _vector_text(psi, 17))
            stream.write(b"<Plda> " + b"\n".join(parts) + b"\n</Plda> ")


def read_plda(path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a PLDA model, binary or text, single or double: mean (D,), transform (D, D), psi (D,), float64.

    Raises:
        UserError: unreadable, no PLDA file, cut short, or parts whose sizes do not fit.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; steps/train_plda.sh makes it") from error
    try:
        mean, transform, psi = _binary_parts(content) if content.startswith(_BINARY) else _text_parts(content)
    except ValueError as error:
        raise UserError(f"{path} is not a whole Kaldi PLDA file ({error}); train it again with steps/train_plda.sh") from None
    if transform.shape != (len(mean), len(mean)) or len(psi) != len(mean):
        raise UserError(f"{path}: mean {mean.shape}, transform {transform.shape} and psi {psi.shape} do not fit; train it again")
    return mean, transform, psi


def _binary_parts(content: bytes) -> list[np.ndarray]:
    place, parts = len(_BINARY), []
    place = _expect(content, place, b"<Plda> ")
    for rank in (1, 2, 1):
        token = content[place : place + 3]
        dtype = {b"F": "<f4", b"D": "<f8"}.get(token[:1])
        if dtype is None or token[1:] != (b"V " if rank == 1 else b"M "):
            raise ValueError(f"unexpected {token!r} at byte {place}")
        place += 3
        shape = []
        for _ in range(rank):
            place = _expect(content, place, b"\4")
            shape.append(int(np.frombuffer(content, "<i4", 1, place)[0]))
            place += 4
        size = int(np.prod(shape))
        if min(shape) < 0 or place + size * np.dtype(dtype).itemsize > len(content):
            raise ValueError("it is cut short")
        parts.append(np.frombuffer(content, dtype, size, place).reshape(shape).astype(np.float64))
        place += size * np.dtype(dtype).itemsize
    _expect(content, place, b"</Plda>")
    return parts


def _text_parts(content: bytes) -> list[np.ndarray]:
    found = re.fullmatch(rb"\s*<Plda>\s*\[([^]]*)\]\s*\[([^]]*)\]\s*\[([^]]*)\]\s*</Plda>\s*", content)
    if found is None:
        raise ValueError("<Plda> [ mean ] [ transform ] [ psi ] </Plda> expected")
    mean, transform, psi = (np.array(part.split(), dtype=np.float64) for part in found.groups())
    if len(transform) != len(mean) ** 2:
        raise ValueError(f"the transform has {len(transform)} numbers for a dimension of {len(mean)}")
    return [mean, transform.reshape(len(mean), len(mean)), psi]


def _expect(content: bytes, place: int, wanted: bytes) -> int:
    if content[place : place + len(wanted)] != wanted:
        raise ValueError("it is cut short" if place + len(wanted) > len(content) else f"{wanted!r} expected at byte {place}")
    return place + len(wanted)


def _int32(value: int) -> bytes:
    return b"\4" + np.int32(value).astype("<i4").tobytes()


def _vector_bytes(vector: np.ndarray) -> bytes:
    return b"DV " + _int32(len(vector)) + np.asarray(vector, dtype="<f8").tobytes()


def _matrix_bytes(matrix: np.ndarray, precision: str) -> bytes:
    rows, columns = matrix.shape
    values = np.ascontiguousarray(matrix, dtype="<f4" if precision == "F" else "<f8")
    return precision.encode() + b"M " + _int32(rows) + _int32(columns) + values.tobytes()


def _vector_text(vector: np.ndarray, digits: int = 9) -> bytes:
    return b" [ " + _numbers(vector, digits) + b" ]"


def _numbers(values: np.ndarray, digits: int) -> bytes:
    return " ".join(f"{value:.{digits}g}" for value in np.asarray(values).tolist()).encode()
