"""Checks of whole trainings on a device, each with the command that users run; called by benchmarks/gpu.sh.

    python3 benchmarks/gpu_checks.py [--device cuda|cpu] [--made DIR] [--steps N] CHECK

    resume      a training that is killed (SIGKILL) and resumed has the weights of an uninterrupted one
    precision   losses in fp32, bf16 and fp16 side by side
    processes   two processes that share the device train as one does
    supervised  the shipped supervised configurations: loss and speed

Prints a table and the outcome. Exit status: 0 if it is as expected, 1 otherwise.
"""

import argparse
import copy
import math
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report import ROOT, show  # noqa: E402
from runs import Prepared, command, environment, log_of, prepare, set_steps, shipped, train  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

SMALL, LARGE = ROOT / "egs/mini/conf/dino-koleo.yaml", ROOT / "egs/voxceleb/conf/dino.yaml"
# On a GPU, sums in another order make two runs differ; a resumed run may differ by this factor more.
SLACK = 10
# Relative difference of losses that rounding may cause over a few steps.
PRECISION, PROCESSES = 0.1, 0.02


class Device:
    """The device of the checks, and their size: the large configuration is for a GPU only."""

    def __init__(self, name: str, steps: int):
        self.gpu = name == "cuda"
        self.options = ["--ngpu", "1"] if self.gpu else ["--num-threads", "1"]
        self.paths = [SMALL, LARGE] if self.gpu else [SMALL]
        self.steps = steps or (40 if self.gpu else 12)
        if not self.gpu:
            print(f"CPU: {LARGE.relative_to(ROOT)} is skipped, and batches of 16 utterances are trained")

    def prepare(self, path, made: Path, checkpoint_steps: int = 10**9, log_steps: int = 1) -> Prepared:
        """Return a configuration for this device with a short run."""
        run = prepare(path, made, [] if self.gpu else ["batch_size=16", "compute.precision=fp32"])
        set_steps(run, self.steps, log_steps, checkpoint_steps)
        return run


def resume(device: Device, made: Path, folder: Path) -> bool:
    """Compare two uninterrupted runs and one that is killed and resumed."""
    rows = []
    for path in device.paths:
        run = device.prepare(path, made, checkpoint_steps=max(1, device.steps // 4))
        exps = {name: folder / f"{path.parts[-3]}-{name}" for name in ("first", "second", "killed")}
        for name in ("first", "second"):
            train(command(run, exps[name], *device.options))
        arguments = command(run, exps["killed"], *device.options)
        killed_at = kill_at(device.steps * 2 // 3, arguments, exps["killed"])
        train(arguments)
        apart = difference(exps["first"], exps["second"])
        resumed = difference(exps["first"], exps["killed"])
        right = 0 < killed_at < device.steps and resumed <= SLACK * apart
        rows.append(
            {
                "configuration": str(path.relative_to(ROOT)),
                "steps": device.steps,
                "killed after": killed_at,
                "resumed - whole": f"{resumed:.1e}" if resumed else "identical",
                "whole - whole again": f"{apart:.1e}" if apart else "identical",
                "outcome": "as it should be" if right else "WRONG",
            }
        )
    show("largest difference between weights of teachers", rows)
    return all(row["outcome"] != "WRONG" for row in rows)


def kill_at(step: int, arguments: list[str], exp: Path) -> int:
    """Start a run, kill it when its log has reached ``step``; return the last step in the log."""
    process = subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while process.poll() is None and last_step(exp) < step:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return last_step(exp)


def last_step(exp: Path) -> int:
    """Return the last step in the log of a run; 0 if there is none."""
    return max((line["step"] for line in log_of(exp)), default=0)


def difference(exp: Path, other: Path) -> float:
    """Return the largest absolute difference between the weights of two teachers."""
    a, b = (load_file(folder / "teacher/model.safetensors") for folder in (exp, other))
    return max((a[name].double() - b[name].double()).abs().max().item() for name in a)


def precision(device: Device, made: Path, folder: Path) -> bool:
    """Print losses by precision; right if all are finite and near those in fp32."""
    names = ["fp32", "bf16", "fp16"] if device.gpu else ["fp32", "bf16"]
    if not device.gpu:
        print("CPU: fp16 is skipped, it needs a GPU")
    right = True
    for path in device.paths:
        prepared, logs = device.prepare(path, made, log_steps=max(1, device.steps // 6)), {}
        for name in names:
            run = copy.deepcopy(prepared)
            run.config.compute.precision = name
            exp = folder / f"{path.parts[-3]}-{name}"
            train(command(run, exp, *device.options))
            logs[name] = log_of(exp)
        right &= side_by_side(path, logs, PRECISION)
    return right


def processes(device: Device, made: Path, folder: Path) -> bool:
    """Compare a run with that of two processes, which share every batch."""
    program = (str(ROOT / "benchmarks/shared_device.py"),)
    print(f"two processes on one {'GPU' if device.gpu else 'CPU'}, through gloo; fp32")
    right = True
    for path in device.paths:
        run, logs = device.prepare(path, made, log_steps=max(1, device.steps // 6)), {}
        run.config.compute.precision = "fp32"
        for number in (1, 2):
            exp = folder / f"{path.parts[-3]}-{number}"
            options = {"processes": number, "program": program} if number > 1 else {}
            train(command(run, exp, *device.options, **options))
            logs[f"{number} process{'es'[: 2 * number - 2]}"] = log_of(exp)
        right &= side_by_side(path, logs, PROCESSES)
    return right


def side_by_side(path: Path, logs: dict[str, list[dict]], tolerance: float) -> bool:
    """Print losses by step, and speeds, of several runs; return whether the losses stay near the first's."""
    first, rows = next(iter(logs)), []
    for lines in zip(*logs.values(), strict=True):
        row = {"step": str(lines[0]["step"])}
        rows.append(row | {name: number(line["loss"]) for name, line in zip(logs, lines, strict=True)})
    show(f"{path.relative_to(ROOT)}: loss", [{k: _five(v) for k, v in row.items()} for row in rows])
    speeds = {
        name: statistics.median(number(x["utterances_per_second"]) for x in log) for name, log in logs.items()
    }
    print("utterances per second: " + ", ".join(f"{name} {speed:.0f}" for name, speed in speeds.items()))
    worst = {
        name: max(abs(row[name] / row[first] - 1) if math.isfinite(row[name]) else math.inf for row in rows)
        for name in logs
    }
    print("largest relative difference: " + ", ".join(f"{name} {value:.2g}" for name, value in worst.items()))
    right = bool(rows) and all(value <= tolerance for value in worst.values())  # a NaN is above any limit
    print(f"at most {tolerance:g}: {'as it should be' if right else 'WRONG'}")
    return right


def supervised(device: Device, made: Path, folder: Path) -> bool:
    """Train the shipped supervised configurations for some steps."""
    rows = []
    for path in shipped("xvector*.yaml"):
        if not device.gpu and path.parts[-3] == "voxceleb":
            print(f"CPU: {path.relative_to(ROOT)} is skipped")
            continue
        run, exp = device.prepare(path, made, log_steps=max(1, device.steps // 6)), folder / path.parts[-3]
        train(command(run, exp, *device.options))
        log = log_of(exp)
        losses = [number(line["loss"]) for line in log]
        rows.append(
            {
                "configuration": str(path.relative_to(ROOT)),
                "batch": run.config.batch_size,
                "utt/s": statistics.median(number(line["utterances_per_second"]) for line in log[1:] or log),
                "first loss": _five(losses[0]),
                "last loss": _five(losses[-1]),
                "outcome": "as it should be" if all(map(math.isfinite, losses)) else "WRONG",
            }
        )
    show("supervised training", rows)
    return all(row["outcome"] != "WRONG" for row in rows)


def number(value) -> float:
    """Return a number of the log, which has null for one that is not finite."""
    return math.nan if value is None else value


def _five(value) -> str:
    return value if isinstance(value, str) else f"{value:.5g}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    checks = {check.__name__: check for check in (resume, precision, processes, supervised)}
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: %(default)s")
    parser.add_argument(
        "--made", metavar="DIR", help="make data there and keep them (default: a temporary folder)"
    )
    parser.add_argument("--steps", type=int, default=0, help="of each training (default: 40, on a CPU 12)")
    parser.add_argument("check", choices=checks, metavar="CHECK", help=", ".join(checks))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = Path(args.made or folder)
        made.mkdir(parents=True, exist_ok=True)
        return 0 if checks[args.check](Device(args.device, args.steps), made, Path(folder)) else 1


if __name__ == "__main__":
    sys.exit(main())
