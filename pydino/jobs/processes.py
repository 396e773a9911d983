"""The processes of this machine, from /proc."""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple


class Process(NamedTuple):
    """One process. ``birth`` is its start time in the kernel's ticks, which tells it from a later one of the
    same number.
    """

    pid: int
    parent: int
    group: int
    birth: int
    ended: bool  # a zombie that nobody has reaped


def processes() -> Iterator[Process]:
    """Yield all processes, zombies included."""
    yield from filter(None, map(find_process, _pids()))


def find_process(pid: int) -> Process | None:
    """Return a process, or None where it has gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()  # the name before may hold blanks and brackets
    except OSError:
        return None
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[19]), fields[0] in (b"Z", b"X"))


def living() -> list[Process]:
    """Return those that have not ended."""
    return [found for found in processes() if not found.ended]


def ignores(pid: int, number: int) -> bool:
    """Return whether a process ignores a signal."""
    try:
        with open(f"/proc/{pid}/status") as stream:
            ignored = next(line for line in stream if line.startswith("SigIgn:")).split()[1]
    except (OSError, StopIteration):
        return False
    return bool(int(ignored, 16) >> (number - 1) & 1)


def open_files() -> Iterator[tuple[int, str]]:
    """Yield process and path of every open file, of those processes that the user may inspect."""
    for pid in _pids():
        with suppress(OSError):
            for number in os.listdir(f"/proc/{pid}/fd"):
                yield pid, os.readlink(f"/proc/{pid}/fd/{number}")


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]
