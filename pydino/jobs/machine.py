"""What this machine has for jobs: cores and memory, within the limits of a container or a batch job that we
are in.
"""

import os
import re
from pathlib import Path

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def num_bytes(text: str) -> int:
    """Return the bytes of a size such as ``4G`` or ``0.5g``; a number alone counts megabytes, as with
    Slurm.
    """
    number, unit = (text[:-1], text[-1].upper()) if text[-1].isalpha() else (text, "M")
    return int(float(number) * _UNITS[unit])


def num_cores(cgroups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int:
    """Return the cores that we may use: those of our affinity, or the part of them that a cgroup allows."""
    cores = len(os.sched_getaffinity(0))
    for folder in _own_cgroups("cpu", cgroups, membership):
        quota, period = _read(folder, "cpu.max").split() or [
            _read(folder, "cpu.cfs_quota_us"),
            _read(folder, "cpu.cfs_period_us"),
        ]
        if quota.isdigit() and period.isdigit():
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def available_memory(
    meminfo: Path = Path("/proc/meminfo"),
    cgroups: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
) -> int | None:
    """Return the bytes that new processes can have without swapping, or None where the system does not tell.

    That is ``MemAvailable``, or less where a cgroup has a limit: the limit without what is in use, save files
        read
    (``inactive_file``), which the kernel drops when room is wanted.
    """
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _read(meminfo), flags=re.MULTILINE)
    available = [int(found[1]) * 1024] if found else []
    for folder in _own_cgroups("memory", cgroups, membership):
        limit = _read(folder, "memory.max", "memory.limit_in_bytes")
        used = _read(folder, "memory.current", "memory.usage_in_bytes")
        if limit.isdigit() and used.isdigit():
            counts = dict(re.findall(r"^(\w+) (\d+)$", _read(folder, "memory.stat"), flags=re.MULTILINE))
            # the first with version 1, of all that is below
            cached = counts.get("total_inactive_file", counts.get("inactive_file", 0))
            available.append(max(0, int(limit) - int(used) + int(cached)))
    return min(available, default=None)


def _own_cgroups(controller: str, cgroups: Path, membership: Path) -> list[Path]:
    """Return the folders of the cgroups that we are in and of those around them, of version 2 and of version
    1.
    """
    folders = []
    for line in _read(membership).splitlines():
        number, names, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not names or controller in names.split(","):
            top = cgroups / names
            own = top / path.strip("/")
            folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return folders


def _read(folder: Path, *names: str) -> str:
    """Return the text of the first of the files that is there, or of ``folder`` itself; an empty one if none
    is.
    """
    for path in [folder / name for name in names] or [folder]:
        try:
            return path.read_text().strip()
        except OSError:
            continue
    return ""
