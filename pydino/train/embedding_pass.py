"""Embeddings of all utterances of a run by the encoder that it starts from, before its first step."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import nn

from pydino.data import UtteranceCropConfig, batches

from .config import NOT_AUGMENTED, TrainingConfig
from .method import Method, evaluating
from .pipeline import Pipeline, open_pipeline
from .run import Run

LONGEST_SECONDS = 10.0  # of a longer utterance, a stretch of this length


@dataclass
class PassConfig(TrainingConfig):
    """One pass over whole utterances, not augmented."""

    method: Literal["pass"] = "pass"
    crops: UtteranceCropConfig = field(
        default_factory=lambda: UtteranceCropConfig(short="mask", whole_up_to_seconds=LONGEST_SECONDS)
    )


class ByLength:
    """Every utterance once, the shortest first, so that the utterances of a batch are about as long; the last
    batch is filled up from the beginning.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int):
        self._order = np.argsort(lengths, kind="stable")  # equal ones by their hash
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._order) // self.batch_size)

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return visits and indices of a step, both (B,) int64."""
        line = np.arange(step * self.batch_size, (step + 1) * self.batch_size) % len(self._order)
        return np.zeros_like(line), self._order[line]


@torch.no_grad()
def embed_utterances(
    encoder: nn.Module, method: Method, pipeline: Pipeline, run: Run, workers: int = 0
) -> torch.Tensor:
    """Return the embeddings, (N, D) float32 on the CPU, of the utterances of a run in the order of their
    hashes, the same in all processes, whose shares are put together. Nothing is drawn but the stretch of an
    utterance longer than ``LONGEST_SECONDS``.

    Args:
        encoder: on the device; it is left in the mode that it is in.
        method: whose precision it runs in.
        pipeline: data of the run.
        run: what is trained.
        workers: processes that read ahead.
    """
    config, distributed = pipeline.config, method.distributed
    plain = PassConfig(
        batch_size=config.batch_size,
        input=config.input,
        encoder=config.encoder,
        normalisation=config.normalisation,
        augment=NOT_AUGMENTED,
    )
    source = pipeline.source
    whole = open_pipeline(
        plain, run.data, run.front_end, run.seed, distributed, run.allow_pipes, source.hashes
    )
    order = whole.sampler.order = ByLength(source.lengths, whole.config.batch_size)
    found = torch.empty(len(source), encoder.embedding_dim)
    read = batches(
        whole.sampler,
        0,
        len(order),
        workers,
        pin=distributed.device.type == "cuda",
        local_processes=distributed.local_size,
    )
    with evaluating(encoder):
        for step, (batch,) in enumerate(read):
            views = whole.views(batch)
            with method.precision():
                rows = encoder(views.tensors[0], views.frames[0])
            found[torch.from_numpy(order(step)[1])] = distributed.gather_rows(rows.float()).cpu()
    return found
