"""Batches of crops by step number, each the same whoever asks and whenever, and reading them ahead of the
step that needs them.
"""

import queue
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker

import numpy as np
from torch.utils.data import DataLoader, Dataset

from pydino.audio.speed import drawn_factors
from pydino.base import UserError

from .crops import CropConfig, CropPlacer
from .epoch_sampler import EpochSampler
from .training_set import Crops
from .waveforms import Waveforms


@dataclass
class Batch:
    """What one pass through the networks starts from.

    Attributes:
        step: the step it belongs to.
        visits: (B,) int64, which visit of its utterance each row is; the epoch, where every epoch visits
            every utterance once.
        hashes: (B,) uint64.
        content: what was read for them.
        seconds: of audio in all crops together.
    """

    step: int
    visits: np.ndarray
    hashes: np.ndarray
    content: Crops | Waveforms
    seconds: float

    def pin_memory(self) -> "Batch":
        """Return a copy that a GPU can fetch by itself."""
        return replace(self, content=self.content.pin_memory())


class ViewSampler(Dataset):
    """Batches of crops by step number, for one of several processes.

    Args:
        dataset: the pre-training directory, :class:`TrainingSet` or :class:`AudioSet`.
        crops: numbers, lengths and places of crops.
        order: which utterances a step sees.
        frame_shift: seconds.
        seed: of every draw.
        speed_factors: one is drawn for each visit of an utterance; other than 1 for audio only.
        rank, world_size: this process among how many.
        accumulation: passes that a step is made of.

    Raises:
        UserError: the batch cannot be shared out evenly.
    """

    def __init__(
        self,
        dataset,
        crops: CropConfig,
        order: EpochSampler,
        frame_shift: float,
        seed: int,
        speed_factors: tuple[float, ...] = (1.0,),
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
    ):
        self.dataset, self.order, self.seed, self.speed_factors = dataset, order, seed, list(speed_factors)
        self.rank, self.world_size, self.accumulation = rank, world_size, accumulation
        self.size, rest = divmod(order.batch_size, world_size * accumulation)  # of one pass of one process
        if rest or self.size < 2:
            raise UserError(
                f"batch_size {order.batch_size} cannot be shared out among {world_size} processes in "
                f"{accumulation} passes each, two "
                "utterances or more at a time; change batch_size or compute.accumulation"
            )
        self._place = CropPlacer(crops, frame_shift, seed)

    @property
    def shortest(self) -> int:
        """Frames of the shortest crop that may be drawn."""
        return self._place.shortest

    def __getitem__(self, step: int) -> list[Batch]:
        """Return the batches of a step for this process, one a pass."""
        visits, indices = self.order(step)
        sizes = self._place.sizes(step)
        passes = []
        for number in range(self.accumulation):
            first = (number * self.world_size + self.rank) * self.size
            rows = slice(first, first + self.size)
            passes.append(self._batch(step, visits[rows], indices[rows], sizes))
        return passes

    def _batch(self, step: int, visits: np.ndarray, indices: np.ndarray, sizes: np.ndarray) -> Batch:
        hashes, lengths = self.dataset.hashes[indices], self.dataset.lengths[indices]
        seconds = len(hashes) * float(sizes.sum()) * self._place.frame_shift
        if self.speed_factors == [1.0]:
            content = self.dataset.collect(indices, self._place.starts(visits, hashes, lengths, sizes), sizes)
        else:
            factors = drawn_factors(self.speed_factors, self.seed, visits, hashes)
            # frames at the speed at which they are heard
            heard = np.maximum(1, np.floor(lengths / factors)).astype(np.int64)
            starts = np.floor(self._place.starts(visits, hashes, heard, sizes) * factors[:, None]).astype(
                np.int64
            )
            content = self.dataset.collect(indices, starts, sizes, factors)
        return Batch(step, visits, hashes, content, seconds)


def batches(sampler: ViewSampler, first_step: int, last_step: int, workers: int = 0, pin: bool = False):
    """Yield the batches of steps ``first_step`` to ``last_step`` - 1, read ahead of the step that needs them.

    Args:
        sampler: what to read.
        first_step, last_step: of the run.
        workers: processes that read; 0: a thread of this one, which is enough where the step takes most of
            the time.
        pin: hand on memory that a GPU can fetch by itself.
    """
    if workers == 0:
        yield from _read_by_thread(sampler, first_step, last_step)
        return
    loader = DataLoader(
        sampler,
        batch_size=None,
        sampler=range(first_step, last_step),
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin,
        prefetch_factor=2,
        multiprocessing_context="forkserver",
    )
    with _deaf_processes():
        iterator = iter(loader)
    yield from iterator


@contextmanager
def _deaf_processes():
    """Processes that are started inside do not hear SIGTERM and SIGUSR1: they end when they are told that
    there is nothing more to read.

    torchrun and Slurm signal all processes there are, to have the one that trains save. It could not without
    the batch it waits for.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    resource_tracker.ensure_running()  # multiprocessing's helper; starting it lets SIGTERM in again
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _as_it_is(passes: list[Batch]) -> list[Batch]:
    return passes


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
        except BaseException as error:  # to be raised where the batch was wanted
            offer(error)

    threading.Thread(target=read_ahead, daemon=True, name="reading ahead").start()
    try:
        while (item := read.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
