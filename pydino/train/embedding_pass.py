"""Embeddings of all utterances of a run by its encoder, for what is decided by them: before the first step,
and where an epoch ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from torch import nn

from pydino.backend.clustering import Embedded
from pydino.data import UtteranceCropConfig, batches
from pydino.models import build_encoder

from .config import NOT_AUGMENTED, TrainingConfig
from .method import Method, evaluating
from .pipeline import Pipeline, open_pipeline
from .run import Run

LONGEST_SECONDS = 10.0  # of a longer utterance, a stretch of this length
CROP_SECONDS = 2.5  # of augmented crops


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


class EmbeddingPass:
    """Passes over the N utterances of a run, in the order of their hashes. Every process embeds its share,
    and has the result of all. Nothing is drawn from the global generators.

    Args:
        method: whose precision encoders run in.
        pipeline: data of the run.
        run: what is trained.
        workers: processes that read ahead.
    """

    def __init__(self, method: Method, pipeline: Pipeline, run: Run, workers: int = 0):
        self._method, self._pipeline, self._run, self._workers = method, pipeline, run, workers

    def __call__(self, encoder: nn.Module) -> torch.Tensor:
        """Return the embeddings, (N, D) float32 on the CPU, of whole utterances, not augmented. Nothing is
        drawn but the stretch of an utterance longer than ``LONGEST_SECONDS``.

        Args:
            encoder: on the device; it is left in the mode that it is in.
        """
        return self._embed([encoder], self._plain())[0][0]

    def with_crops(
        self, encoder: nn.Module, crops: int, statistics: bool
    ) -> tuple[Embedded, Embedded | None]:
        """Return the embeddings, as :meth:`__call__` does, with those of augmented crops, and the same of the
        standard deviations of the features over time; None without ``statistics``.

        Args:
            encoder: on the device.
            crops: number of crops of each utterance, augmented as in training but not masked; 0: none.
            statistics: whether the deviations are wanted.
        """
        encoders = [encoder]
        if statistics:
            encoders.append(
                build_encoder({"name": "statistics", "mean": False}, self._pipeline.feature_dim).to(
                    self._method.distributed.device
                )
            )
        whole = [rows[0].numpy() for rows in self._embed(encoders, self._plain())]
        found = [Embedded(vectors) for vectors in whole]
        if crops:
            rows = self._embed(encoders, self._augmented(crops))
            classes = np.tile(np.arange(len(whole[0])), crops)
            found = [
                Embedded(vectors, x.flatten(0, 1).numpy(), classes)
                for vectors, x in zip(whole, rows, strict=True)
            ]
        return found[0], found[1] if statistics else None

    def _plain(self) -> PassConfig:
        config = self._pipeline.config
        return PassConfig(
            batch_size=config.batch_size,
            input=config.input,
            encoder=config.encoder,
            normalisation=config.normalisation,
            augment=NOT_AUGMENTED,
        )

    def _augmented(self, crops: int) -> PassConfig:
        config = self._pipeline.config
        return replace(
            self._plain(),
            crops=UtteranceCropConfig(num_global=crops, global_seconds=[CROP_SECONDS, CROP_SECONDS]),
            augment=replace(config.augment, time_mask_frames=0, frequency_mask_bands=0),
            teacher_augment={},
            waveform=config.waveform,
            teacher_waveform={},
            augmentation_data=config.augmentation_data,
        )

    @torch.no_grad()
    def _embed(self, encoders: list[nn.Module], config: PassConfig) -> list[torch.Tensor]:
        """Return of each encoder (V, N, D) float32 on the CPU, of V views of each utterance."""
        run, distributed, source = self._run, self._method.distributed, self._pipeline.source
        data = open_pipeline(
            config, run.data, run.front_end, run.seed, distributed, run.allow_pipes, source.hashes
        )
        order = data.sampler.order = ByLength(source.lengths, data.config.batch_size)
        views = config.crops.num_global
        found = [torch.empty(views, len(source), encoder.embedding_dim) for encoder in encoders]
        for step, x, frames in self._views(data, len(order)):
            places = torch.from_numpy(order(step)[1])
            for encoder, rows in zip(encoders, found, strict=True):
                with evaluating(encoder), self._method.precision():
                    embedded = encoder(x, frames)
                embedded = embedded.float().unflatten(0, (views, -1)).transpose(0, 1)  # utterances first
                rows[:, places] = distributed.gather_rows(embedded).transpose(0, 1).cpu()
        return found

    def _views(self, data: Pipeline, steps: int) -> Iterator[tuple[int, torch.Tensor, torch.Tensor | None]]:
        device, local = self._method.distributed.device, self._method.distributed.local_size
        read = batches(data.sampler, 0, steps, self._workers, device.type == "cuda", local)
        for step, (batch,) in enumerate(read):
            views = data.views(batch)
            yield step, views.tensors[0], views.frames[0]
