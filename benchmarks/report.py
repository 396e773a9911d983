"""What the benchmarks share: on what they ran, and how figures are shown."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch

from pydino.base import write_json

ROOT = Path(__file__).resolve().parents[1]


def machine() -> dict:
    """Return processor, cores, GPU, versions and command."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit,
        "command": shlex.join(["python3", *sys.argv]),
    }


def processor() -> str:
    """Return the model of the processor and, of its instructions, those that matter here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    wide = [
        name
        for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
        if name in fields.get("flags", "").split()
    ]
    return f"{fields.get('model name', platform.machine())} ({', '.join(wide)})"


def show(title: str, rows: list[dict]) -> None:
    """Print rows that have the same keys as a table."""
    print(f"\n{title}")
    if not rows:
        return
    cells = [[_text(value) for value in row.values()] for row in rows]
    head = list(rows[0])
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    for first, *others in [head, *cells]:
        print(
            "  ".join(
                [
                    first.ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)),
                ]
            )
        )


def _text(value) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def finish(figures: dict, path: str | None) -> None:
    """Say on what the figures were measured, and write them."""
    print("\n" + "; ".join(f"{name} {value}" for name, value in figures["machine"].items()))
    if path:
        write_json(path, figures)
