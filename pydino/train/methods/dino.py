"""DINO: self-distillation with no labels. A student predicts, of every view, the output of its teacher for
another view of the same utterance; the teacher is an average of the student over time.

Caron et al. 2021 (arXiv 2104.14294) for images, Cho et al. 2022 (arXiv 2208.05445) for utterances; the loss
is pydino/ssl/dino.py. Optional terms: KoLeo (pydino/ssl/koleo.py) and a cosine between embeddings
(pydino/ssl/cosine.py).

With ``positives: cluster`` the teacher sees another utterance of the cluster (--clusters; Han et al. 2023,
"Cluster-aware DINO", arXiv 2304.05754), drawn again at each visit, and the student predicts its outputs from
all views of its own. With ``positives: ssps`` the run finds the clusters itself, by the teacher's embeddings
(pydino/train/positive_sampling.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from pydino.base import check_not_negative
from pydino.data import Batch, ViewGroup, Views, with_partners_for_the_teacher
from pydino.models import DinoHead, HeadConfig, buffers_kept
from pydino.ssl import DinoLoss, DinoLossConfig, cosine_loss, koleo, make_teacher, update_teacher
from pydino.train.method import Method, Metrics, Setup
from pydino.train.monitors import MOMENTS, collapse, moments
from pydino.train.positives_config import PositivesConfig
from pydino.train.schedules import cosine, ramp

ROLES = ("teacher", "student")
READS_LABELS = False
READS_CLUSTERS = True  # with positives: cluster


@dataclass
class TeacherConfig:
    """Momentum of the teacher: a cosine from ``momentum`` to ``final_momentum``.

    0.996 suits hundreds of thousands of steps; in a run of a thousand the teacher then lags too far behind,
    and 0.98 is better.
    """

    momentum: float = 0.98
    final_momentum: float = 1.0
    momentum_steps: int = 0  # steps of the cosine; 0: the whole run

    def __post_init__(self):
        if not 0 <= self.momentum <= self.final_momentum <= 1:
            raise ValueError(
                f"momentum must rise from momentum to final_momentum in [0, 1], got {self.momentum} and "
                f"{self.final_momentum}"
            )
        check_not_negative(self, "momentum_steps")


@dataclass
class DinoConfig(PositivesConfig):
    """A DINO run."""

    method: Literal["dino"] = "dino"
    head: HeadConfig = field(
        default_factory=lambda: HeadConfig(hidden_dim=512, bottleneck_dim=128, output_dim=1024)
    )
    loss: DinoLossConfig = field(default_factory=DinoLossConfig)
    koleo_weight: float = 0.0  # above 0 results call the method dino-koleo; 0.1 is worth much at small scale
    # of 1 - cosine between the embeddings of teacher and student, over the pairs of the loss
    cosine_weight: float = 0.0
    cosine_ramp_epochs: float = 20.0  # its weight rises from 0 over this many
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    freeze_last_layer_epochs: float = 1.0  # the prototypes are frozen at first
    freeze_last_layer_steps: int = 0  # above 0: instead of freeze_last_layer_epochs

    def __post_init__(self):
        super().__post_init__()
        if self.crops.num_global < 2:
            raise ValueError(
                "crops.num_global must be at least 2 (the student predicts another view than its own), got "
                f"{self.crops.num_global}"
            )
        check_not_negative(
            self,
            "koleo_weight",
            "cosine_weight",
            "cosine_ramp_epochs",
            "freeze_last_layer_epochs",
            "freeze_last_layer_steps",
        )

    @property
    def view_groups(self) -> list[ViewGroup]:
        groups = super().view_groups
        return with_partners_for_the_teacher(groups) if self.of_others else groups

    @property
    def name(self) -> str:
        """Name of the method in results."""
        return "dino-koleo" if self.koleo_weight else "dino"


class Network(nn.Module):
    """Encoder and head: the student, and its teacher."""

    def __init__(self, encoder: nn.Module, head: HeadConfig):
        super().__init__()
        self.encoder = encoder
        self.head = DinoHead(head, encoder.embedding_dim)

    def forward(self, views: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (N, D) and logits (N, K) of tensors (n, T, F), one a length; the head runs once
        for all.
        """
        embeddings = torch.cat([self.encoder(view) for view in views])
        return embeddings, self.head(embeddings)


class Dino(Method):
    """Student, teacher and centre."""

    Config = DinoConfig
    roles, reads_labels, reads_clusters = ROLES, READS_LABELS, READS_CLUSTERS

    def __init__(self, setup: Setup):
        super().__init__(setup)
        config = self.config
        self.frozen_steps = config.freeze_last_layer_steps or round(
            config.freeze_last_layer_epochs * self.steps_per_epoch
        )
        student = Network(self.new_encoder(), config.head).to(self.distributed.device)
        teacher = make_teacher(student)
        self.set_student(student)
        self.teacher = self.prepared(teacher)
        for module, follower in zip(self.student.modules(), self.teacher.modules(), strict=True):
            follower.training = module.training  # what is frozen in the student has fixed statistics in both
        self.criterion = DinoLoss(config.loss, config.head.output_dim).to(self.distributed.device)
        self._teacher_means: torch.Tensor | None = None
        self._whole_batch: torch.Tensor | None = None

    def encoders(self) -> dict[str, nn.Module]:
        return {"teacher": self.teacher.encoder, "student": self.student.encoder}

    def before_step(self, views: Iterable[Views]) -> None:
        """KoLeo compares all utterances of a step. Where they come in several micro-batches, it needs the
        embeddings of all of them first; with dropout these are of another draw.
        """
        self._teacher_means = self._whole_batch = None
        if self.config.koleo_weight and self.micro_batches > 1:
            with torch.no_grad(), self.precision(), buffers_kept(self.student.encoder):
                rows = [self.student.encoder(of_micro_batch.group("global")) for of_micro_batch in views]
            self._whole_batch = torch.cat([self._gathered(x) for x in rows], dim=1)

    def loss(self, batch: Batch, views: Views, micro_step: int) -> tuple[torch.Tensor, Metrics]:
        config, num_global, size = self.config, self.config.crops.num_global, len(batch.hashes)
        with self.precision():
            with torch.no_grad():
                teacher_embeddings, teacher_logits = self.teacher(views.teacher)
            embeddings, logits = self.network(views.student)
        teacher_embeddings, teacher_logits = (
            x.unflatten(0, (num_global, size)) for x in (teacher_embeddings, teacher_logits)
        )
        shared = not config.of_others
        loss, metrics, means = self.criterion(logits.unflatten(0, (-1, size)), teacher_logits, shared)
        share = 1 / self.micro_batches
        self._teacher_means = (
            means * share if self._teacher_means is None else self._teacher_means + means * share
        )
        metrics = {"dino_loss": loss.detach(), **metrics}
        if config.cosine_weight:
            term = cosine_loss(embeddings.unflatten(0, (-1, size)), teacher_embeddings, shared)
            loss = loss + self.schedule(batch.step)["cosine_weight"] * term
            metrics["cosine_loss"] = term.detach()
        if config.koleo_weight:
            term = self._koleo(embeddings[: num_global * size], micro_step)
            loss = loss + config.koleo_weight * self.of_whole_batch(term)
            metrics["koleo"] = term.detach()
        return loss, {"loss": loss.detach(), **metrics, MOMENTS: moments(embeddings[:size].detach())}

    def before_update(self, step: int) -> None:
        """The prototypes are frozen at first."""
        if step < self.frozen_steps:
            self.student.head.prototypes.grad = None

    def after_update(self, step: int) -> Metrics:
        """Update the teacher, then the centre."""
        update_teacher(self.teacher, self.student, self.schedule(step)["momentum"])
        return self.criterion.update_centre(self.distributed.mean(self._teacher_means))

    def collapse_reason(self, means: dict[str, float]) -> str | None:
        return collapse(means, self.config.head.output_dim)

    def schedule(self, step: int) -> dict[str, float]:
        teacher, config = self.config.teacher, self.config
        values = {
            "momentum": cosine(
                step, teacher.momentum_steps or self.total_steps, teacher.momentum, teacher.final_momentum
            )
        }
        if config.cosine_weight:
            values["cosine_weight"] = ramp(
                step, config.cosine_ramp_epochs * self.steps_per_epoch, config.cosine_weight
            )
        return values

    def describe(self, means: dict[str, float]) -> str:
        parts = "".join(f", {name} {means[name]:.2f}" for name in ("koleo", "cosine_loss") if name in means)
        return (
            f"loss {means['loss']:.3f} (dino {means['dino_loss']:.3f}{parts}), entropy of teacher "
            f"{means['teacher_entropy']:.2f}, "
            f"student {means['student_entropy']:.2f}, mean teacher {means['mean_teacher_entropy']:.2f}, KL "
            f"{means['kl']:.2f}, "
            f"spread {means['embedding_spread']:.3f}"
        )

    def _gathered(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the embeddings (G, W b, D) of all W processes, without gradient, from those of this one (G
        b, D).
        """
        views = embeddings.detach().float().unflatten(0, (self.config.crops.num_global, -1)).contiguous()
        return (
            self.distributed.gather_rows(views)
            .unflatten(0, (self.distributed.size, -1))
            .transpose(0, 1)
            .flatten(1, 2)
        )

    def _koleo(self, embeddings: torch.Tensor, micro_step: int) -> torch.Tensor:
        """Return KoLeo summed over global views, among the utterances of all processes and micro-batches;
        only the rows of this micro-batch have a gradient.
        """
        whole_batch, num_global = self._whole_batch, self.config.crops.num_global
        if whole_batch is None and self.distributed.size > 1:
            whole_batch = self._gathered(embeddings)
        views = embeddings.float().unflatten(0, (num_global, -1))
        if whole_batch is None:
            return sum(koleo(view) for view in views)
        size = views.shape[1]
        first = (micro_step * self.distributed.size + self.distributed.rank) * size
        rows = torch.cat([whole_batch[:, :first], views, whole_batch[:, first + size :]], dim=1)
        return sum(koleo(view) for view in rows)
