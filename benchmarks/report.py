"""Common to the benchmarks: description of the machine, and output of results."""

import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pydino.base import write_json  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


def machine() -> dict:
    """Return processor, cores, GPU, versions and command."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    commit = commit or "unknown (no git repository)"
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
    """Return the model of the processor and its relevant instruction sets."""
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
    """Print the machine of the measurements, and write the figures."""
    print("\n" + "; ".join(f"{name} {value}" for name, value in figures["machine"].items()))
    if path:
        write_json(path, figures)


def header(device: str, command: str) -> str:
    """Return the head of a results file in Markdown: device, versions, commit, command.

    Raises:
        SystemExit: no GPU for "cuda".
    """
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "benchmarks: PyTorch finds no GPU. Is there one (nvidia-smi), and is this PyTorch built for CUDA "
            "(PYDINO_TORCH=cuda bash utils/setup.sh)? Without a GPU, --device cpu rehearses at reduced size"
        )
    lines = {"date": time.strftime("%Y-%m-%d %H:%M %Z")}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        lines |= {
            "GPU": f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, compute capability "
            f"{properties.major}.{properties.minor}",
            "driver": driver(),
            "CUDA, cuDNN": f"{torch.version.cuda}, {torch.backends.cudnn.version()}",
        }
    else:
        lines["GPU"] = (
            "none: a rehearsal at reduced size, whose figures are not those of a GPU; skipped parts are "
            "listed"
        )
    lines |= {name: str(value) for name, value in machine().items() if name not in ("gpu", "threads")}
    lines["command"] = f"`{command}`"
    rows = "".join(f"| {name} | {value} |\n" for name, value in lines.items())
    return f"# {torch.cuda.get_device_name() if device == 'cuda' else 'cpu'}\n\n| | |\n|---|---|\n{rows}"


def driver() -> str:
    """Return the version of NVIDIA's driver."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown (no nvidia-smi)"


if __name__ == "__main__":
    print(header(*sys.argv[1:]), end="")
