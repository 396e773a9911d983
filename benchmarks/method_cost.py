"""Cost of the methods that learn without labels: milliseconds a step, memory, and the whole training, beside
dino-koleo in the same run.

    python3 benchmarks/method_cost.py [--config YAML]... [--set KEY=VALUE]... [--data DIR] [--steps 4]
    [--blocks 6] [--ngpu 0|1] [--json FILE]

Every configuration, by default those of egs/mini, has a process of its own, which takes steps from the middle
of its training, of random weights. Blocks of --steps alternate between them, so that other work on the
machine affects all alike. "ms" is the median over blocks of the milliseconds of a step, and "ratio" the
median of the blocks' ratios to the first configuration. "GB" is the peak memory of the process, or of the
GPU. On a CPU times are those of the processor, with one thread, so that other work matters less.
"clusterings" are those that a training makes itself (positives: ssps), and "s each" what one took, with its
embeddings. "minutes" are those of all steps and clusterings on these data, "training" their ratio to the
first. The start, checkpoints and snapshots are not in it.

Without --data random data are generated. With those of a recipe (in its folder, after stage 3) the numbers of
steps and the clusterings are the recipe's.
"""

import argparse
import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from report import ROOT, finish, machine, show  # noqa: E402
from runs import Prepared, prepare  # noqa: E402
from train_step import SEED, Ours, alternating, seconds_of  # noqa: E402

from pydino.train import DistributedContext  # noqa: E402
from pydino.train.embedding_pass import EmbeddingPass  # noqa: E402
from pydino.train.meter import Meter  # noqa: E402
from pydino.train.run import Run  # noqa: E402

# of egs/mini; the first is the peer
NAMES = "dino-koleo dino rdino sdpn sdpn-dimension simclr moco dino-ssps dino-osps simclr-ssps".split()
WARMUP = 20  # steps before a block on a GPU


def serve(run: Prepared, ngpu: int, connection) -> None:
    """Train in this process: send the steps and the clusterings of the run, then the seconds of each block
    that is asked for, and at last the peak memory.
    """
    torch.set_num_threads(1)
    clock = time.perf_counter if ngpu else time.process_time
    distributed = DistributedContext(ngpu)
    ours = Ours(run.config, run.data, distributed, 0)
    connection.send({"steps": ours.pipeline.total_steps, **clusterings(ours, run, clock)})
    for first, last in iter(connection.recv, None):
        connection.send(seconds_of(ours, WARMUP if ngpu else 0, distributed.device, first, last, clock))
    connection.send(Meter(distributed).read()["memory_gb"])


def clusterings(ours: Ours, run: Prepared, clock) -> dict:
    """Return how often a run clusters its utterances, and the seconds of the first time, which this does."""
    method, config = ours.method, ours.config
    sampling = method.positive_sampling
    if sampling is None:
        return {"clusterings": 0, "s each": 0.0}
    number = sum(map(sampling.is_due, range(math.ceil(config.epochs))))
    began = clock()
    of_run = Run(type(method), config, run.data, run.data, SEED)
    embed = EmbeddingPass(method, ours.pipeline, of_run)
    sampling.find(method.encoders()[method.roles[0]], embed.with_crops)
    return {"clusterings": number, "s each": clock() - began}


class Trainer:
    """A configuration in a process of its own.

    Attributes:
        about: ``steps`` of its training, ``clusterings`` and seconds of one, ``s each``.
    """

    def __init__(self, run: Prepared, ngpu: int):
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(run, ngpu, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.about = self._connection.recv()

    def seconds(self, first: int, last: int) -> float:
        """Return the seconds of a block of steps, counted from the middle of the training."""
        middle = self.about["steps"] // 2
        self._connection.send((middle + first, middle + last))
        return self._connection.recv()

    def end(self) -> float:
        """End the process; return the peak memory in GB."""
        self._connection.send(None)
        memory = self._connection.recv()
        self._process.join()
        return memory


def measure(runs: dict[str, Prepared], args) -> list[dict]:
    """Return the figures of each configuration."""
    trainers = {name: Trainer(run, args.ngpu) for name, run in runs.items()}
    sides = {name: trainer.seconds for name, trainer in trainers.items()}
    times = alternating(sides, args.blocks, args.steps, WARMUP if args.ngpu else 0)
    peer, rows = next(iter(times.values())), []
    for name, trainer in trainers.items():
        about, step = trainer.about, statistics.median(times[name]) / args.steps
        ratios = [took / of_peer for took, of_peer in zip(times[name], peer, strict=True)]
        figures = {"method": name, "ms": 1000 * step, "ratio": statistics.median(ratios), "GB": trainer.end()}
        figures |= about
        figures["minutes"] = (about["steps"] * step + about["clusterings"] * about["s each"]) / 60
        figures["training"] = figures["minutes"] / (rows or [figures])[0]["minutes"]
        rows.append(figures)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    default = [str(ROOT / f"egs/mini/conf/{name}.yaml") for name in NAMES]
    parser.add_argument("--config", action="append", help="configuration to measure, the peer first")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of all"
    )
    parser.add_argument("--data", help="pre-training directory (default: generated random data)")
    parser.add_argument("--steps", type=int, default=4, help="of a block (default: %(default)s)")
    parser.add_argument("--blocks", type=int, default=6, help="of each configuration (default: %(default)s)")
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs (default: 1 if there is one)")
    parser.add_argument("--json", help="write the figures there")
    args = parser.parse_args()
    args.ngpu = int(torch.cuda.is_available()) if args.ngpu is None else args.ngpu
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = map(Path, args.config or default)
        runs = {path.stem: prepare(path, Path(folder), args.set, args.data) for path in paths}
        try:
            rows = measure(runs, args)
        except EOFError:
            sys.exit("benchmarks: the process of a configuration has ended; it has said why")
    sizes = ", ".join(sorted({str(run.config.batch_size) for run in runs.values()}))
    show(f"batches of {sizes}, {args.blocks} blocks of {args.steps} steps", rows)
    finish({"machine": machine(), "methods": rows}, args.json)


if __name__ == "__main__":
    main()
