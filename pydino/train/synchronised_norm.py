"""Batch norm over the batches of all processes.

On GPUs PyTorch has it; its module refuses CPU tensors, so here is the same for them: mean and variance are
averaged over processes, each of which has as many values as the others.
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """Return ``module`` with every batch norm replaced by one over all processes; names of parameters
    stay.
    """
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            norm = SynchronisedNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            norm.load_state_dict(child.state_dict())
            norm.requires_grad_(next(child.parameters()).requires_grad)
            setattr(module, name, norm)
        else:
            synchronise_norms(child, device)
    return module


class _MeanOverProcesses(torch.autograd.Function):
    """y = 1/W sum_r x_r in every process; so the gradient of x_r is the mean over processes of the gradients
    of y.
    """

    @staticmethod
    def forward(context, x):
        y = x.clone()
        dist.all_reduce(y)
        return y.div_(dist.get_world_size())

    @staticmethod
    def backward(context, gradient):
        total = gradient.clone()
        dist.all_reduce(total)
        return total.div_(dist.get_world_size())


class SynchronisedNorm(_BatchNorm):
    """(B, C, ...) -> (B, C, ...), normalised by the moments of all processes in training, by the running ones
    otherwise.
    """

    def _check_input_dim(self, x):
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1] + [1] * (x.ndim - 2)
        wide = x.float()
        mean = _MeanOverProcesses.apply(wide.mean(axes))
        centred = wide - mean.view(shape)
        variance = _MeanOverProcesses.apply(centred.square().mean(axes))
        if self.track_running_stats:
            self._remember(mean.detach(), variance.detach(), x.numel() // x.shape[1] * dist.get_world_size())
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean, variance, count: int) -> None:
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)
