"""Reading batches ahead of the steps that need them: by a thread, or by worker processes that pass them in
shared memory.
"""

import os
import queue
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process, resource_tracker
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from pydino.base import UserError

from .views import Batch, ViewSampler

SHARED_MEMORY = Path("/dev/shm")
PREFETCH = 2  # steps that each worker reads ahead
_REMEDY = (
    "give the container more (docker run --shm-size 8g, or --ipc host), or read without worker processes "
    "(--data-workers 0)"
)


def batches(
    sampler: ViewSampler,
    first_step: int,
    last_step: int,
    workers: int = 0,
    pin: bool = False,
    local_processes: int = 1,
) -> Iterator[list[Batch]]:
    """Yield the micro-batches of steps ``first_step`` to ``last_step`` - 1, read ahead of the step that needs
    them.

    Args:
        sampler: of the batches.
        first_step, last_step: range of steps.
        workers: number of reading processes; 0: a thread of this one, which suffices where reading takes less
            time than the step.
        pin: copy batches to page-locked memory.
        local_processes: training processes on this machine, which share its memory.

    Raises:
        UserError: the machine has too little shared memory for the workers, or a worker was killed.
    """
    if first_step >= last_step:
        return
    if workers == 0:
        yield from _read_by_thread(sampler, first_step, last_step)
        return
    check_shared_memory(sampler, first_step, workers, local_processes)
    loader = DataLoader(
        _Steps(sampler),
        batch_size=None,
        sampler=range(first_step, last_step),
        num_workers=workers,
        collate_fn=_share,
        worker_init_fn=_obey_parent,
        pin_memory=pin,
        prefetch_factor=PREFETCH,
        multiprocessing_context="forkserver",
        # not the global one: a resumed run starts a loader more than one that was not killed
        generator=torch.Generator(),
    )
    with _signals_blocked():
        iterator = iter(loader)
    while True:
        try:
            micro_batches = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            raise _explained(error) or error from error
        if isinstance(micro_batches, UserError):
            raise micro_batches
        yield micro_batches


def check_shared_memory(sampler: ViewSampler, step: int, workers: int, local_processes: int = 1) -> None:
    """Raise an error if the workers would run out of shared memory.

    Each worker holds PREFETCH steps, and the training process one; the size of a step is estimated from one
    that is read here, scaled to the longest crops. Without /dev/shm nothing is checked.

    Raises:
        UserError: with the memory needed, the memory free, and the remedy.
    """
    if not SHARED_MEMORY.is_dir():
        return
    micro_batches = sampler[step]
    frames = sum(len(batch.hashes) * int(batch.content.sizes.sum()) for batch in micro_batches)
    longest = max(1.0, sampler.accumulation * sampler.most_frames / frames)
    of_step = longest * sum(batch.nbytes for batch in micro_batches)
    needed, free = local_processes * (workers * PREFETCH + 1) * of_step, free_bytes()
    if needed > free:
        raise UserError(
            f"{workers} data workers{f' of {local_processes} processes' if local_processes > 1 else ''} hold "
            f"up to {needed / 1e6:.0f} MB of batches in shared memory, and {SHARED_MEMORY} has "
            f"{free / 1e6:.0f} MB free; {_REMEDY}, or fewer (--data-workers)"
        )


def free_bytes() -> int:
    """Return the free shared memory in bytes."""
    return shutil.disk_usage(SHARED_MEMORY).free


def _explained(error: RuntimeError) -> UserError | None:
    """Return an error of a worker process with a remedy, or None for an unknown one."""
    text = str(error)
    if "shared memory" in text or "Bus error" in text:
        return UserError(f"the data workers ran out of shared memory ({SHARED_MEMORY}); {_REMEDY}")
    if "DataLoader worker" in text and "exited unexpectedly" in text or "killed by signal" in text:
        return UserError(
            "a data worker was killed, perhaps because the machine is short of memory "
            f"({text.splitlines()[0]}); start the training again, and it resumes; with fewer workers "
            "(--data-workers) it needs less memory"
        )
    return None


@contextmanager
def _signals_blocked():
    """Block SIGTERM and SIGUSR1 in the processes that are started inside: they end after the last batch, or
    when their parent terminates them (:func:`_obey_parent`).

    torchrun and Slurm signal every process of the job, so that training saves a checkpoint, for which it must
    still receive the batch that it is waiting for.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    resource_tracker.ensure_running()  # multiprocessing's helper; starting it unblocks SIGTERM
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _obey_parent(_worker: int) -> None:
    """End this worker at a SIGTERM from the training process, and only then.

    multiprocessing terminates the workers when that process exits, and waits for them: with an error, say,
    while batches are still being read.
    """

    def wait():
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    parent = parent_process().pid
    threading.Thread(target=wait, daemon=True, name="waiting for SIGTERM").start()


class _Steps(Dataset):
    """The steps of a sampler. A user's mistake is returned: raised in a worker process, its message would
    hold a traceback.
    """

    def __init__(self, sampler: ViewSampler):
        self.sampler = sampler

    def __getitem__(self, step: int) -> "list[Batch] | UserError":
        try:
            return self.sampler[step]
        except UserError as error:
            return error


def _share(micro_batches: "list[Batch] | UserError"):
    # In the worker's main thread: a failure in the queue's thread would only be printed, and training would
    # wait for the batch for ever.
    if isinstance(micro_batches, UserError):
        return micro_batches
    return [batch.share_memory() for batch in micro_batches]


def _read_by_thread(sampler: ViewSampler, first_step: int, last_step: int, depth: int = 3):
    read: queue.Queue = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def offer(item) -> bool:
        while not stopped.is_set():
            try:
                read.put(item, timeout=0.2)
                return True
            except queue.Full:
                pass
        return False

    def read_ahead():
        try:
            for step in range(first_step, last_step):
                if not offer(sampler[step]):
                    return
            offer(None)
        except BaseException as error:  # raised by the consumer
            offer(error)

    threading.Thread(target=read_ahead, daemon=True, name="reading ahead").start()
    try:
        while (item := read.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
