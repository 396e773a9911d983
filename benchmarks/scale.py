"""Scaling of training: utterances per second with 1 to N processes, and efficiency.

    python3 benchmarks/scale.py [--processes "1 2"] [--config YAML] [--set KEY=VALUE] [--ngpu true] [--json
    FILE]

Each run is the real command, `pydino train` under torchrun, on random data; on a CPU the processes have one
thread each and communicate through gloo, with --ngpu true each has a GPU. The global batch is the same in all
runs (strong scaling). Runs with different numbers of processes alternate; the median over the lines of the
log except the first of each run is reported. Efficiency is the speed over that of one process, by the number
of processes.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report import ROOT, finish, machine, show  # noqa: E402
from runs import Prepared, command, log_of, prepare, set_steps, train  # noqa: E402

from pydino.cli import boolean  # noqa: E402

INTERVALS, ROUNDS = 4, 2


def speeds_of(run: Prepared, exp: Path, processes: int, gpus: bool) -> list[float]:
    """Return utterances per second of each interval of a run but the first."""
    options = ["--ngpu", str(processes)] if gpus else ["--num-threads", str(processes)]
    train(command(run, exp, *options, processes=processes))
    return [line["utterances_per_second"] for line in log_of(exp)[1:]]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--processes", default="1 2", help="numbers of processes (default: %(default)s)")
    parser.add_argument(
        "--config", default=str(ROOT / "egs/mini/conf/dino-koleo.yaml"), help="default: mini's"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of it"
    )
    parser.add_argument("--steps", type=int, default=10, help="steps of an interval (default: %(default)s)")
    parser.add_argument(
        "--ngpu",
        type=boolean,
        default=False,
        metavar="true|false",
        help="a GPU for each process (default: %(default)s)",
    )
    parser.add_argument("--json", help="write the figures there")
    args = parser.parse_args()
    numbers = sorted({int(number) for number in args.processes.split()})
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        run = prepare(args.config, folder, args.set)
        config = run.config
        set_steps(run, INTERVALS * args.steps, args.steps)
        speeds: dict[int, list[float]] = {number: [] for number in numbers}
        for turn in range(ROUNDS):
            for number in numbers:
                speeds[number] += speeds_of(run, folder / f"exp{turn}-{number}", number, args.ngpu)
    medians = {number: statistics.median(values) for number, values in speeds.items()}
    base = medians[numbers[0]] / numbers[0]
    rows = [
        {"processes": number, "utt/s": speed, "efficiency": speed / number / base}
        for number, speed in medians.items()
    ]
    show(
        f"{args.config}, batches of {config.batch_size} over all processes, one "
        f"{'GPU' if args.ngpu else 'thread'} each",
        rows,
    )
    finish(
        {"machine": machine(), "configuration": args.config, "batch_size": config.batch_size, "rows": rows},
        args.json,
    )


if __name__ == "__main__":
    main()
