"""Encoders by name."""

from torch import nn

from pydino.base import ConfigError, config_from_dict, nearest

from .lresnet34 import LResNet34, LResNet34Config
from .statistics import Statistics, StatisticsConfig
from .tdnn import Tdnn, TdnnConfig

ENCODERS = {"lresnet34": (LResNet34Config, LResNet34), "tdnn": (TdnnConfig, Tdnn), "statistics": (StatisticsConfig, Statistics)}


def build_encoder(config: dict, feature_dim: int, where: str = "encoder") -> nn.Module:
    """Return the encoder that ``config`` describes, with random weights from PyTorch's global generator.

    Every encoder maps (B, T, F) float to (B, ``embedding_dim``), takes T of ``min_frames`` or more, and F = ``feature_dim``.

    Args:
        config: ``{"name": "tdnn", ...}`` with the options of that encoder.
        feature_dim: F.
        where: what to call ``config`` in a message.

    Raises:
        ConfigError: unknown name (with the nearest), option or value.
    """
    return _encoder_class(config, where)(_checked(config, where), feature_dim)


def resolve_encoder(config: dict, where: str = "encoder") -> dict:
    """Return ``config`` with every option written out; checks it as :func:`build_encoder` does."""
    return {"name": config.get("name"), **vars(_checked(config, where))}


def _encoder_class(config, where):
    name = config.get("name")
    if name not in ENCODERS:
        raise ConfigError(f"{where}: encoder.name must be one of {', '.join(ENCODERS)}, got {name!r}{nearest(name, ENCODERS)}")
    return ENCODERS[name][1]


def _checked(config, where):
    _encoder_class(config, where)
    options = {key: value for key, value in config.items() if key != "name"}
    return config_from_dict(ENCODERS[config["name"]][0], options, where=f"{where}: encoder {config['name']}")
