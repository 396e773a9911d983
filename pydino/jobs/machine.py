"""What this machine has for jobs: cores, memory and GPUs, within the limits of a container or a batch job."""

import glob
import os
import re
import subprocess
from pathlib import Path

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_CGROUPS, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def num_bytes(text: str) -> int:
    """Return the bytes of a size such as ``4G`` or ``0.5g``; a number alone is megabytes, as in Slurm."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1].isalpha() else (text, "M")
    return int(float(number) * _UNITS[unit])


def num_cores(cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP) -> int:
    """Return the cores that this process may use: those of its affinity, or the share of a cgroup."""
    cores = len(os.sched_getaffinity(0))
    for folder in _own_cgroups("cpu", cgroups, membership):
        limits = _read(folder, "cpu.max").split()
        quota, period = limits or (_read(folder, "cpu.cfs_quota_us"), _read(folder, "cpu.cfs_period_us"))
        if quota.isdigit() and period.isdigit():
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


def available_memory(
    meminfo: Path = Path("/proc/meminfo"), cgroups: Path = _CGROUPS, membership: Path = _MEMBERSHIP
) -> int | None:
    """Return the bytes that new processes can have without swapping, or None where the system does not say:
    ``MemAvailable``, or less where a cgroup has a limit: that minus what is in use, apart from cached files
    (``inactive_file``), which the kernel drops when memory is needed.
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


def visible_gpus() -> list[str]:
    """Return the GPUs that jobs may use: what the machine has, restricted by ``CUDA_VISIBLE_DEVICES``.

    A GPU goes by its number in ``nvidia-smi`` (``CUDA_DEVICE_ORDER=PCI_BUS_ID``), a MIG slice by its UUID.
    """
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60).stdout
        rows = re.finditer(r"^GPU (\d+): .*?\(UUID: ([^)]+)\)", listing, flags=re.MULTILINE)
        number = {row[2]: row[1] for row in rows}
    except (OSError, subprocess.TimeoutExpired):
        number = {path: path.removeprefix("/dev/nvidia") for path in glob.glob("/dev/nvidia[0-9]*")}
    number |= {n: n for n in number.values()}
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return sorted(set(number.values()), key=int)
    chosen = []
    for name in filter(None, map(str.strip, wanted.split(","))):
        longer = [uuid for uuid in number if name.startswith("GPU-") and uuid.startswith(name)]
        name = longer[0] if len(longer) == 1 else name  # as in CUDA, a UUID may be abbreviated
        if name not in number and not (number and name.startswith("MIG-")):
            break  # CUDA itself stops at the first name it does not know
        chosen.append(number.get(name, name))
    return list(dict.fromkeys(chosen))


def _own_cgroups(controller: str, cgroups: Path, membership: Path) -> list[Path]:
    """Return the folders of this process's cgroups and of those around them, of versions 1 and 2."""
    folders = []
    for line in _read(membership).splitlines():
        number, names, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not names or controller in names.split(","):
            top = cgroups / names
            own = top / path.strip("/")
            folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return folders


def _read(folder: Path, *names: str) -> str:
    """Return the text of the first of the files that exists, or of ``folder`` itself; "" if none does."""
    for path in [folder / name for name in names] or [folder]:
        try:
            return path.read_text().strip()
        except OSError:
            continue
    return ""
