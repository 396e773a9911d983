"""How a network is computed: precision, memory layout, compilation, activation checkpointing, and data
parallelism.
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pydino.base import UserError

from .config import ComputeConfig
from .distributed import DistributedContext
from .synchronised_norm import synchronise_norms

LOW = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Mixed precision: matrix products and convolutions in 16 bits, weights and sums in float32.

    Args:
        name: fp32, bf16, fp16, or auto: bf16 where the device computes in it, else fp32. fp16 needs its loss
            scaled up, so that small gradients do not vanish; it is done without waiting for the device.
        device: where the network is.

    Attributes:
        name: fp32, bf16 or fp16.

    Raises:
        UserError: fp16 on a CPU.
    """

    def __init__(self, name: str, device: torch.device):
        if name == "fp16" and device.type == "cpu":
            raise UserError("compute.precision: fp16 needs a GPU; on a CPU choose fp32, or auto")
        if name == "auto":
            name = "bf16" if computes_in_bf16(device) else "fp32"
        self.name, self.device = name, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16")

    def __call__(self):
        """Return the context that networks run in."""
        return torch.autocast(self.device.type, LOW.get(self.name), enabled=self.name in LOW)


def computes_in_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16; without them it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(words)


def prepare(
    network: nn.Module, config: ComputeConfig, distributed: DistributedContext, one_length: bool
) -> nn.Module:
    """Make ``network``, which has an ``encoder``, compute as configured, in place; return it.

    Args:
        network: on the device.
        config: of the run.
        distributed: of processes.
        one_length: crops of a kind have one length all through training, so that compiled code may count on
            it.
    """
    if distributed.size > 1:
        network = synchronise_norms(network, distributed.device)
    if config.channels_last:
        network.encoder.to(memory_format=torch.channels_last)
    network.encoder.checkpointed = config.activation_checkpointing
    if config.compile and network.encoder.compiles and not no_compiler(distributed.device):
        network.encoder.compile(dynamic=False if one_length else None)
    return network


def no_compiler(device: torch.device) -> str:
    """Return why torch.compile cannot work here, or an empty string."""
    compiler = shlex.split(os.environ.get("CXX", "")) or ["g++"]
    if shutil.which(compiler[0]) is None:
        return f"no C++ compiler '{compiler[0]}' is found; install g++, or name one in CXX"
    if subprocess.run(
        [*compiler, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ).returncode:
        return f"the C++ compiler '{shlex.join(compiler)}' does not work; install g++, or name another in CXX"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "PyTorch's compiler for GPUs, triton, is not installed"
    return ""


def distribute(network: nn.Module, distributed: DistributedContext) -> nn.Module:
    """Return what to call in place of ``network``: gradients become means over all processes, sent while
    others are still computed.
    """
    if distributed.size == 1:
        return network
    devices = [distributed.device] if distributed.device.type == "cuda" else None
    return DistributedDataParallel(
        network, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def no_sync(network: nn.Module, enabled: bool):
    """Return the context of a backward pass; if ``enabled``, gradients are not averaged over processes, as in
    all micro-batches of a step but the last.
    """
    return network.no_sync() if enabled and isinstance(network, DistributedDataParallel) else nullcontext()
