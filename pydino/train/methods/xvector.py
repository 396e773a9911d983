"""The supervised x-vector: an encoder is trained to classify labels, and the classification layer is
discarded.

Snyder et al. 2018, "X-vectors: robust DNN embeddings for speaker recognition"; with the additive angular
margin of Deng et al. 2019 (pydino/models/margin.py) in place of the plain softmax.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from pydino.base import check_not_negative, check_positive
from pydino.data import Batch, CropConfig, Views
from pydino.models import AamSoftmax
from pydino.train.config import TrainingConfig
from pydino.train.method import Method, Metrics, Setup
from pydino.train.monitors import MOMENTS, moments
from pydino.train.schedules import ramp

ROLES = ("model",)
READS_LABELS = True
READS_CLUSTERS = True  # in place of labels


@dataclass
class XvectorConfig(TrainingConfig):
    """A supervised run. Every crop of an utterance, global or local, is classified by itself."""

    method: Literal["xvector"] = "xvector"
    crops: CropConfig = field(
        default_factory=lambda: CropConfig(num_global=1, num_local=0, global_seconds=[2.0, 3.0])
    )
    scale: float = 30.0  # of the cosines: the inverse of the softmax's temperature
    margin: float = 0.3  # radians by which the angle to the right class must be smaller
    margin_warmup_epochs: float = 20.0  # the margin rises from 0 over this many

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "scale")
        check_not_negative(self, "margin_warmup_epochs")
        if not 0 <= self.margin < math.pi / 2:
            raise ValueError(f"margin must be in [0, pi/2) radians, got {self.margin}")
        for name, (here, teacher) in (("augment", self.augment_pair), ("waveform", self.waveform_pair)):
            if teacher != here:
                raise ValueError(
                    f"teacher_{name} changes the views of a teacher, and an x-vector has none; set {name} "
                    "instead"
                )


class Classifier(nn.Module):
    """Encoder and output layer."""

    def __init__(self, encoder: nn.Module, num_classes: int, scale: float, margin: float):
        super().__init__()
        self.encoder = encoder
        self.output = AamSoftmax(encoder.embedding_dim, num_classes, scale, margin)

    def forward(
        self, views: list[torch.Tensor], labels: torch.Tensor, margin: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (N, D) and logits (N, K) of tensors (n, T, F), one a length, and their labels
        (N,).
        """
        embeddings = torch.cat([self.encoder(view) for view in views])
        return embeddings, self.output(embeddings, labels, margin)


class Xvector(Method):
    """Encoder and output layer."""

    Config = XvectorConfig
    roles, reads_labels = ROLES, READS_LABELS

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.labels, config = setup.labels, self.config
        self.set_student(Classifier(self.new_encoder(), self.labels.num_classes, config.scale, config.margin))

    @property
    def max_effective_rank(self) -> int:
        """Classes take one direction less than there are of them."""
        return min(super().max_effective_rank, self.labels.num_classes - 1)

    def loss(self, batch: Batch, views: Views, micro_step: int) -> tuple[torch.Tensor, Metrics]:
        """The mean over crops of the cross-entropy. ``accuracy`` is the share of the crops that the output
        layer assigns to the right class, without a margin.
        """
        labels = self._labels_of(batch, views)
        with self.precision():
            embeddings, logits = self.network(views.student, labels, self.schedule(batch.step)["margin"])
        loss = F.cross_entropy(logits, labels)
        return loss, {
            "loss": loss.detach(),
            "accuracy": self._accuracy(embeddings.detach(), labels),
            MOMENTS: moments(embeddings[: len(batch.hashes)].detach()),  # one crop of each utterance
        }

    def collapse_reason(self, means: dict[str, float]) -> str | None:
        if means["embedding_spread"] >= 0.01:
            return None
        return (
            "collapse to a point: nearly every utterance gets the same embedding (spread "
            f"{means['embedding_spread']:.3f}, accuracy {100 * means['accuracy']:.1f} %); lower "
            "optimiser.lr, or "
            "raise margin_warmup_epochs"
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

    def _labels_of(self, batch: Batch, views: Views) -> torch.Tensor:
        """Return the labels (V B,) of the crops, views first, on the device."""
        labels = torch.from_numpy(self.labels.of(batch.hashes))
        number = sum(len(x) for x in views.student) // len(labels)
        return labels.tile(number).to(self.distributed.device, non_blocking=True)

    @torch.no_grad()
    def _accuracy(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (self.student.output.cosines(embeddings).argmax(1) == labels).float().mean()
