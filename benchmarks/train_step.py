"""Speed of a training step: this project beside the naive step (benchmarks/naive.py), in one run on the same
steps.

    python3 benchmarks/train_step.py [--config YAML] [--data DIR] [--steps N] [--ngpu 0|1] [--naive false]
    [--roofline true] [--json FILE]

Blocks of steps alternate between the two, so that other work on the machine affects both alike; speeds are
medians over blocks, and the ratio is the median of the blocks' ratios. A block is timed from before its first
batch is read until the device is idle; on a GPU after some steps of warm-up. Then some of
our steps are timed part by part, in milliseconds, on a GPU by events. With --naive false only our step is
measured, in fewer blocks.

Without --data random data are generated, in a temporary folder or in --made. Without --config: on a CPU the
configuration of egs/mini, on a GPU every egs/*/conf/dino*.yaml.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from naive import NaiveDino  # noqa: E402
from naive_data import NaiveLoader, NaiveViews, Recordings, StoredFeatures  # noqa: E402
from report import ROOT, finish, machine, show  # noqa: E402
from roofline import roofline, wait  # noqa: E402
from runs import prepare, shipped  # noqa: E402
from stopwatch import Stopwatch  # noqa: E402

from pydino.cli import boolean  # noqa: E402
from pydino.data import AugmentationData  # noqa: E402
from pydino.infer import read_front_end  # noqa: E402
from pydino.train import DistributedContext, Setup, find_method  # noqa: E402
from pydino.train.loop import make_optimiser, parameters_of, update  # noqa: E402
from pydino.train.pipeline import open_pipeline  # noqa: E402
from pydino.train.reading import read_batches  # noqa: E402
from pydino.train.schedules import learning_rate  # noqa: E402

SEED = 0
MINI = ROOT / "egs/mini/conf/dino-koleo.yaml"
BLOCKS, BLOCKS_ALONE = 6, 3
WORKERS = 10  # of the naive step, as in the public code, but at most one per core
PARTS = ("views", "teacher forward", "student forward", "loss", "backward", "update", "teacher update")


class Ours:
    """Our step, assembled as in ``pydino train``."""

    def __init__(self, config, data: Path, distributed: DistributedContext, workers: int):
        self.distributed, self.workers = distributed, workers
        self.front_end = read_front_end(data, config.normalisation)
        self.pipeline = open_pipeline(config, data, self.front_end, SEED, distributed)
        self.config, self.views = self.pipeline.config, self.pipeline.views
        torch.manual_seed(SEED)
        self.method = find_method(config.method)(
            Setup(
                self.config,
                self.pipeline.feature_dim,
                self.pipeline.total_steps,
                self.pipeline.steps_per_epoch,
                distributed,
                hashes=self.pipeline.source.hashes,
            )
        )
        groups = self.method.parameter_groups()
        self.parameters = parameters_of(groups)
        self.optimiser = make_optimiser(groups, config.optimiser)

    def step(self, micro_batches, step: int) -> None:
        """Make one update."""
        pipeline, optimiser = self.pipeline, self.config.optimiser
        lr = learning_rate(step, pipeline.total_steps, pipeline.steps_per_epoch, optimiser)
        update(
            self.method, self.views, self.optimiser, self.parameters, micro_batches, step, lr, optimiser.clip
        )

    def __call__(self, first: int, last: int):
        """Yield after each of the steps ``first`` to ``last`` - 1."""
        sampler, sampling = self.pipeline.sampler, self.method.positive_sampling
        read = read_batches(sampler, sampling, first, last, self.workers, self.distributed)
        for step, micro_batches in enumerate(read, first):
            self.step(micro_batches, step)
            yield


class Naive:
    """The naive step."""

    def __init__(self, ours: Ours, data: Path, device: torch.device):
        config, pipeline = ours.config, ours.pipeline
        options, dataset = ours.front_end.feature_options(), pipeline.source
        if config.input == "audio":
            read = Recordings(
                dataset,
                config,
                options,
                AugmentationData(config.augmentation_data, options, config.longest_seconds, SEED, "cpu"),
                SEED,
            )
        else:
            read = StoredFeatures(data)
        made = NaiveViews(
            read,
            config,
            pipeline.sampler.order,
            dataset.lengths,
            pipeline.feature_dim,
            options.frame_shift / 1000,
            SEED,
        )
        self.loader = NaiveLoader(made, min(WORKERS, len(os.sched_getaffinity(0))), device.type == "cuda")
        torch.manual_seed(SEED)
        self.dino = NaiveDino(
            config, pipeline.feature_dim, pipeline.total_steps, pipeline.steps_per_epoch, device
        )

    def __call__(self, first: int, last: int):
        """Yield after each of the steps ``first`` to ``last`` - 1."""
        for step, views in enumerate(self.loader(first, last), first):
            self.dino.step(views, step)
            yield


def seconds_of(side, uncounted: int, device, first: int, last: int, clock=time.perf_counter) -> float:
    """Return the seconds of the steps ``first`` to ``last`` - 1, after ``uncounted`` steps of warm-up."""
    began = clock()
    for number, _ in enumerate(side(first - uncounted, last), 1):
        if number == uncounted:
            wait(device)
            began = clock()
    wait(device)
    return clock() - began


def alternating(sides: dict, blocks: int, size: int, first: int) -> dict[str, list[float]]:
    """Return the seconds of blocks of ``size`` steps, from ``first`` on, that alternate between sides, after
    one that warms up. A side is a function of the first step and the last that returns the seconds.
    """
    times = {name: [] for name in sides}
    for block in range(blocks + 1):
        for name, seconds in list(sides.items())[:: 1 if block % 2 else -1]:
            took = seconds(first + block * size, first + (block + 1) * size)
            if block:
                times[name].append(took)
    return times


def compare(ours: Ours, naive: Naive | None, steps: int, uncounted: int) -> dict:
    """Return utterances per second and, beside ``naive``, of both and their ratio, from alternating blocks of
    the same steps.
    """
    device, blocks = ours.distributed.device, BLOCKS if naive else BLOCKS_ALONE
    size = max(1, steps // blocks)
    sides = {"ours": ours, "naive": naive} if naive else {"ours": ours}
    sides = {name: partial(seconds_of, side, uncounted, device) for name, side in sides.items()}
    times = alternating(sides, blocks, size, uncounted)
    speed = {
        name: statistics.median(ours.config.batch_size * size / took for took in taken)
        for name, taken in times.items()
    }
    figures = {f"{name}_utterances_per_second": value for name, value in speed.items()}
    figures |= {"steps": size * blocks, "blocks": blocks}
    if naive:
        ratios = [slow / fast for fast, slow in zip(times["ours"], times["naive"], strict=True)]
        figures |= {"ratio": statistics.median(ratios), "ratios": [round(ratio, 3) for ratio in ratios]}
    return figures


def take_apart(ours: Ours, first: int, steps: int) -> dict[str, float]:
    """Return the median milliseconds of each part of our step, the host's reading of a batch among them."""
    method, watch, sampler = ours.method, Stopwatch(ours.distributed.device), ours.pipeline.sampler
    hooks = [
        method.teacher.register_forward_hook(lambda *_: watch.mark("teacher forward")),
        method.network.register_forward_hook(lambda *_: watch.mark("student forward")),
        ours.optimiser.register_step_post_hook(lambda *_: watch.mark("update")),
    ]
    views, ours.views = ours.views, watch.after("views", ours.views)
    # which embeds all micro-batches if there are several
    method.before_step = watch.after("student forward", method.before_step)
    method.loss = watch.after("loss", method.loss)
    before_update = method.before_update
    method.before_update = lambda step: (watch.mark("backward"), before_update(step))
    method.after_update = watch.after("teacher update", method.after_update)
    taken = []
    for step in range(first, first + steps):
        began = time.perf_counter()
        micro_batches = sampler[step]
        read = 1000 * (time.perf_counter() - began)
        watch.mark("")
        ours.step(micro_batches, step)
        taken.append({"data": read, **watch.milliseconds()})
    for hook in hooks:
        hook.remove()
    ours.views = views
    for name in ("before_step", "loss", "before_update", "after_update"):
        delattr(method, name)
    return {name: statistics.median(parts[name] for parts in taken) for name in ("data", *PARTS)}


def measure(path: Path, args, folder: Path) -> dict:
    """Return the figures of one configuration."""
    prepared = prepare(path, folder, args.set, args.data)
    config, data = prepared.config, prepared.data
    distributed = DistributedContext(args.ngpu)
    ours = Ours(config, data, distributed, args.data_workers)
    naive = Naive(ours, data, distributed.device) if args.naive else None
    figures = {
        "configuration": str(path),
        "device": str(distributed.device),
        "batch_size": config.batch_size,
        "input": config.input,
    }
    figures |= compare(ours, naive, args.steps, 20 if args.ngpu else 0)
    del naive
    figures["milliseconds"] = take_apart(ours, args.steps, max(4, args.steps // BLOCKS))
    if args.roofline or args.ngpu:
        figures["roofline"] = roofline(
            lambda step: ours.step(ours.pipeline.sampler[step], step),
            distributed.device,
            ours.method.precision.name,
        )
    return figures


def print_figures(figures: dict) -> None:
    """Print the figures of one configuration as tables."""
    print(
        f"\n{figures['configuration']}, batches of {figures['batch_size']}, input {figures['input']}, "
        f"{figures['device']}"
    )
    named = {name: f"{name}_utterances_per_second" for name in ("ours", "naive")}
    per = {name: figures[key] for name, key in named.items() if key in figures}
    rows = [
        {"step": name, "utt/s": speed, "ms a step": 1000 * figures["batch_size"] / speed}
        for name, speed in per.items()
    ]
    show(f"medians over {figures['blocks']} blocks, {figures['steps']} steps of each", rows)
    whole = sum(ms for name, ms in figures["milliseconds"].items() if name != "data")
    rows = [
        {"part of ours": name, "ms": ms, "share": ms / whole} for name, ms in figures["milliseconds"].items()
    ]
    show("parts (reading overlaps with the previous step, and is not included in the sum)", rows)
    if "roofline" in figures:
        ceilings = figures["roofline"]["ceilings"]
        show(
            "roofline: " + ", ".join(f"{name} {value:.4g}" for name, value in ceilings.items()),
            figures["roofline"]["kinds"],
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--config", help="configuration to measure")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key, such as compute.precision=bf16",
    )
    parser.add_argument("--data", help="pre-training directory (default: generated random data)")
    parser.add_argument("--made", metavar="DIR", help="generate the random data there, keep and reuse them")
    parser.add_argument(
        "--naive",
        type=boolean,
        default=True,
        metavar="true|false",
        help="compare with the naive step (default: %(default)s)",
    )
    parser.add_argument("--steps", type=int, help="steps of each side (default: 24, on a GPU 120)")
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs (default: 1 if there is one)")
    parser.add_argument(
        "--data-workers",
        type=int,
        default=0,
        help="reading processes of our step; 0: a thread (default: %(default)s)",
    )
    parser.add_argument(
        "--roofline",
        type=boolean,
        default=False,
        metavar="true|false",
        help="on a CPU too (default: %(default)s)",
    )
    parser.add_argument("--json", help="write the figures there")
    args = parser.parse_args()
    args.ngpu = int(torch.cuda.is_available()) if args.ngpu is None else args.ngpu
    args.steps = args.steps or (120 if args.ngpu else 24)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    paths = [Path(args.config)] if args.config else shipped("dino*.yaml") if args.ngpu else [MINI]
    result = {"machine": machine(), "configurations": []}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.made or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            figures = measure(path, args, folder)
            print_figures(figures)
            result["configurations"].append(figures)
    finish(result, args.json)
    if args.naive:
        ratio = statistics.median(figures["ratio"] for figures in result["configurations"])
        print(f"ratio to the naive step: {ratio:.2f}")


if __name__ == "__main__":
    main()
