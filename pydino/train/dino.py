"""DINO as a method of the training loop: a batch goes in, a loss and its diagnosis come out; the teacher
follows after each step.
"""

import torch
from torch import nn

from pydino.data import Batch, ViewMaker
from pydino.models import DinoHead, buffers_kept, build_encoder
from pydino.ssl import DinoLoss, cosine_loss, koleo, make_teacher, update_teacher

from .config import DinoConfig
from .distributed import DistributedContext
from .method import Method
from .monitors import collapse, embedding_spread, moments
from .schedules import cosine, ramp


class Network(nn.Module):
    """Encoder and head, together what is taught and teaches."""

    def __init__(self, config: DinoConfig, feature_dim: int):
        super().__init__()
        self.encoder = build_encoder(config.encoder, feature_dim)
        self.head = DinoHead(config.head, self.encoder.embedding_dim)

    def forward(self, views: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (N, D) and logits (N, K) of tensors (n, T, F), one a length; the head is passed
        once for all.
        """
        embeddings = torch.cat([self.encoder(view) for view in views])
        return embeddings, self.head(embeddings)


class Dino(Method):
    """Student, teacher, centre, and how a batch becomes a loss.

    Args:
        config: of the run.
        views: what makes views of a batch.
        feature_dim: F.
        total_steps, steps_per_epoch: what schedules stretch over.
        distributed: this process among others.
    """

    def __init__(
        self,
        config: DinoConfig,
        views: ViewMaker,
        feature_dim: int,
        total_steps: int,
        steps_per_epoch: float,
        distributed: DistributedContext,
    ):
        super().__init__(config, views, total_steps, steps_per_epoch, distributed)
        self.frozen_steps = config.freeze_last_layer_steps or round(
            config.freeze_last_layer_epochs * steps_per_epoch
        )
        student = Network(config, feature_dim).to(distributed.device)
        teacher = make_teacher(student)
        self.teach(self.prepared(student))
        self.teacher = self.prepared(teacher)
        self.criterion = DinoLoss(config.loss, config.head.output_dim).to(distributed.device)
        self._teacher_means: torch.Tensor | None = None
        self._everything: torch.Tensor | None = None

    def encoders(self) -> dict[str, nn.Module]:
        return {"teacher": self.teacher.encoder, "student": self.student.encoder}

    def begin(self, passes: list[Batch]) -> None:
        """KoLeo compares all utterances of a step, so where they come in several passes it needs the
        embeddings of all of them first.

        With dropout they are of another draw.
        """
        self._teacher_means = self._everything = None
        if self.config.koleo_weight and len(passes) > 1:
            with torch.no_grad(), self.precision(), buffers_kept(self.student.encoder):
                rows = [self.student.encoder(self.views(batch)[0]) for batch in passes]
            self._everything = torch.cat([self._gathered(x) for x in rows], dim=1)

    def loss(self, batch: Batch, number: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        config, num_global, size = self.config, self.config.crops.num_global, len(batch.hashes)
        share = 1 / config.compute.accumulation
        views = self.views(batch)
        with self.precision():
            with torch.no_grad():
                taught, teacher_logits = self.teacher(views[:1])
            embeddings, logits = self.network(views)
        taught, teacher_logits = (x.unflatten(0, (num_global, size)) for x in (taught, teacher_logits))
        loss, metrics, means = self.criterion(logits.unflatten(0, (-1, size)), teacher_logits)
        self._teacher_means = (
            means * share if self._teacher_means is None else self._teacher_means + means * share
        )
        metrics = {"dino_loss": loss.detach(), **metrics}
        total, value = loss * share, loss.detach()
        if config.cosine_weight:
            weight = self.schedule(batch.step)["cosine_weight"]
            term = cosine_loss(embeddings.unflatten(0, (-1, size)), taught)
            total, value, metrics["cosine_loss"] = (
                total + weight * share * term,
                value + weight * term.detach(),
                term.detach(),
            )
        if config.koleo_weight:
            term = self._koleo(embeddings[: num_global * size], number)
            # The term is one for all processes and passes, and the gradient that each adds is of its own rows
            # alone.
            total = total + config.koleo_weight * self.distributed.size * term
            value, metrics["koleo"] = value + config.koleo_weight * term.detach(), term.detach()
        watched = {
            "embedding_spread": embedding_spread(embeddings[:size]),
            "embedding_moments": moments(embeddings[:size].detach()),
        }
        return total, {"loss": value, **metrics, **watched}

    def gradients_ready(self, step: int) -> None:
        """The prototypes stay put at first."""
        if step < self.frozen_steps:
            self.student.head.prototypes.grad = None

    def after_update(self, step: int) -> dict[str, torch.Tensor]:
        """The teacher follows, then the centre."""
        update_teacher(self.teacher, self.student, self.schedule(step)["momentum"])
        return self.criterion.update_centre(self.distributed.mean(self._teacher_means))

    def diagnosis(self, means: dict[str, float]) -> str:
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
        """Return constant embeddings (G, W b, D) of all processes from this one's (G b, D)."""
        views = embeddings.detach().float().unflatten(0, (self.config.crops.num_global, -1)).contiguous()
        return (
            self.distributed.gather_rows(views)
            .unflatten(0, (self.distributed.size, -1))
            .transpose(0, 1)
            .flatten(1, 2)
        )

    def _koleo(self, embeddings: torch.Tensor, number: int) -> torch.Tensor:
        """Return KoLeo summed over global views, among the utterances of all processes and passes; only rows
        of ours have a gradient.
        """
        everything, num_global = self._everything, self.config.crops.num_global
        if everything is None and self.distributed.size > 1:
            everything = self._gathered(embeddings)
        views = embeddings.float().unflatten(0, (num_global, -1))
        if everything is None:
            return sum(koleo(view) for view in views)
        size = views.shape[1]
        first = (number * self.distributed.size + self.distributed.rank) * size
        rows = torch.cat([everything[:, :first], views, everything[:, first + size :]], dim=1)
        return sum(koleo(view) for view in rows)
