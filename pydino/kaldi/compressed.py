"""Kaldi's compressed matrices (src/matrix/compressed-matrix.{h,cc}): reading all, writing all, and rows without the rest.

After the token come min and range (float32) and rows and columns (int32), 16 bytes; then

``CM``   a column header of four uint16 (percentiles 0, 25, 75, 100) a column, then the bytes column by column
``CM2``  uint16, row by row: min + code * range / 65535
``CM3``  uint8, row by row: min + code * range / 255
"""

import struct

import numpy as np

HEADER = struct.Struct("<ffii")
TOKENS = {"CM": 1, "CM2": 2, "CM3": 1}  # bytes a value
_FIXED_RANGE = {4: (-32768.0, 65535.0), 6: (0.0, 255.0), 7: (0.0, 1.0)}


def body_size(token: str, rows: int, columns: int) -> int:
    """Return the number of bytes after the 16-byte header."""
    return rows * columns * TOKENS[token] + (8 * columns if token == "CM" else 0)


def decode_rows(token: str, codes: np.ndarray, minimum: float, extent: float, column_headers: np.ndarray | None) -> np.ndarray:
    """Decode codes (rows x columns) to float32.

    Args:
        token: CM, CM2 or CM3.
        codes: uint8 or uint16.
        minimum, extent: of the header; ``extent`` is max - min.
        column_headers: (columns, 4) uint16, of a CM matrix.
    """
    minimum, extent = np.float32(minimum), np.float32(extent)
    if token != "CM":
        return minimum + codes.astype(np.float32) * (extent / np.float32(65535 if token == "CM2" else 255))
    points = minimum + extent * np.float32(1.0 / 65535.0) * column_headers.astype(np.float32)  # (columns, 4)
    p0, p25, p75, p100 = points.T
    value = codes.astype(np.float32)
    low = p0 + (p25 - p0) * value * np.float32(1 / 64)
    middle = p25 + (p75 - p25) * (value - 64) * np.float32(1 / 128)
    high = p75 + (p100 - p75) * (value - 192) * np.float32(1 / 63)
    return np.where(codes <= 64, low, np.where(codes <= 192, middle, high))


def compress(matrix: np.ndarray, method: int) -> bytes:
    """Return token and body of a matrix, as ``copy-feats --compression-method=METHOD`` writes them.

    Args:
        matrix: float32 (rows, columns), neither of them 0: Kaldi cannot read back an empty compressed matrix.
        method: 1 (2 for more than 8 rows, else 3), 2 speech feature, 3 two bytes, 4 two bytes over [-32768, 32767], 5 one byte,
            6 one byte over [0, 255], 7 one byte over [0, 1]. The last of each kind clip what is outside.
    """
    matrix = np.asarray(matrix, dtype=np.float32)
    rows, columns = matrix.shape
    if method == 1:
        method = 2 if rows > 8 else 3
    if method in _FIXED_RANGE:
        minimum, extent = map(np.float32, _FIXED_RANGE[method])
    else:
        minimum, maximum = matrix.min(), matrix.max()
        if maximum == minimum:
            maximum = minimum + np.float32(1) + abs(minimum)
        extent = maximum - minimum
    header = HEADER.pack(minimum, extent, rows, columns)
    if method == 2:
        return b"CM " + header + _speech_codes(matrix, minimum, extent)
    levels, kind, token = (65535, np.uint16, b"CM2 ") if method in (3, 4) else (255, np.uint8, b"CM3 ")
    return token + header + _quantise(matrix, minimum, extent, levels).astype(kind).tobytes()


def _quantise(values, minimum, extent, levels):
    fraction = np.clip((values - minimum) / extent, np.float32(0), np.float32(1))
    return np.trunc(fraction * np.float32(levels) + np.float32(0.499)).astype(np.int64)


def _speech_codes(matrix, minimum, extent) -> bytes:
    rows = len(matrix)
    ordered = np.sort(matrix, axis=0)
    if rows >= 5:
        ranks = [0, rows // 4, 3 * (rows // 4), rows - 1]
        points = [_quantise(ordered[rank], minimum, extent, 65535) for rank in ranks]
    else:  # too few rows for quarters: each row is a point, and what is missing follows at a distance of one
        points = [_quantise(ordered[rank], minimum, extent, 65535) if rank < rows else None for rank in range(4)]
    headers = [np.minimum(points[0], 65532)]
    for point, limit in zip(points[1:], (65533, 65534, 65535), strict=True):
        above = headers[-1] + 1
        headers.append(above if point is None else np.minimum(np.maximum(point, above), limit))
    headers = np.stack(headers, 1).astype(np.uint16)  # (columns, 4)
    p0, p25, p75, p100 = (minimum + extent * np.float32(1.0 / 65535.0) * headers.astype(np.float32)).T
    half = np.float32(0.5)
    low = np.clip(np.trunc((matrix - p0) / (p25 - p0) * 64 + half), 0, 64)
    middle = np.clip(64 + np.trunc((matrix - p25) / (p75 - p25) * 128 + half), 64, 192)
    high = np.clip(192 + np.trunc((matrix - p75) / (p100 - p75) * 63 + half), 192, 255)
    codes = np.where(matrix < p25, low, np.where(matrix < p75, middle, high)).astype(np.uint8)
    return headers.tobytes() + codes.T.tobytes()
