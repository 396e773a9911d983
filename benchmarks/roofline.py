"""Roofline of a step: time by kind of operation, and the lower bound from the bandwidth and the arithmetic
rate of the device.

For each call of a PyTorch operator the bytes of the tensors that it reads and writes, and its floating-point
operations, are counted. The bound is the larger of bytes over bandwidth and operations over rate. Both
ceilings are measured by a large copy and a large matrix product in the precision of the step; cached data may
be faster. The time taken is the profiler's self time. A compiled step is counted uncompiled.
"""

import time
from collections import defaultdict

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

KINDS = {  # by substrings of the operator's name; the first match
    "optimiser": ("_fused_adam", "_fused_sgd", "_foreach", "amp_"),
    "convolution": ("conv",),
    "softmax, loss": ("softmax", "gather", "argmax", "scatter"),
    "normalisation": ("batch_norm", "layer_norm"),
    "Fourier transform": ("fft",),
    "matrix product": ("mm", "linear", "bmm", "dot"),
    "copy": (
        "copy",
        "clone",
        "cat",
        "index",
        "flip",
        "stack",
        "contiguous",
        "memcpy",
        "fill",
        "zero",
        "memset",
        "as_strided_scatter",
    ),
}
STEPS = 3


def kind_of(operator: str) -> str:
    """Return the kind of an operator such as aten::mm."""
    name = operator.lower().split("::")[-1]
    return next(
        (kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "elementwise, sums"
    )


class Count(TorchDispatchMode):
    """Adds up bytes and floating-point operations by kind."""

    def __init__(self):
        super().__init__()
        self.bytes, self.flops = defaultdict(int), defaultdict(int)

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if function.is_view:
            return result
        kind = kind_of(function.name())
        read = [x for x in tree_leaves((arguments, keywords)) if isinstance(x, torch.Tensor)]
        written = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self.bytes[kind] += sum(
            x.numel() * x.element_size() for x in {id(x): x for x in read + written}.values()
        )
        formula = flop_registry.get(function.overloadpacket)
        if formula:
            self.flops[kind] += formula(*arguments, **(keywords or {}), out_val=result)
        elif kind != "copy":
            self.flops[kind] += max((x.numel() for x in read + written), default=0)
        return result


def ceilings(device: torch.device) -> tuple[float, float, float]:
    """Return bytes a second of a large copy, and operations a second of a large matrix product in float32 and
    in bfloat16.
    """

    def best(function) -> float:
        taken = []
        for _ in range(6):
            wait(device)
            began = time.perf_counter()
            function()
            wait(device)
            taken.append(time.perf_counter() - began)
        return min(taken)

    size = 8192 if device.type == "cuda" else 1536
    a = torch.randn(1 << 26, device=device)
    b = torch.empty_like(a)
    bandwidth = 2 * a.numel() * a.element_size() / best(lambda: b.copy_(a))
    rates = []
    for form in (torch.float32, torch.bfloat16):
        x = torch.randn(size, size, device=device).to(form)
        rates.append(2 * size**3 / best(lambda x=x: x @ x))
    return bandwidth, *rates


def wait(device: torch.device) -> None:
    """Wait until the device is idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed_kinds(step, first: int, device: torch.device) -> dict[str, float]:
    """Return milliseconds a step by kind of operation, from the profiler."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        for number in range(first, first + STEPS):
            step(number)
        wait(device)
    taken = defaultdict(float)
    for event in profile.key_averages():
        micro = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        if event.key.startswith("aten::") and micro:
            taken[kind_of(event.key)] += micro / 1000 / STEPS
    return taken


def roofline(step, device: torch.device, precision: str = "fp32") -> dict:
    """Return ceilings, and of each kind of operation bytes, operations, milliseconds at the ceilings and
    milliseconds taken, of a step.

    Args:
        step: function of the step number that runs the step.
        device: of the step.
        precision: of the step; selects the ceiling of matrix products.
    """
    bandwidth, single, half = ceilings(device)
    rate = single if precision == "fp32" else half
    step(0)
    counted = Count()
    with torch._dynamo.config.patch(disable=True), counted:
        for number in range(1, 1 + STEPS):
            step(number)
    taken = timed_kinds(step, 1, device)
    rows = []
    for kind in sorted(counted.bytes, key=lambda kind: -taken[kind]):
        moved, operations = counted.bytes[kind] / STEPS, counted.flops[kind] / STEPS
        floor, which = max((1000 * moved / bandwidth, "bytes"), (1000 * operations / rate, "FLOPs"))
        rows.append(
            {
                "kind": kind,
                "GB": moved / 1e9,
                "GFLOP": operations / 1e9,
                "ceiling": which,
                "ms at the ceiling": floor,
                "ms taken": taken[kind],
                "share": floor / max(taken[kind], 1e-9),
            }
        )
    named = {"copy GB/s": bandwidth / 1e9, "float32 GFLOP/s": single / 1e9, "bfloat16 GFLOP/s": half / 1e9}
    return {"ceilings": named, "kinds": rows}
