"""DINO as the training loop sees it: a batch goes in, a loss and its diagnosis come out; the teacher follows after each step.

A method that the loop can run has ``student`` (what learns), ``loss(batch)``, ``gradients_ready(step)``, ``after_update(step)``,
``schedule(step)``, ``diagnosis(means)`` and ``state_dict``; this one is the first of them.
"""

import torch
from torch import nn

from pydino.data import Batch, ViewMaker
from pydino.models import DinoHead, build_encoder
from pydino.ssl import DinoLoss, koleo, make_teacher, update_teacher

from .config import DinoConfig
from .monitors import collapse, embedding_spread
from .schedules import cosine


class Network(nn.Module):
    """Encoder and head, together what is taught and teaches."""

    def __init__(self, config: DinoConfig, feature_dim: int):
        super().__init__()
        self.encoder = build_encoder(config.encoder, feature_dim)
        self.head = DinoHead(config.head, self.encoder.embedding_dim)

    def forward(self, views: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (N, D) and logits (N, K) of tensors (n, T, F), one a length; the head is passed once for all."""
        embeddings = torch.cat([self.encoder(view) for view in views])
        return embeddings, self.head(embeddings)


class Dino(nn.Module):
    """Student, teacher, centre, and how a batch becomes a loss.

    Args:
        config: of the run.
        feature_dim: F.
        frame_shift: seconds.
        seed: of weights (set by the caller before) and of augmentation.
        total_steps, steps_per_epoch: what schedules stretch over.
        device: where it runs.
    """

    def __init__(
        self, config: DinoConfig, feature_dim: int, frame_shift: float, seed: int, total_steps: int, steps_per_epoch: float, device,
    ):
        super().__init__()
        self.config, self.total_steps = config, total_steps
        self.frozen_steps = round(config.freeze_last_layer_epochs * steps_per_epoch)
        self.student = Network(config, feature_dim).to(device)
        self.teacher = make_teacher(self.student)
        self.criterion = DinoLoss(config.loss, config.head.output_dim).to(device)
        self.views = ViewMaker(config.crops, config.augment, config.normalisation, feature_dim, frame_shift, seed, device)
        self.device = torch.device(device)

    def loss(self, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of a batch, with gradient, and the scalars to watch; keeps the teacher's logits for the centre."""
        num_global = self.config.crops.num_global
        views = self.views(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            with torch.no_grad():
                _, teacher_logits = self.teacher(views[:1])
            embeddings, logits = self.student(views)
        size = len(batch.hashes)
        self._teacher_logits = teacher_logits.unflatten(0, (num_global, size))
        loss, metrics = self.criterion(logits.unflatten(0, (-1, size)), self._teacher_logits)
        metrics = {"dino_loss": loss.detach(), **metrics}
        if self.config.koleo_weight:
            spread = sum(koleo(embeddings[view * size : (view + 1) * size]) for view in range(num_global))
            loss = loss + self.config.koleo_weight * spread
            metrics["koleo"] = spread.detach()
        return loss, {"loss": loss.detach(), **metrics, "embedding_spread": embedding_spread(embeddings[:size])}

    def gradients_ready(self, step: int) -> None:
        """Called between backward and update: the prototypes stay put at first."""
        if step < self.frozen_steps:
            self.student.head.prototypes.grad = None

    def after_update(self, step: int) -> None:
        """Called after the optimiser's update: the teacher follows, then the centre."""
        update_teacher(self.teacher, self.student, self.schedule(step)["momentum"])
        self.criterion.update_centre(self._teacher_logits)

    def diagnosis(self, means: dict[str, float]) -> str:
        """Return what is wrong with a run whose scalars have these means, in plain words, or an empty string."""
        return collapse(means, self.config.head.output_dim)

    def schedule(self, step: int) -> dict[str, float]:
        """Return what the method schedules by itself."""
        teacher = self.config.teacher
        return {"momentum": cosine(step, self.total_steps, teacher.momentum, teacher.final_momentum)}
