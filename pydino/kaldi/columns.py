"""Tables of data directories as two columns of bytes: the keys and the rests of the lines.

A directory of VoxCeleb's size has 1.1 million lines a table. Lists of bytes, one table at a time, take a
fraction of the time and memory of dictionaries of text.
"""

import gc
import operator
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path
from typing import NamedTuple

from pydino.base import atomic_open
from pydino.base.text import BOM, read_blocks

from .tables import read_table

_LINES = 1 << 14  # lines that are written at a time


class Columns(NamedTuple):
    """A table: keys, ascending and unique, and the rest of each line, stripped."""

    keys: list[bytes]
    rests: list[bytes]

    def only(self, wanted) -> "Columns":
        """Return the lines whose keys are in a set."""
        return self.where(map(wanted.__contains__, self.keys))

    def where(self, chosen: Iterable[bool]) -> "Columns":
        """Return the lines selected by a boolean mask."""
        chosen = list(chosen)
        if all(chosen):
            return self
        return Columns(list(compress(self.keys, chosen)), list(compress(self.rests, chosen)))

    def sorted(self) -> "Columns":
        """Return the lines in the order of their keys."""
        if ascend(self.keys):
            return self
        order = sorted(range(len(self.keys)), key=self.keys.__getitem__)
        return Columns([self.keys[i] for i in order], [self.rests[i] for i in order])

    def members(self) -> dict[bytes, list[bytes]]:
        """Return, for ``utt2spk``, the utterances of each speaker, both in order of appearance."""
        members: dict[bytes, list[bytes]] = {}
        for key, rest in zip(self.keys, self.rests, strict=True):
            members.setdefault(rest, []).append(key)
        return members

    def inverted(self) -> "Columns":
        """Return ``spk2utt`` of ``utt2spk``, sorted by speaker."""
        members = self.members()
        return Columns(list(members), [b" ".join(own) for own in members.values()]).sorted()

    def blocks(self) -> Iterator[bytes]:
        """Yield the text of the table, some thousand lines at a time."""
        for start in range(0, len(self.keys), _LINES):
            part = slice(start, start + _LINES)
            lines = map(b" ".join, zip(self.keys[part], self.rests[part], strict=True))
            if not all(self.rests[part]):
                lines = map(bytes.rstrip, lines)
            yield b"\n".join(lines) + b"\n"


def ascend(keys: list[bytes], strictly: bool = True) -> bool:
    """Whether each key comes after the one before, in C order."""
    return all(map(operator.lt if strictly else operator.le, keys, islice(keys, 1, None)))


@dataclass
class FormatErrors:
    """Format errors of a table. Line numbers count from 1; 0: no such line."""

    byte_order_mark: bool = False
    carriage_returns: bool = False
    no_final_newline: bool = False
    empty_line: int = 0  # the first
    empty_lines: int = 0
    indented_line: int = 0  # the first that begins with a blank
    repeated_lines: int = 0
    unsorted: bool = False
    misplaced: str = ""  # the first key that is out of order, described for messages
    conflict: str = ""  # a key with two different values, described for messages
    # of the lines that are not empty; kept only where a line is empty
    numbers: list[int] | None = None

    @property
    def is_readable(self) -> bool:
        """Whether ``read_table`` reads the table."""
        return not (self.no_final_newline or self.empty_line or self.indented_line or self.misplaced)


def read_columns(path) -> Columns:
    """Read a table; errors are those of :func:`pydino.kaldi.read_table`."""
    columns, errors = read_lenient(path)
    if not errors.is_readable:
        read_table(path)  # raises an error that names the line
    return columns


def read_lenient(path) -> tuple[Columns, FormatErrors]:
    """Read a malformed table as far as possible: sorted, without duplicate and empty lines, and its format
    errors.

    Where a key has two different values, the first one is kept.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    found = FormatErrors()
    with _no_garbage_collection():
        columns = _read(path, found)
        return _normalise(*columns, found), found


@contextmanager
def _no_garbage_collection():
    """Suspend the garbage collector, which would search millions of objects for cycles again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(path, found: FormatErrors) -> tuple[list[bytes], list[bytes]]:
    keys: list[bytes] = []
    rests: list[bytes] = []
    number = 0
    for stored, block in read_blocks(path):
        found.byte_order_mark |= number == 0 and stored.startswith(BOM)
        found.carriage_returns |= b"\r" in stored
        found.no_final_newline = not block.endswith(b"\n")
        lines = block.removesuffix(b"\n").split(b"\n")
        _split(lines, block, keys, rests, found, number)
        number += len(lines)
    return keys, rests


def _split(lines, block: bytes, keys: list, rests: list, found: FormatErrors, number: int) -> None:
    """Append the keys and rests of ``lines``, which follow line ``number``."""
    irregular = any(blank in block for blank in (b"\t", b"\r", b"\v", b"\f", b"  ", b" \n", b"\n ", b"\n\n"))
    if not (irregular or block[:1] in b" \n" or block.endswith(b" ")):
        new_keys, _, new_rests = zip(*[line.partition(b" ") for line in lines], strict=True)
        if found.numbers is not None:
            found.numbers += range(number + 1, number + 1 + len(lines))
        keys += new_keys
        rests += new_rests
        return
    for place, line in enumerate(lines, number + 1):
        fields = line.split(None, 1)
        if not fields:
            if found.numbers is None:
                found.numbers = list(range(1, len(keys) + 1))
            found.empty_line = found.empty_line or place
            found.empty_lines += 1
            continue
        if line[:1].isspace():
            found.indented_line = found.indented_line or place
        if found.numbers is not None:
            found.numbers.append(place)
        keys.append(fields[0])
        rests.append(fields[1].rstrip() if len(fields) > 1 else b"")


def _normalise(keys: list[bytes], rests: list[bytes], found: FormatErrors) -> Columns:
    if ascend(keys):
        return Columns(keys, rests)
    place = next(n for n in range(1, len(keys)) if keys[n] <= keys[n - 1])
    how = "occurs twice" if keys[place] == keys[place - 1] else f"comes after '{text(keys[place - 1])}'"
    found.unsorted = not ascend(keys, strictly=False)
    found.misplaced = f"'{text(keys[place])}' {how}"
    order = sorted(range(len(keys)), key=keys.__getitem__)  # stable: equal keys as in the file
    kept: list[int] = []
    conflict = None
    for i in order:
        if kept and keys[kept[-1]] == keys[i]:
            found.repeated_lines += 1
            if rests[i] != rests[kept[-1]] and (conflict is None or i < conflict[1]):
                conflict = kept[-1], i
        else:
            kept.append(i)
    if conflict:
        first, second = conflict
        line = second + 1 if found.numbers is None else found.numbers[second]
        found.conflict = (
            f"line {line}: key '{text(keys[second])}' occurs twice with different values, "
            f"'{text(rests[first])}' and '{text(rests[second])}'"
        )
    return Columns([keys[i] for i in kept], [rests[i] for i in kept])


def write_columns(path, columns: Columns) -> None:
    """Write a table atomically, sorted by key."""
    with atomic_open(path, "wb") as stream:
        stream.writelines(columns.sorted().blocks())


def has_content(path, columns: Columns) -> bool:
    """Whether the content of a file is exactly this table."""
    if not Path(path).exists():
        return False
    with open(path, "rb") as stream:
        return all(stream.read(len(block)) == block for block in columns.blocks()) and not stream.read(1)


def text(name: bytes) -> str:
    """Return a key or rest as text, for messages."""
    return name.decode("utf-8", "replace")
