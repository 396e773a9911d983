"""Kaldi's compressed matrices (``src/matrix/compressed-matrix.{h,cc}``): every format decoded, every method
encoded.

After the token come minimum and range (float32), rows and columns (int32), 16 bytes; then

* ``CM``: a header of four uint16 (percentiles 0, 25, 75, 100) for each column, then uint8 codes **column by
  column**
* ``CM2``: uint16 codes, row by row: minimum + code * range / 65535
* ``CM3``: uint8 codes, row by row: minimum + code * range / 255

Decoding gives Kaldi's float32 values bit for bit, encoding its bytes; where Kaldi's C++ mixes float and
double, so does this. kaldiio's own codec is not used: values outside the range of methods 4, 6 and 7 wrap
around in it, as do the column headers of matrices of fewer than five rows.
"""

import struct

import numpy as np

HEADER = struct.Struct("<ffii")
CODES = {"CM": np.dtype("u1"), "CM2": np.dtype("<u2"), "CM3": np.dtype("u1")}
METHODS = range(1, 8)
_FIXED_RANGE = {4: (-32768.0, 65535.0), 6: (0.0, 255.0), 7: (0.0, 1.0)}
_COLUMN_HEADER = 8  # bytes
_BLOCK = 1 << 20  # values decoded at once, so that long matrices need no extra memory


def body_size(token: str, rows: int, columns: int) -> int:
    """Return the number of bytes after the 16-byte header."""
    return rows * columns * CODES[token].itemsize + (_COLUMN_HEADER * columns if token == "CM" else 0)


def decode(token: str, minimum: float, extent: float, shape: tuple[int, int], body: bytes) -> np.ndarray:
    """Decode the whole body of a matrix of ``shape`` to float32 (rows, columns)."""
    rows, columns = shape
    if token != "CM":
        return decode_rows(token, minimum, extent, np.frombuffer(body, CODES[token]).reshape(shape))
    headers = np.frombuffer(body, "<u2", 4 * columns).reshape(columns, 4)
    codes = np.frombuffer(body, np.uint8, rows * columns, _COLUMN_HEADER * columns).reshape(columns, rows)
    values, step = column_values(minimum, extent, headers), max(_BLOCK // max(rows, 1), 1)
    matrix = np.empty(shape, np.float32)
    for first in range(0, columns, step):
        part = slice(first, first + step)
        matrix[:, part] = decode_columns(values[part], codes[part]).T
    return matrix


def decode_rows(token: str, minimum: float, extent: float, codes: np.ndarray) -> np.ndarray:
    """Decode codes of CM2 or CM3, of any shape, to float32; ``extent`` is the range, maximum - minimum."""
    step = np.float32(float(extent) * (1.0 / (65535 if token == "CM2" else 255)))
    values = codes.astype(np.float32)
    values *= step
    values += np.float32(minimum)
    return values


def column_values(minimum: float, extent: float, headers: np.ndarray) -> np.ndarray:
    """Return the value of each code in each column of a CM matrix: float32 (columns, 256).

    Codes 0 to 64 are evenly spaced between the percentiles 0 and 25, 64 to 192 between 25 and 75, 192 to 255
    between 75 and 100.

    Args:
        headers: uint16 (columns, 4).
    """
    p0, p25, p75, p100 = _percentiles(np.float32(minimum), np.float32(extent), headers)
    code = np.arange(256, dtype=np.float32)
    values = np.empty((len(headers), 256), np.float32)
    values[:, :65] = p0 + (p25 - p0) * code[:65] * np.float32(1 / 64)
    values[:, 65:193] = p25 + (p75 - p25) * (code[65:193] - 64) * np.float32(1 / 128)
    # in double, as in Kaldi
    values[:, 193:] = p75 + ((p100 - p75) * (code[193:] - 192)).astype(np.float64) * (1 / 63)
    return values


def decode_columns(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Decode codes (columns, rows) by the table of :func:`column_values` to float32 (columns, rows)."""
    return np.take_along_axis(values, codes.astype(np.intp), 1)


def _percentiles(minimum, extent, headers):
    return (minimum + extent * np.float32(1.52590218966964e-05) * headers.astype(np.float32)).T[:, :, None]


def encode(matrix: np.ndarray, method: int) -> bytes:
    """Return token, header and body of a matrix, as ``copy-feats --compression-method=METHOD`` writes them.

    Args:
        matrix: finite, (rows, columns), neither of them 0: Kaldi cannot read back an empty compressed matrix.
        method: 1 (Kaldi's default: 2 for more than 8 rows, else 3), 2 one byte with column headers, for
            features, 3 two bytes, 4 two bytes over [-32768, 32767], 5 one byte, 6 one byte over [0, 255], 7
            one byte over [0, 1]. Methods 4 and 6 are exact for integers in their range; values outside the
            range of 4, 6 and 7 are clipped.
    """
    matrix = np.asarray(matrix, dtype=np.float32)
    if method == 1:
        method = 2 if len(matrix) > 8 else 3
    if method in _FIXED_RANGE:
        minimum, extent = map(np.float32, _FIXED_RANGE[method])
    else:
        minimum, maximum = matrix.min(), matrix.max()
        if maximum == minimum:
            maximum = minimum + (np.float32(1) + abs(minimum))
        extent = maximum - minimum
    header = HEADER.pack(minimum, extent, *matrix.shape)
    if method == 2:
        step = max(_BLOCK // len(matrix), 1)
        parts = [
            _encode_columns(np.ascontiguousarray(matrix[:, first : first + step].T), minimum, extent)
            for first in range(0, matrix.shape[1], step)
        ]
        return b"".join([b"CM ", header, *(headers for headers, _ in parts), *(codes for _, codes in parts)])
    token, levels = ("CM2", 65535) if method in (3, 4) else ("CM3", 255)
    step = max(_BLOCK // matrix.shape[1], 1)
    blocks = (matrix[first : first + step] for first in range(0, len(matrix), step))
    codes = (_quantise(block, minimum, extent, levels).astype(CODES[token]).tobytes() for block in blocks)
    return b"".join([token.encode(), b" ", header, *codes])


def _quantise(values: np.ndarray, minimum, extent, levels: int) -> np.ndarray:
    fraction = np.clip((values - minimum) / extent, np.float32(0), np.float32(1))
    # Kaldi's rounding: 0.499 is a double, so the sum and the truncation are too.
    return ((fraction * np.float32(levels)).astype(np.float64) + 0.499).astype(np.int32)


def _encode_columns(columns: np.ndarray, minimum, extent) -> tuple[bytes, bytes]:
    """Return the headers and the codes of columns (columns, rows)."""
    headers = _column_headers(columns, minimum, extent)
    p0, p25, p75, p100 = _percentiles(minimum, extent, headers)
    codes = np.where(
        columns < p25,
        _between(columns, p0, p25, 64),
        np.where(
            columns < p75, 64 + _between(columns, p25, p75, 128), 192 + _between(columns, p75, p100, 63)
        ),
    )
    return headers.astype("<u2").tobytes(), codes.astype(np.uint8).tobytes()


def _between(columns, low, high, levels: int) -> np.ndarray:
    share = (columns - low) / (high - low) * np.float32(levels)
    return (np.clip(share, np.float32(0), np.float32(levels)) + 0.5).astype(np.int16)


def _column_headers(columns: np.ndarray, minimum, extent) -> np.ndarray:
    """Return the percentiles of each column as codes, int32 (columns, 4), each above the one before it."""
    rows = columns.shape[1]
    ordered = np.sort(columns, axis=1)
    # With fewer than five rows each row is a percentile, and the missing ones follow at a distance of one.
    ranks = [0, rows // 4, 3 * (rows // 4), rows - 1] if rows >= 5 else range(rows)
    points = _quantise(ordered[:, list(ranks)], minimum, extent, 65535)
    headers = np.empty((len(columns), 4), np.int32)
    headers[:, 0] = np.minimum(points[:, 0], 65532)
    for rank in (1, 2, 3):
        headers[:, rank] = headers[:, rank - 1] + 1
        if rank < points.shape[1]:
            headers[:, rank] = np.minimum(np.maximum(points[:, rank], headers[:, rank]), 65532 + rank)
    return headers
