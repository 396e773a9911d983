"""The supervised x-vector as a method of the training loop: embeddings learn to tell labels apart, and the
layer that tells is thrown away.

Snyder et al. 2018, "X-vectors: robust DNN embeddings for speaker recognition"; with the additive angular
margin of Deng et al. 2019 (pydino/models/margin.py) in place of the plain softmax.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pydino.data import Batch, CropConfig, ViewMaker
from pydino.models import AamSoftmax, build_encoder

from .config import TrainingConfig, check_not_negative, check_positive
from .distributed import DistributedContext
from .method import Method
from .monitors import embedding_spread, moments
from .schedules import ramp


@dataclass
class XvectorConfig(TrainingConfig):
    """A supervised run. Every crop of an utterance, global or local, is classified by itself."""

    crops: CropConfig = field(
        default_factory=lambda: CropConfig(num_global=1, num_local=0, global_seconds=[2.0, 3.0])
    )
    scale: float = 30.0  # of the cosines: the inverse of the softmax's temperature
    margin: float = 0.3  # radians by which the angle to the right class must be smaller
    margin_warmup_epochs: float = 20.0  # the margin rises from 0 over so many

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "scale")
        check_not_negative(self, "margin_warmup_epochs")
        if not 0 <= self.margin < math.pi / 2:
            raise ValueError(f"margin must be in [0, pi/2) radians, got {self.margin}")
        for name, (here, teacher) in (("augment", self.augment_pair), ("waveform", self.waveform_pair)):
            if teacher != here:
                raise ValueError(
                    f"teacher_{name} changes what a teacher sees, and here is none; say it in {name}"
                )

    @property
    def method(self) -> str:
        """Name of the method in results."""
        return "xvector"


class Classifier(nn.Module):
    """Encoder and output layer."""

    def __init__(self, config: XvectorConfig, feature_dim: int, num_classes: int):
        super().__init__()
        self.encoder = build_encoder(config.encoder, feature_dim)
        self.output = AamSoftmax(self.encoder.embedding_dim, num_classes, config.scale, config.margin)

    def forward(
        self, views: list[torch.Tensor], labels: torch.Tensor, margin: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (N, D) and logits (N, K) of tensors (n, T, F), one a length, and their labels
        (N,).
        """
        embeddings = torch.cat([self.encoder(view) for view in views])
        return embeddings, self.output(embeddings, labels, margin)


class Xvector(Method):
    """Encoder, output layer, and how a batch becomes a loss.

    Args:
        config: of the run.
        views: what makes views of a batch.
        feature_dim: F.
        hashes: (N,) uint64, ascending: the utterances.
        labels: (N,) int64, their classes: numbers from 0, each of which some utterance has.
        total_steps, steps_per_epoch: what schedules stretch over.
        distributed: this process among others.
    """

    def __init__(
        self,
        config: XvectorConfig,
        views: ViewMaker,
        feature_dim: int,
        hashes: np.ndarray,
        labels: np.ndarray,
        total_steps: int,
        steps_per_epoch: float,
        distributed: DistributedContext,
    ):
        super().__init__(config, views, total_steps, steps_per_epoch, distributed)
        self._hashes, self._labels, self._num_classes = hashes, labels, int(labels.max()) + 1
        self.teach(self.prepared(Classifier(config, feature_dim, self._num_classes).to(distributed.device)))

    @property
    def directions(self) -> int:
        """Classes ask for one direction less than there are of them."""
        return min(super().directions, self._num_classes - 1)

    def encoders(self) -> dict[str, nn.Module]:
        return {"model": self.student.encoder}

    def loss(self, batch: Batch, number: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The mean over crops of the cross-entropy. ``accuracy`` is the share of the crops that the output
        layer puts in the right class, without a margin.
        """
        views, labels = self.views(batch), self._labels_of(batch)
        with self.precision():
            embeddings, logits = self.network(views, labels, self.schedule(batch.step)["margin"])
        loss = F.cross_entropy(logits, labels)
        first = embeddings[: len(batch.hashes)].detach()  # one crop of each utterance
        metrics = {
            "loss": loss.detach(),
            "accuracy": self._accuracy(embeddings.detach(), labels),
            "embedding_spread": embedding_spread(first),
            "embedding_moments": moments(first),
        }
        return loss / self.config.compute.accumulation, metrics

    def diagnosis(self, means: dict[str, float]) -> str:
        if means["embedding_spread"] >= 0.01:
            return ""
        return (
            "collapse to a point: nearly every utterance gets the same embedding (spread "
            f"{means['embedding_spread']:.3f}, accuracy "
            f"{100 * means['accuracy']:.1f} %); lower optimiser.lr, or raise margin_warmup_epochs"
        )

    def schedule(self, step: int) -> dict[str, float]:
        return {
            "margin": ramp(step, self.config.margin_warmup_epochs * self.steps_per_epoch, self.config.margin)
        }

    def describe(self, means: dict[str, float]) -> str:
        return (
            f"loss {means['loss']:.3f}, accuracy {100 * means['accuracy']:.1f} %, spread "
            f"{means['embedding_spread']:.3f}"
        )

    def _labels_of(self, batch: Batch) -> torch.Tensor:
        """Return the labels (V B,) of the crops, views first, on the device."""
        labels = self._labels[np.searchsorted(self._hashes, batch.hashes)]
        crops = self.config.crops
        return torch.from_numpy(np.tile(labels, crops.num_global + crops.num_local)).to(
            self.distributed.device, non_blocking=True
        )

    @torch.no_grad()
    def _accuracy(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (self.student.output.cosines(embeddings).argmax(1) == labels).float().mean()
