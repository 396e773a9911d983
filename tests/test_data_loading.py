"""Worker processes that read ahead hand batches over in shared memory; too little of it is noticed, never waited
for.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pydino.base import UserError
from pydino.data import CropConfig, EpochSampler, ViewSampler, batches, loading, view_groups
from pydino.data.training_set import Crops

HASHES = np.arange(40, dtype=np.uint64)


class Source:
    """Crops of nothing, of 40 columns; ``then`` is done instead of the reading of step 3."""

    hashes, lengths = HASHES, np.full(40, 500)

    def __init__(self, then=None):
        self.then, self.calls = then, 0

    def __len__(self):
        return 40

    def collect(self, indices, starts, sizes, factors=None):
        self.calls += 1
        if self.calls == 3 and self.then:
            self.then()
        return Crops(torch.zeros(len(indices) * int(sizes.sum()), 40), sizes)


class OutOfSharedMemory(Crops):
    def share_memory(self):
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"
        )


class SmallSource(Source):
    def collect(self, *arguments):
        content = super().collect(*arguments)
        return OutOfSharedMemory(content.values, content.sizes)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def sampler(source=None, accumulation=1):
    # 8 x (2 x 100 + 20) frames, drawn up to 8 x (2 x 200 + 20), of 40 numbers of 4 bytes: 0.54 MB at most
    crops = CropConfig(num_local=1, global_seconds=[1.0, 2.0], local_seconds=[0.2, 0.2])
    order = EpochSampler(HASHES, 8, 3)
    return ViewSampler(
        source or Source(), crops, view_groups(crops), order, 0.01, 3, accumulation=accumulation
    )


@pytest.mark.parametrize(
    "workers, processes, free, enough",
    [(2, 1, 2.5e6, False), (2, 1, 2.8e6, True), (1, 2, 2.8e6, False), (1, 2, 3.3e6, True)],
)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_too_little_shared_memory_is_refused_before_anything_waits(
    monkeypatch, workers, processes, free, enough, accumulation
):
    """Two steps a worker and one more, of the longest crops."""
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda path: SimpleNamespace(free=int(free)))
    if enough:
        loading.check_shared_memory(sampler(accumulation=accumulation), 0, workers, processes)
        return
    with pytest.raises(UserError) as refused:
        next(batches(sampler(accumulation=accumulation), 0, 9, workers, local_processes=processes))
    for word in (f"{workers} data workers", f"{free / 1e6:.0f} MB free", "--shm-size", "--data-workers 0"):
        assert word in str(refused.value)


def test_shared_memory_that_runs_out_later_ends_the_training_with_advice():
    read = batches(sampler(SmallSource()), 0, 9, 1)
    with pytest.raises(UserError, match="ran out of shared memory .*--shm-size"):
        next(read)


def test_a_worker_that_is_killed_ends_the_training_with_advice():
    read = batches(sampler(Source(killed)), 0, 9, 1)
    with pytest.raises(UserError, match="a data worker was killed.*start the training again"):
        for _ in read:
            pass


def mistaken():
    raise UserError("a.flac is truncated")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mistake_found_by_a_reader_is_reported_as_it_is(workers):
    with pytest.raises(UserError) as raised:
        for _ in batches(sampler(Source(mistaken)), 0, 9, workers):
            pass
    assert str(raised.value) == "a.flac is truncated"


def test_no_shared_memory_is_asked_for_by_a_reading_thread(monkeypatch):
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert len(list(batches(sampler(), 0, 5))) == 5


def test_a_process_that_fails_while_batches_are_read_ends_and_only_it_terminates_its_workers():
    """A SIGTERM of others, such as torchrun's, stays without effect; the parent's ends a worker at exit."""
    program = """
import multiprocessing, subprocess
from test_data_loading import batches, sampler
read = batches(sampler(), 0, 999, 1)
next(read)
(worker,) = multiprocessing.active_children()
subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
worker.join(1)
for _ in range(4):
    next(read)
print("alive" if worker.is_alive() else "dead", flush=True)
raise ValueError("of the training")  # sys.last_traceback keeps the loader alive until the exit
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout) == (1, "alive\n") and "of the training" in ended.stderr


@pytest.mark.parametrize("workers", [0, 1])
def test_readers_draw_nothing_from_the_global_generator(workers):
    """Its state is in checkpoints: a resumed run, which starts readers once more, would differ."""
    before = torch.get_rng_state()
    assert len(list(batches(sampler(), 0, 2, workers))) == 2
    assert torch.equal(before, torch.get_rng_state())
