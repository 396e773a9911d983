"""Checks of configuration values, for ``__post_init__``; each raises a ValueError that names the key."""

import math

LARGEST_SIZE = 20_000  # of a layer: a matrix of that many rows and columns has 1.6 GB


def check_sizes(config, *names: str, least: int = 1, most: int = LARGEST_SIZE) -> None:
    """Raise ValueError for a number of channels, units or the like outside [least, most]."""
    for name in names:
        if not least <= getattr(config, name) <= most:
            raise ValueError(f"{name} must be between {least} and {most}, got {getattr(config, name)}")


def check_at_most(config, most: float, *names: str) -> None:
    """Raise ValueError for a value above ``most``."""
    for name in names:
        if not getattr(config, name) <= most:
            raise ValueError(f"{name} must be at most {most:g}, got {getattr(config, name):g}")


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
