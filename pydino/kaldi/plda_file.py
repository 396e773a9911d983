"""The files of a speaker back-end as Kaldi writes them: ``mean.vec``, ``transform.mat`` and ``plda``, one
object each.

A ``plda`` file is ``<Plda> `` followed by the mean (vector), the transform (matrix), psi (vector) and
``</Plda> ``, double precision (``src/ivector/plda.cc``); binary files begin with the two bytes ``\\0B``, text
files do not.
"""

import io
import re

import numpy as np

from pydino.base import UserError, atomic_open

from .objects import read_binary

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
        UserError: unreadable, no PLDA file, truncated, or parts whose sizes do not match.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; steps/train_plda.sh makes it") from error
    try:
        mean, transform, psi = _binary_parts(content) if content.startswith(_BINARY) else _text_parts(content)
    except (ValueError, UserError) as error:
        raise UserError(
            f"{path} is not a complete Kaldi PLDA file ({error}); train it again with steps/train_plda.sh"
        ) from None
    if transform.shape != (len(mean), len(mean)) or len(psi) != len(mean):
        raise UserError(
            f"{path}: mean {mean.shape}, transform {transform.shape} and psi {psi.shape} do not match; train "
            "it again"
        )
    return mean, transform, psi


def _binary_parts(content: bytes) -> list[np.ndarray]:
    stream = io.BytesIO(content)
    if stream.read(9) != _BINARY + b"<Plda> ":
        raise ValueError("it does not begin with <Plda>")
    parts = [read_binary(stream, "its model").astype(np.float64) for _ in range(3)]
    if stream.read(7) != b"</Plda>":
        raise ValueError("it does not end with </Plda>")
    return parts


def _text_parts(content: bytes) -> list[np.ndarray]:
    found = re.fullmatch(rb"\s*<Plda>\s*\[([^]]*)\]\s*\[([^]]*)\]\s*\[([^]]*)\]\s*</Plda>\s*", content)
    if found is None:
        raise ValueError("<Plda> [ mean ] [ transform ] [ psi ] </Plda> expected")
    mean, transform, psi = (np.array(part.split(), dtype=np.float64) for part in found.groups())
    if len(transform) != len(mean) ** 2:
        raise ValueError(f"the transform has {len(transform)} numbers for a dimension of {len(mean)}")
    return [mean, transform.reshape(len(mean), len(mean)), psi]


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
