"""Checks of configuration values, for ``__post_init__``; each raises a ValueError that names the key."""

import math


def check_at_least(config, least: int, *names: str) -> None:
    """Raise ValueError for a value below ``least``."""
    for name in names:
        if getattr(config, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(config, name)}")


def check_not_negative(config, *names: str) -> None:
    """Raise ValueError for a value that is negative, infinite or NaN."""
    for name in names:
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"{name} must not be negative, got {getattr(config, name)}")


def check_positive(config, *names: str) -> None:
    """Raise ValueError for a value that is not above 0, infinite or NaN."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise ValueError(f"{name} must be above 0, got {getattr(config, name)}")


def check_fraction(config, *names: str) -> None:
    """Raise ValueError for a value outside [0, 1]."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {getattr(config, name)}")


def check_range(config, *names: str) -> None:
    """Raise ValueError for a list that is not [lowest, highest]."""
    for name in names:
        values = getattr(config, name)
        if len(values) != 2 or not values[0] <= values[1]:
            raise ValueError(f"{name} must be [lowest, highest], got {values}")
