"""Schedules: pure functions of the step, so that where a run stands is one number."""

import math


def warmup_cosine(step: int, total: int, warmup: int, peak: float, final: float) -> float:
    """Learning rate of a step: linear from 0 to ``peak`` over ``warmup`` steps, then a cosine to ``final`` at the last step."""
    if step < warmup:
        return peak * step / warmup
    return cosine(step - warmup, total - warmup, peak, final)


def cosine(step: int, total: int, first: float, last: float) -> float:
    """Value of a cosine from ``first`` at step 0 to ``last`` at step ``total`` - 1."""
    progress = min(1.0, step / max(1, total - 1))
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * progress))
