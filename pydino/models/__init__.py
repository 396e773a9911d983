"""Encoders, pooling, heads: shapes in, shapes out. Inputs are (B, T, F) features, outputs (B, D) embeddings, not normalised."""

from torch import nn

from pydino.base import UserError, config_from_dict, nearest

from .dino_head import DinoHead, HeadConfig
from .lresnet34 import LResNet34, LResNet34Config
from .pooling import mean_and_deviation
from .statistics import Statistics, StatisticsConfig
from .tdnn import Tdnn, TdnnConfig

ENCODERS = {
    "tdnn": (TdnnConfig, Tdnn),
    "lresnet34": (LResNet34Config, LResNet34),
    "statistics": (StatisticsConfig, Statistics),
}


def build_encoder(config: dict, feature_dim: int) -> nn.Module:
    """Return the encoder ``config["name"]`` with the other keys as its options.

    Args:
        config: such as ``{"name": "tdnn", "channels": 128}``; keys are those of the encoder's configuration class.
        feature_dim: F.

    Returns:
        a module from (B, T, F) to (B, D), with attributes ``embedding_dim`` (D) and ``min_frames`` (the least T).

    Raises:
        UserError: unknown name or option.
    """
    options = dict(config)
    name = options.pop("name", None)
    if name not in ENCODERS:
        raise UserError(f"encoder: unknown name '{name}'{nearest(name, ENCODERS)}; known: {', '.join(ENCODERS)}")
    config_class, encoder_class = ENCODERS[name]
    return encoder_class(config_from_dict(config_class, options, where=f"encoder {name}"), feature_dim)


__all__ = ["ENCODERS", "DinoHead", "HeadConfig", "build_encoder", "mean_and_deviation"]
