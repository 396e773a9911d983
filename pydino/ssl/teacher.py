"""The teacher: an exponential moving average of the student, theta_t <- m theta_t + (1 - m) theta_s."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from pydino.base import check_not_negative


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


def make_teacher(student: nn.Module) -> nn.Module:
    """Return a copy of the student without gradients. It stays in training mode, like the student.

    Its batch norms use the batch statistics and update their own running statistics from the global views; as
    in the papers' code, only parameters are averaged. Dropout is disabled, so that the targets are not noisy.
    """
    teacher = copy.deepcopy(student)
    teacher.requires_grad_(False)
    for module in teacher.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
    return teacher.train()


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float, buffers: bool = False) -> None:
    """Update every parameter of the teacher from the student's, in one kernel launch for all of them.

    Args:
        teacher, student: networks of one kind.
        momentum: m.
        buffers: average running statistics too, for a teacher in evaluation mode; whole numbers are copied.
    """
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
    if buffers:
        pairs = list(zip(teacher.buffers(), student.buffers(), strict=True))
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        if floating:
            torch._foreach_lerp_(*map(list, zip(*floating, strict=True)), 1 - momentum)
        for of_teacher, of_student in pairs:
            if not of_teacher.is_floating_point():
                of_teacher.copy_(of_student)
