"""The supervised x-vector: an encoder is trained to classify labels, and the classification layer is
discarded.

Snyder et al. 2018, "X-vectors: robust DNN embeddings for speaker recognition"; with the additive angular
margin of Deng et al. 2019 (pydino/models/margin.py) in place of the plain softmax.

With clusters in place of labels (--clusters) it is a round on pseudo-labels: the encoder is that of the model
whose embeddings were clustered (--init), and the output layer starts at the centroids of the clusters.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from pydino.base import check_not_negative, check_positive, check_sizes
from pydino.data import Batch, CropConfig, Views
from pydino.models import AamSoftmax
from pydino.train.centroids import centroids
from pydino.train.config import TrainingConfig
from pydino.train.method import Method, Metrics, ParameterGroup, Setup
from pydino.train.monitors import MOMENTS, collapse_to_a_point, moments
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
    sub_centres: int = 1  # rows of weights of each class, the nearest of which counts
    # inter-top-k: this many of the most similar other classes must be farther by hard_margin (radians)
    hard_negatives: int = 0  # the published systems have 5, and a hard_margin of 0.06
    hard_margin: float = 0.06  # rises with the margin
    # the classes start at the centroids of their utterances, and the encoder's embeddings are centred
    start_from_centroids: bool = False
    output_lr_scale: float = 1.0  # factor of the learning rate of the output layer
    min_utterances: int = 2  # with --clusters: smaller ones are left out of training

    def __post_init__(self):
        super().__post_init__()
        check_sizes(self, "sub_centres", most=1000)
        check_positive(self, "scale", "output_lr_scale", "min_utterances")
        check_not_negative(self, "margin_warmup_epochs", "hard_negatives", "hard_margin")
        if not 0 <= self.margin < math.pi / 2:
            raise ValueError(f"margin must be in [0, pi/2) radians, got {self.margin}")
        self.check_no_teacher("an x-vector")


class Classifier(nn.Module):
    """Encoder and output layer."""

    def __init__(self, encoder: nn.Module, num_classes: int, config: XvectorConfig):
        super().__init__()
        self.encoder = encoder
        self.output = AamSoftmax(
            encoder.embedding_dim,
            num_classes,
            config.scale,
            config.margin,
            config.sub_centres,
            config.hard_negatives,
            config.hard_margin,
        )

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
    roles, reads_labels, reads_clusters = ROLES, READS_LABELS, READS_CLUSTERS
    of_data = (*Method.of_data, "student.output")

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.labels, config = setup.labels, self.config
        self.set_student(Classifier(self.new_encoder(), self.labels.num_classes, config))

    def parameter_groups(self) -> list[ParameterGroup]:
        groups, scale = super().parameter_groups(), self.config.output_lr_scale
        if scale == 1:
            return groups
        output = list(self.student.output.parameters())
        kept = {id(p) for p in output}
        for group in groups:
            group.parameters = [p for p in group.parameters if id(p) not in kept]
        return [*(group for group in groups if group.parameters), ParameterGroup(output, lr_scale=scale)]

    def before_first_step(self, embed) -> None:
        """The classes start at their centroids."""
        if self.config.start_from_centroids:
            classes = torch.from_numpy(self.labels.classes)
            self.student.output.start_at(
                centroids(self.student.encoder, embed, classes, self.labels.num_classes)
            )

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
        return collapse_to_a_point(means, "lower optimiser.lr, or raise margin_warmup_epochs")

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
