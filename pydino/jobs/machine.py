"""What this machine has for jobs: cores and memory, within the limits of a container or a batch job that we are in."""

import os
import re
from pathlib import Path

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def num_bytes(text: str) -> int:
    """Return the bytes of a size such as ``4G`` or ``0.5g``; a number alone counts megabytes, as with Slurm."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1].isalpha() else (text, "M")
    return int(float(number) * _UNITS[unit])


def num_cores(cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return the cores that we may use: those of our affinity, or the part of them that a cgroup allows."""
    cores = len(os.sched_getaffinity(0))
    for folder in _own_cgroups(cgroups, membership):
        quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        if quota.isdigit() and period.isdigit():
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def available_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> int | None:
    """Return the bytes that new processes can have without swapping, or None where the system does not tell.

    That is ``MemAvailable``, or less where a cgroup (version 2) has a limit: the limit without what is in use, save files read
    (``inactive_file``), which the kernel drops when room is wanted.
    """
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _read(meminfo), flags=re.MULTILINE)
    available = [int(found[1]) * 1024] if found else []
    for folder in _own_cgroups(cgroups, membership):
        limit, used = _read(folder / "memory.max").strip(), _read(folder / "memory.current").strip()
        if limit.isdigit() and used.isdigit():
            cached = re.search(r"^inactive_file (\d+)", _read(folder / "memory.stat"), flags=re.MULTILINE)
            available.append(max(0, int(limit) - int(used) + (int(cached[1]) if cached else 0)))
    return min(available, default=None)


def _own_cgroups(cgroups: Path, membership: Path) -> list[Path]:
    """Return the folders of the cgroup that we are in and of those around it."""
    found = re.search(r"^0::/(.*)$", _read(membership), flags=re.MULTILINE)
    if not found:
        return []
    own = cgroups / found[1].rstrip("/")
    return [folder for folder in (own, *own.parents) if folder.is_relative_to(cgroups)]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
