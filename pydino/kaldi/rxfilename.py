"""Kaldi's extended file names: ``path``, ``path:offset``, ``path:offset[rows,columns]``
and ``command |``.
"""

import re
import subprocess
from dataclasses import dataclass

import numpy as np

from pydino.base import UserError

_OFFSET = re.compile(r"^(.*):(\d+)$", re.DOTALL)
_RANGE = re.compile(r"^(.*)\[([^\[\]]*)\]$", re.DOTALL)


@dataclass(frozen=True)
class Location:
    """A parsed extended file name. ``rows`` and ``columns`` are (first, last), both inclusive, or None for
    all.
    """

    path: str
    offset: int = 0
    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None

    @property
    def is_pipe(self) -> bool:
        return self.path.endswith("|")

    def __str__(self):
        return f"{self.path}, byte {self.offset}" if self.offset else self.path


def parse_rxfilename(text: str) -> Location:
    """Parse an extended file name; ranges are 0-based and inclusive, as in Kaldi (``[0:9]``, ``[:,2:5]``).

    Raises:
        UserError: the range is not understood, or the name is empty.
    """
    rows = columns = None
    rest = text.strip()
    if rest.endswith("|"):
        return Location(rest)
    if match := _RANGE.match(rest):
        rest = match[1]
        parts = match[2].split(",")
        if len(parts) > 2 or not all(parts):
            raise UserError(
                f"cannot parse the range [{match[2]}] of {rest}; write [first:last] or "
                "[first:last,first:last]"
            )
        rows = _parse_interval(parts[0], text)
        columns = _parse_interval(parts[1], text) if len(parts) == 2 else None
    offset = 0
    if match := _OFFSET.match(rest):
        rest, offset = match[1], int(match[2])
    if not rest:
        raise UserError(f"'{text}' does not name a file")
    return Location(rest, offset, rows, columns)


def _parse_interval(text: str, whole: str) -> tuple[int, int] | None:
    if text == ":":
        return None
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if not match or int(match[2]) < int(match[1]):
        raise UserError(
            f"cannot parse the range '{text}' in {whole}; first and last are whole numbers, first <= last, "
            "both inclusive"
        )
    return int(match[1]), int(match[2])


def clip_rows(rows: tuple[int, int], num_rows: int, what: str) -> tuple[int, int]:
    """Return (first, last + 1). As in Kaldi the last row may exceed the end by up to two (rounding of times)
    and is then clipped.
    """
    first, last = rows
    if first >= num_rows or last >= num_rows + 3:
        raise UserError(f"{what}: rows {first}:{last} are outside its {num_rows} rows")
    return first, min(last + 1, num_rows)


def select(array: np.ndarray, location: Location, what: str) -> np.ndarray:
    """Apply the range of ``location`` to a matrix (or, rows only, to a vector).

    Raises:
        UserError: the range is outside the object, which ``what`` names.
    """
    if location.rows is None and location.columns is None:
        return array
    if location.columns is not None:
        first, last = location.columns
        if array.ndim != 2 or last >= array.shape[1]:
            raise UserError(f"{what}: columns {first}:{last} are outside its shape {array.shape}")
        array = array[:, first : last + 1]
    if location.rows is not None:
        if array.ndim == 0:
            raise UserError(f"{what}: a range of a single integer")
        first, end = clip_rows(location.rows, len(array), what)
        array = array[first:end]
    return np.ascontiguousarray(array)


def run_pipe(command: str, allow_pipes: bool) -> bytes:
    """Return what ``command |`` prints.

    Raises:
        UserError: pipes are not allowed, or the command fails (also inside a pipeline).
    """
    if not allow_pipes:
        raise UserError(
            f"'{command}' is a command; if you trust it, allow it to be run with --allow-pipes true"
        )
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command.rstrip()[:-1]], capture_output=True)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise UserError(
            f"command '{command}' failed with status {done.returncode}{': ' + said[-500:] if said else ''}"
        )
    return done.stdout
