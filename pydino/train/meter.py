"""Speed of training, and the share of the time that it waits for data."""

import resource
import time

import torch

from pydino.data import Batch

from .distributed import DistributedContext


class Meter:
    """Speed of an interval. Only the host's clock is read; nothing waits for the device.

    A host that runs ahead of a busy device blocks where it queues work; one that blocks here, for data, has
    no work to queue, so the device is idle.
    """

    def __init__(self, distributed: DistributedContext):
        self._distributed = distributed
        self._start()

    def _start(self):
        self._began, self._utterances, self._seconds, self._waited = time.monotonic(), 0, 0.0, 0.0

    def waiting_for(self, items):
        """Yield the items, counting the time that it takes to get them."""
        iterator = iter(items)
        while True:
            began = time.monotonic()
            try:
                item = next(iterator)
            except StopIteration:
                return
            self._waited += time.monotonic() - began
            yield item

    def add(self, micro_batches: list[Batch]) -> None:
        """Count the utterances and the crops of a step."""
        for batch in micro_batches:
            self._utterances += len(batch.hashes) * self._distributed.size
            self._seconds += batch.seconds * self._distributed.size

    def read(self) -> dict[str, float]:
        """Return the figures since the last reading, and start over."""
        took = time.monotonic() - self._began
        if self._distributed.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(self._distributed.device)
        else:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        figures = {
            "utterances_per_second": round(self._utterances / took, 1),
            "hours_per_second": round(self._seconds / 3600 / took, 4),
            "data_wait": round(self._waited / took, 4),
            "memory_gb": round(memory / 1e9, 3),
        }
        self._start()
        return figures
