"""The loss of DINO: the student predicts, from every view, the output of the teacher for another view of the
same utterance.

Caron et al. 2021 (arXiv 2104.14294), with the settings of Cho et al. 2022 (arXiv 2208.05445). With K outputs,
teacher logits t of the global views and student logits s of all views,

    L = 1/P sum_{g in globals} sum_{v in views, v != g} mean_b H(softmax((t_gb - c) / T_t), softmax(s_vb /
    T_s)),

where P is the number of pairs, H(p, q) = -sum_k p_k log q_k, and c the centre, an exponential moving average
of the teacher's mean logits, updated after the loss. Where the teacher sees the global views of a partner
utterance, no view of the student is the teacher's, and v = g counts too.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from pydino.base import check_fraction, check_positive


@dataclass
class DinoLossConfig:
    """Temperatures and centre; the defaults are the papers'."""

    student_temperature: float = 0.1
    teacher_temperature: float = 0.04  # above 0.07 and below 0.02 small runs drift to uniform
    centre_momentum: float = 0.9

    def __post_init__(self):
        check_positive(self, "student_temperature", "teacher_temperature")
        check_fraction(self, "centre_momentum")


class DinoLoss(nn.Module):
    """Loss and centre. The centre is a buffer, so that it is saved and moved with the module."""

    def __init__(self, config: DinoLossConfig, output_dim: int):
        super().__init__()
        self.config = config
        self.register_buffer("centre", torch.zeros(output_dim))

    def forward(
        self, student: torch.Tensor, teacher: torch.Tensor, shared: bool = True
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return the loss (a scalar) and metrics that distinguish a healthy run from a collapsing one.

        Args:
            student: (V, B, K) logits, the global views first.
            teacher: (G, B, K) logits of the global views, G < V; without gradient.
            shared: whether teacher and student see the same global views; then they are no pairs.

        Returns:
            loss; scalars in nats: ``teacher_entropy``, ``student_entropy``, ``kl`` (of the pairs); and (2,
            K), the teacher's logits and its outputs averaged over the batch, for :meth:`update_centre`.
        """
        views, num_global = len(student), len(teacher)
        # Softmaxes over many outputs are computed in float32 whatever the precision of the rest.
        log_q = F.log_softmax(student.float() / self.config.student_temperature, dim=-1)
        log_p = F.log_softmax((teacher.float() - self.centre) / self.config.teacher_temperature, dim=-1)
        p = log_p.exp()
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
        """c <- m c + (1 - m) mean of the teacher's logits; to be called after the losses of a step.

        Args:
            means: (2, K), as returned by :meth:`forward`, averaged over the global batch.

        Returns:
            scalars: ``mean_teacher_entropy``, in nats, of the teacher's output averaged over the batch (ln K
                if all outputs are used equally, small if few are), and ``centre_norm``.
        """
        logits, p = means
        self.centre.lerp_(logits, 1 - self.config.centre_momentum)
        return {
            "mean_teacher_entropy": -(p * p.clamp_min(1e-30).log()).sum(),
            "centre_norm": self.centre.norm(),
        }
