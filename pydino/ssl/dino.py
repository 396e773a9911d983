"""The loss of DINO: the student predicts, from every view, the output of the teacher for another view of the
same utterance.

Caron et al. 2021 (arXiv 2104.14294), with the settings of Cho et al. 2022 (arXiv 2208.05445). With K outputs,
teacher logits t of the global views and student logits s of all views,

    L = 1/P sum_{g in globals} sum_{v in views, v != g} mean_b H(softmax((t_gb - c) / T_t), softmax(s_vb /
    T_s)),

where P is the number of pairs, H(p, q) = -sum_k p_k log q_k, and c the centre, an exponential moving average
of the teacher's mean logits, updated after the loss. Where the teacher's views are of a partner utterance, or
the student does not see them, no view of the student is the teacher's, and v = g counts too. With ``target:
sinkhorn`` the teacher's outputs are softmax(t / T_t), normalised over the whole batch (:mod:`.sinkhorn`), and
there is no centre.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from pydino.base import check_at_least, check_fraction, check_not_negative, check_positive

from .sinkhorn import sinkhorn


@dataclass
class DinoLossConfig:
    """Temperatures and centre; the defaults are the papers'."""

    student_temperature: float = 0.1
    teacher_temperature: float = 0.04  # above 0.07 and below 0.02 small runs drift to uniform
    # above 0: it rises linearly, from this at the first step to teacher_temperature after so many epochs
    teacher_temperature_start: float = 0.0
    teacher_temperature_epochs: float = 0.0
    centre_momentum: float = 0.9
    # what keeps the teacher's outputs apart: centre: the centre; sinkhorn: equal use of all prototypes within
    # the batch, which should then be no smaller than their number, or not much
    target: Literal["centre", "sinkhorn"] = "centre"
    sinkhorn_iterations: int = 3

    def __post_init__(self):
        check_at_least(self, 1, "sinkhorn_iterations")
        check_positive(self, "student_temperature", "teacher_temperature")
        check_fraction(self, "centre_momentum")
        check_not_negative(self, "teacher_temperature_start", "teacher_temperature_epochs")
        if bool(self.teacher_temperature_start) != bool(self.teacher_temperature_epochs):
            raise ValueError(
                "teacher_temperature_start and teacher_temperature_epochs belong together: set both"
            )


class DinoLoss(nn.Module):
    """Loss and centre. The centre is a buffer, so that it is saved and moved with the module."""

    def __init__(self, config: DinoLossConfig, output_dim: int):
        super().__init__()
        self.config = config
        self.register_buffer("centre", torch.zeros(output_dim))

    @torch.no_grad()
    def sinkhorn_targets(
        self,
        teacher: torch.Tensor,
        add_up: Callable[[torch.Tensor], torch.Tensor],
        temperature: float | None = None,
    ) -> torch.Tensor:
        """Return the teacher's outputs over the whole batch, (..., K), with ``target: sinkhorn``.

        Args:
            teacher: (..., K) logits of all global views of a step in this process.
            add_up: returns the sum over processes of a tensor.
            temperature: T_t of the step; None: that of the configuration.
        """
        p = F.softmax(teacher.float() / (temperature or self.config.teacher_temperature), dim=-1)
        return sinkhorn(p, self.config.sinkhorn_iterations, add_up)

    def forward(
        self,
        student: torch.Tensor,
        teacher: torch.Tensor,
        shared: bool = True,
        targets: torch.Tensor | None = None,
        temperature: float | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return the loss (a scalar) and metrics that distinguish a healthy run from a collapsing one.

        Args:
            student: (V, B, K) logits, the global views first.
            teacher: (G, B, K) logits of the global views; without gradient.
            shared: whether teacher and student see the same global views; then they are no pairs, and G < V.
            targets: (G, B, K), the teacher's outputs; None: of the logits, with the centre.
            temperature: T_t of the step; None: that of the configuration.

        Returns:
            loss; scalars in nats: ``teacher_entropy``, ``student_entropy``, ``kl`` (of the pairs); and (2,
            K), the teacher's logits and its outputs averaged over the batch, for :meth:`update_centre`.
        """
        views, num_global = len(student), len(teacher)
        # Softmaxes over many outputs are computed in float32 whatever the precision of the rest.
        log_q = F.log_softmax(student.float() / self.config.student_temperature, dim=-1)
        if targets is None:
            temperature = temperature or self.config.teacher_temperature
            log_p = F.log_softmax((teacher.float() - self.centre) / temperature, dim=-1)
            p = log_p.exp()
        else:
            p, log_p = targets, targets.clamp_min(torch.finfo(targets.dtype).tiny).log()
        # sum over pairs of p_g . log q_v = (sum_g p_g) . (sum_v log q_v) - sum_g p_g . log q_g, without
        # computing the pairs
        all_pairs = (p.sum(0) * log_q.sum(0)).sum(-1)
        if shared:
            same_view = (p * log_q[:num_global]).sum((0, -1))
            loss = -(all_pairs - same_view).mean() / (num_global * (views - 1))
        else:
            loss = -all_pairs.mean() / (num_global * views)
        with torch.no_grad():
            teacher_entropy = -(p * log_p).sum(-1).mean()
            metrics = {
                "teacher_entropy": teacher_entropy,
                "student_entropy": -(log_q[:num_global].exp() * log_q[:num_global]).sum(-1).mean(),
                "kl": loss.detach() - teacher_entropy,
            }
            means = torch.stack([teacher.float().mean((0, 1)), p.mean((0, 1))])
        return loss, metrics, means

    @torch.no_grad()
    def update_centre(self, means: torch.Tensor) -> dict[str, torch.Tensor]:
        """c <- m c + (1 - m) mean of the teacher's logits, if there is a centre; to be called after the
        losses of a step.

        Args:
            means: (2, K), as returned by :meth:`forward`, averaged over the global batch.

        Returns:
            scalars: ``mean_teacher_entropy``, in nats, of the teacher's output averaged over the batch (ln K
                if all outputs are used equally, small if few are), and, if there is a centre,
                ``centre_norm``.
        """
        logits, p = means
        metrics = {"mean_teacher_entropy": -(p * p.clamp_min(1e-30).log()).sum()}
        if self.config.target == "centre":
            self.centre.lerp_(logits, 1 - self.config.centre_momentum)
            metrics["centre_norm"] = self.centre.norm()
        return metrics
