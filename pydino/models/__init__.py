"""Encoders, pooling, heads: tensors in, tensors out. An encoder maps (B, T, F) features or (B, T, H) samples
to (B, D) embeddings, not normalised; :class:`Encoder` is their base class.

To add an encoder: a dataclass of its options, a subclass of :class:`Encoder` that is built from them and the
number of columns, and an entry in ENCODERS (docs/encoders.md).
"""

from dataclasses import asdict

from pydino.base import ConfigError, config_from_dict, nearest

from .activation_checkpointing import buffers_kept
from .campplus import CamPlusPlus, CamPlusPlusConfig
from .classifier_head import ClassifierHead
from .dino_head import DinoHead, HeadConfig
from .ecapa_tdnn import EcapaTdnn, EcapaTdnnConfig
from .encoder import PARTS, Encoder, InputKind
from .eres2net import Eres2Net, Eres2NetConfig
from .margin import AamSoftmax
from .pooling import mean_and_deviation
from .pretrained import (
    HubertConfig,
    Pretrained,
    W2vBert,
    W2vBertConfig,
    Wav2Vec2Config,
    WavLMConfig,
)
from .resnet34 import FwseResNet34Config, LResNet34Config, ResNet34, ResNet34Config
from .statistics import Statistics, StatisticsConfig
from .tdnn import Tdnn, TdnnConfig
from .transformer_library import weights_follow

ENCODERS = {
    "tdnn": (TdnnConfig, Tdnn),
    "lresnet34": (LResNet34Config, ResNet34),
    "resnet34": (ResNet34Config, ResNet34),
    "fwse-resnet34": (FwseResNet34Config, ResNet34),
    "ecapa-tdnn": (EcapaTdnnConfig, EcapaTdnn),
    "campplus": (CamPlusPlusConfig, CamPlusPlus),
    "eres2net": (Eres2NetConfig, Eres2Net),
    "statistics": (StatisticsConfig, Statistics),
    "wav2vec2": (Wav2Vec2Config, Pretrained),
    "hubert": (HubertConfig, Pretrained),
    "wavlm": (WavLMConfig, Pretrained),
    "wav2vec2-bert": (W2vBertConfig, W2vBert),
}


def build_encoder(config: dict, feature_dim: int) -> Encoder:
    """Return the encoder ``config["name"]`` with the other keys as its options.

    Args:
        config: such as ``{"name": "tdnn", "channels": 128}``; keys are those of the encoder's configuration
            class.
        feature_dim: F, or H.

    Returns:
        an :class:`Encoder`, with random weights (:meth:`Encoder.load_pretrained` reads others).

    Raises:
        ConfigError: unknown name or option.
    """
    return ENCODERS[_name(config)][1](_options(config), feature_dim)


def resolve_encoder(config: dict) -> dict:
    """Return ``config`` with every option of the encoder, so that a later change of a default does not change
    stored models.
    """
    return {"name": _name(config), **asdict(_options(config))}


def input_kind(config: dict) -> InputKind:
    """Return what the encoder ``config["name"]`` takes: features or waveform."""
    return ENCODERS[_name(config)][1].input_kind


def compiles(config: dict) -> bool:
    """Return whether torch.compile is worth its time for the encoder ``config["name"]``."""
    return ENCODERS[_name(config)][1].compiles


def needed_features(config: dict) -> dict[str, tuple]:
    """Return the options of features that the encoder ``config["name"]`` needs, and their possible values."""
    return ENCODERS[_name(config)][1].needed_features


def without_folder(config: dict) -> dict:
    """Return the configuration of an encoder whose weights are stored with it: it names no folder of
    pre-trained weights.
    """
    return {**config, "folder": ""} if "folder" in config else config


def _name(config: dict) -> str:
    name = config.get("name")
    if not isinstance(name, str) or name not in ENCODERS:
        raise ConfigError(
            f"encoder: unknown name '{name}'{nearest(str(name), ENCODERS)}; known: {', '.join(ENCODERS)}"
        )
    return name


def _options(config: dict):
    options = {key: value for key, value in config.items() if key != "name"}
    return config_from_dict(ENCODERS[_name(config)][0], options, where=f"encoder {config['name']}")


__all__ = [
    "ENCODERS",
    "PARTS",
    "AamSoftmax",
    "ClassifierHead",
    "DinoHead",
    "Encoder",
    "HeadConfig",
    "buffers_kept",
    "build_encoder",
    "compiles",
    "input_kind",
    "needed_features",
    "mean_and_deviation",
    "resolve_encoder",
    "weights_follow",
    "without_folder",
]
