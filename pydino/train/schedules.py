"""Schedules: pure functions of the step, so that one number is their state."""

import math

from pydino.ssl import DinoLossConfig

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


def teacher_temperature(step: int, steps_per_epoch: float, config: DinoLossConfig) -> float:
    """Temperature of DINO's teacher: linear from ``teacher_temperature_start`` at step 0 to
    ``teacher_temperature`` after ``teacher_temperature_epochs``, or constant.
    """
    first, last = config.teacher_temperature_start, config.teacher_temperature
    return first + ramp(step, config.teacher_temperature_epochs * steps_per_epoch, last - first)


def ramp(step: int, steps: float, value: float) -> float:
    """Linear from 0 at step 0 to ``value`` at step ``steps`` and after."""
    return value * min(1.0, step / steps) if steps else value
