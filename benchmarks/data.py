"""Speed of reading: hours of audio a second, by kind of input and number of workers, without any training.

    python3 benchmarks/data.py [--workers "0 1 2"] [--steps N] [--folder DIR] [--json FILE]

Batches of crops are read as training reads them (2 x 4 s and 4 x 2 s of utterances of 8 s, 64 utterances a
batch), from stored features, plain and compressed, and from recordings, wav and FLAC; 0 workers is the
reading thread of the trainer. Hours are those of the crops, 16 s per utterance. Random data are first written
to --folder, whose file system is reported; they are read from the page cache, so the result is bounded by the
processors and not by the storage. Runs of the kinds alternate, and the median is reported. Reading from audio
ends with the samples; filter banks are computed on the device.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch  # noqa: E402
from made_data import make_training_dir  # noqa: E402
from report import finish, machine, show  # noqa: E402

from pydino.audio import NormalisationConfig  # noqa: E402
from pydino.data import (  # noqa: E402
    CONTEXT_SECONDS,
    AudioSet,
    CropConfig,
    EpochSampler,
    TrainingSet,
    ViewSampler,
    batches,
    view_groups,
)
from pydino.infer import read_front_end  # noqa: E402

BATCH, UTTERANCES, SECONDS, PASSES = 64, 256, 8.0, 3
KINDS = {
    "features, plain": {},
    "features, compressed": {"compression": 2},
    "audio, wav": {"audio": "wav"},
    "audio, FLAC": {"audio": "flac"},
}


def storage(folder: Path) -> str:
    """Return the file system and the kind of disk under a folder, as far as known."""
    found = subprocess.run(
        ["df", "--output=source,fstype", str(folder)], capture_output=True, text=True
    ).stdout.splitlines()
    return " ".join(found[-1].split()) if found else "unknown"


def sampler_of(data: Path, audio: bool) -> ViewSampler:
    """Return the sampler that training uses."""
    options = read_front_end(data, NormalisationConfig()).feature_options()
    dataset = AudioSet(data, options, CONTEXT_SECONDS) if audio else TrainingSet(data)
    crops = CropConfig()
    order = EpochSampler(dataset.hashes, BATCH, 0)
    return ViewSampler(dataset, crops, view_groups(crops), order, 0.01, 0)


def utterances_per_second(sampler: ViewSampler, steps: int, workers: int) -> float:
    """Return the speed of reading; the first batches, during which workers start, are excluded."""
    uncounted = 4 * workers + 1
    began = time.perf_counter()
    for number, _ in enumerate(batches(sampler, 0, uncounted + steps, workers), 1):
        if number == uncounted:
            began = time.perf_counter()
    return BATCH * steps / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--workers",
        default=f"0 1 {cores}",
        help="numbers of worker processes; 0: a thread (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, default=24, help="batches of each measurement (default: %(default)s)"
    )
    parser.add_argument("--folder", help="folder for the data (default: the system's temporary folder)")
    parser.add_argument("--json", help="write the figures there")
    args = parser.parse_args()
    numbers = sorted({int(number) for number in args.workers.split()})
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        where = storage(Path(folder))
        samplers = {}
        for name, how in KINDS.items():
            data = make_training_dir(Path(folder) / name.replace(", ", "-"), UTTERANCES, SECONDS, **how)
            samplers[name] = sampler_of(data, "audio" in how)
        seconds = samplers["features, plain"][0][0].seconds / BATCH
        taken: dict[tuple, list[float]] = {(name, number): [] for number in numbers for name in KINDS}
        for _ in range(PASSES):
            for name, number in taken:
                taken[name, number].append(utterances_per_second(samplers[name], args.steps, number))
    rows = []
    for (name, number), speeds in taken.items():
        speed = statistics.median(speeds)
        rows.append(
            {"input": name, "workers": number or "thread", "utt/s": speed, "hours/s": speed * seconds / 3600}
        )
    show(f"reading, {seconds:g} s of crops an utterance, page cache warm, {where}", rows)
    finish({"machine": machine(), "storage": where, "seconds_of_crops": seconds, "rows": rows}, args.json)


if __name__ == "__main__":
    main()
