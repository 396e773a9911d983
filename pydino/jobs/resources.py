"""What the jobs of a wrapper can have: on this machine, or on the nodes of a cluster.

``cmd`` is a wrapper with its options, as in ``cmd.sh``.
"""

import os
import subprocess

from .machine import num_cores, visible_gpus


def program_of(cmd: str) -> str:
    """Return the name of a wrapper's program, without its folder and options."""
    return os.path.basename((cmd.split() or [""])[0])


def runs_here(cmd: str) -> bool:
    """Return whether a wrapper runs its jobs on this machine: ``run_local.sh``, or Kaldi's ``run.pl``."""
    return program_of(cmd) in ("run_local.sh", "run.pl")


def num_gpus(cmd: str = "run_local.sh") -> int:
    """Return the GPUs to use by default: all that jobs here may use; of a cluster one, if it has any."""
    return len(visible_gpus()) if runs_here(cmd) else int(any("gpu" in row for row in _sinfo("%G")))


def num_threads(cmd: str, processes: int = 1) -> int:
    """Return the threads to use by default in a job of so many processes: the cores of this machine; on a
    cluster eight a process, at most the cores of its largest node.
    """
    if runs_here(cmd):
        return num_cores()
    nodes = [int(row.rstrip("+")) for row in _sinfo("%c") if row.rstrip("+").isdigit()]
    return min(8 * processes, max(nodes, default=8 * processes))


def _sinfo(column: str) -> list[str]:
    try:
        done = subprocess.run(["sinfo", "-h", "-o", column], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.split()
