"""Batches of a run, whose partners may change where an epoch ends."""

from collections.abc import Iterator

from pydino.data import Batch, ViewSampler, batches

from .distributed import DistributedContext
from .positive_sampling import PositiveSampling


def read_batches(
    sampler: ViewSampler,
    sampling: PositiveSampling | None,
    first_step: int,
    last_step: int,
    workers: int,
    distributed: DistributedContext,
) -> Iterator[list[Batch]]:
    """Yield the micro-batches of steps ``first_step`` to ``last_step`` - 1. Where positives are found in
    training, nothing is read ahead of the steps after which others are found.
    """
    while first_step < last_step:
        end = last_step
        if sampling is not None:
            sampler.partners = sampling.partners(sampler.seed)
            end = min(end, sampling.next_due(first_step))
        yield from batches(
            sampler,
            first_step,
            end,
            workers,
            pin=distributed.device.type == "cuda",
            local_processes=distributed.local_size,
        )
        first_step = end
