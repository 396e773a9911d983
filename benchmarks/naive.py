"""The peer of benchmarks/train_step.py: a step of DINO as in a straightforward port of the public code.

The public code is main_dino.py and utils.py of Caron et al. (github.com/facebookresearch/dino), which speech
toolkits have adopted. As in that code:

* workers of a DataLoader read one crop at a time: stored features as the whole matrix, of which the crop is
  cut; audio as one recording opened for each crop, whose augmentation and filter banks are computed in the
  worker;
* everything is in float32; encoder and head of student and teacher see one view after the other;
* the loss is a double loop over pairs of views, with a separate log-softmax for each;
* the norm of each parameter's gradient is copied to the host; optimiser and teacher go through the parameters
  one by one;
* the loss is copied to the host after every step, to stop if it is not finite.

It is not made slower on purpose: encoder, augmentation and filter banks are this project's own, and noises
are in memory. Its training is equivalent: draws are keyed in the same way, and tests/test_benchmarks.py
checks that its weights equal ours after some steps. For this, two things differ from the public code:
gradients are clipped by the norm of all parameters together, and each step draws the lengths of its crops.
Batch norm sees one view at a time here, and in ours all views of one length; the test gives ours the same
statistics.
"""

import copy
import math
import sys

import torch
import torch.nn.functional as F

from pydino.models import build_encoder
from pydino.ssl import koleo
from pydino.train.methods.dino import Network
from pydino.train.schedules import cosine, learning_rate, ramp, teacher_temperature


def naive_loss(
    student: list[torch.Tensor],
    teacher: list[torch.Tensor],
    centre: torch.Tensor,
    t_teacher: float,
    t_student: float,
) -> torch.Tensor:
    """Return DINO's loss of the logits (B, K) of each view, pair by pair, at these temperatures."""
    total, pairs = 0.0, 0
    for g, t in enumerate(teacher):
        p = F.softmax((t - centre) / t_teacher, dim=-1)
        for v, s in enumerate(student):
            if v != g:
                total = total + torch.sum(-p * F.log_softmax(s / t_student, dim=-1), dim=-1).mean()
                pairs += 1
    return total / pairs


def naive_cosine(student: list[torch.Tensor], teacher: list[torch.Tensor]) -> torch.Tensor:
    """Return 1 - cosine between embeddings (B, D) of two views, averaged over the pairs of the loss."""
    pairs = [
        1 - F.cosine_similarity(t, s, dim=-1).mean()
        for g, t in enumerate(teacher)
        for v, s in enumerate(student)
        if v != g
    ]
    return sum(pairs) / len(pairs)


class NaiveDino:
    """Student, teacher, optimiser, and a step.

    Args:
        config: DinoConfig; its section ``compute`` is ignored.
        feature_dim: F.
        total_steps, steps_per_epoch: of the schedules.
        device: of the computation.
    """

    def __init__(self, config, feature_dim: int, total_steps: int, steps_per_epoch: float, device):
        self.config, self.device = config, torch.device(device)
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.frozen_steps = config.freeze_last_layer_steps or round(
            config.freeze_last_layer_epochs * steps_per_epoch
        )
        encoder = build_encoder(config.encoder, feature_dim)
        self.student = Network(encoder, config.head).to(self.device)
        self.teacher = copy.deepcopy(self.student)
        for p in self.teacher.parameters():
            p.requires_grad = False
        self.centre = torch.zeros(1, config.head.output_dim, device=self.device)
        self.optimiser = self._make_optimiser()

    def _make_optimiser(self) -> torch.optim.Optimizer:
        config, parameters = self.config.optimiser, list(self.student.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        one_by_one = {"lr": config.lr, "foreach": False, "fused": False}
        if config.name == "sgd":
            return torch.optim.SGD(groups, momentum=config.momentum, **one_by_one)
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.name]
        return kind(groups, betas=tuple(config.betas), amsgrad=config.name == "adam", **one_by_one)

    def step(self, views: list[torch.Tensor], step: int) -> float:
        """Make one update from the views (B, L, F); return the loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(step, self.total_steps, self.steps_per_epoch, self.config.optimiser)
        views = [view.to(self.device, non_blocking=True) for view in views]
        with torch.no_grad():
            teacher = [self._through(self.teacher, view) for view in views[: self.config.crops.num_global]]
        student = [self._through(self.student, view) for view in views]
        loss = self._loss(student, teacher, step)
        value = loss.item()
        if not math.isfinite(value):
            sys.exit(f"the loss is {value}")
        self.optimiser.zero_grad()
        loss.backward()
        self._clip()
        if step < self.frozen_steps:
            self.student.head.prototypes.grad = None
        self.optimiser.step()
        self._update_teacher([logits for _, logits in teacher], step)
        return value

    @staticmethod
    def _through(network: Network, view: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = network.encoder(view)
        return embedding, network.head(embedding)

    def _loss(self, student, teacher, step: int) -> torch.Tensor:
        config = self.config
        loss = naive_loss(
            [logits for _, logits in student],
            [logits for _, logits in teacher],
            self.centre,
            teacher_temperature(step, self.steps_per_epoch, config.loss),
            config.loss.student_temperature,
        )
        if config.cosine_weight:
            weight = ramp(step, config.cosine_ramp_epochs * self.steps_per_epoch, config.cosine_weight)
            loss = loss + weight * naive_cosine([e for e, _ in student], [e for e, _ in teacher])
        if config.koleo_weight:
            loss = loss + config.koleo_weight * sum(koleo(e) for e, _ in student[: config.crops.num_global])
        return loss

    def _clip(self) -> None:
        gradients = [p.grad for p in self.student.parameters() if p.grad is not None]
        norm = math.sqrt(sum(gradient.norm(2).item() ** 2 for gradient in gradients))
        clip = self.config.optimiser.clip
        if clip and norm > clip:
            for gradient in gradients:
                gradient.mul_(clip / (norm + 1e-6))

    @torch.no_grad()
    def _update_teacher(self, teacher_logits: list[torch.Tensor], step: int) -> None:
        config = self.config.teacher
        m = cosine(step, config.momentum_steps or self.total_steps, config.momentum, config.final_momentum)
        for q, k in zip(self.student.parameters(), self.teacher.parameters(), strict=True):
            k.data.mul_(m).add_((1 - m) * q.detach().data)
        mean = torch.cat(teacher_logits).mean(dim=0, keepdim=True)
        momentum = self.config.loss.centre_momentum
        self.centre = self.centre * momentum + mean * (1 - momentum)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the weights with the names that :class:`pydino.train.methods.dino.Dino` gives them."""
        parts = {"student": self.student, "teacher": self.teacher}
        named = {
            f"{part}.{name}": value
            for part, module in parts.items()
            for name, value in module.state_dict().items()
        }
        return {**named, "criterion.centre": self.centre[0]}
