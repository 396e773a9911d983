"""The teacher: an exponential moving average of the student, theta_t <- m theta_t + (1 - m) theta_s."""

import copy

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd


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
def update_teacher(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Update every parameter of the teacher from the student's, in one kernel launch for all of them."""
    torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - momentum)
