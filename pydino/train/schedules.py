"""Schedules: pure functions of the step, so that one number is their state."""

import math

from .config import OptimiserConfig


def learning_rate(step: int, total: int, steps_per_epoch: float, config: OptimiserConfig) -> float:
    """Learning rate of a step: linear from 0 to ``lr``, then by a cosine to ``final_lr`` at the last step, or
    halved again and again.
    """
    warmup = config.warmup_steps or round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return config.lr * step / warmup
    if config.schedule == "exponential":
        return max(config.final_lr, config.lr * 0.5 ** ((step - warmup) / config.half_life_steps))
    return cosine(step - warmup, total - warmup, config.lr, config.final_lr)


def cosine(step: int, total: int, first: float, last: float) -> float:
    """Value of a cosine from ``first`` at step 0 to ``last`` at step ``total`` - 1 and after."""
    progress = min(1.0, step / max(1, total - 1))
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * progress))


def ramp(step: int, steps: float, value: float) -> float:
    """Linear from 0 at step 0 to ``value`` at step ``steps`` and after."""
    return value * min(1.0, step / steps) if steps else value
