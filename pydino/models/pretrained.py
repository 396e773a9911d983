"""Frame-level pre-trained models as encoders: wav2vec 2.0 (Baevski et al. 2020), HuBERT (Hsu et al. 2021),
WavLM (Chen et al. 2022) and w2v-BERT 2.0 (Barrault et al. 2023), with pooling over layers and frames on top.

The configuration holds all sizes (``architecture``), so that a model can be made without the folder of its
pre-trained weights; that is read once, where a training or a baseline starts from it.

Axes: B utterances, T frames, H samples of a frame, F filter banks, T' frames of the transformer.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from pydino.base import ConfigError, check_at_most, check_positive, check_sizes

from .architecture import check_architecture
from .encoder import Encoder
from .layer_pooling import LayerStatistics, Mhfa, WeightedLayers, WeightedStatistics
from .low_rank import add_adapters, add_low_rank_updates, added_parameters
from .masks import Mask, frame_mask, masked_mean, zeroed
from .pretrained_folder import check_hash, describe_folder, fill, read_weights, weights_file
from .transformer_library import CLASSES, layer_states, make_network, recompute_activations

LONGEST = 3000  # frames of 10 ms; attention over longer utterances would take the square of the memory
LAYER_LR_SCALE = 10.0  # of the weights of layers, as in SUPERB's recipes
MOST_HEADS = 1024  # of pooling
VARIANCE_FLOOR = 1e-7  # of the input's normalisation, as in the library


@dataclass
class PretrainedConfig:
    """A pre-trained model, what is trained of it, and its pooling."""

    name: ClassVar[str]

    # with config.json, preprocessor_config.json and model.safetensors; "": the weights are in a model folder
    folder: str = ""
    hash: str = ""  # SHA-256 of the weights' file, which is checked; "": recorded
    tuning: Literal["frozen", "adapters", "lora", "all"] = "frozen"
    lora_rank: int = 64
    lora_alpha: float = 128.0  # the update is scaled by lora_alpha / lora_rank
    adapter_dim: int = 128
    # statistics: mean and standard deviation of one layer, without parameters; weighted: of a weighted sum of
    # the layers; mhfa: multi-head factorised attentive pooling. The latter two end in an affine layer.
    pooling: Literal["statistics", "weighted", "mhfa"] = "weighted"
    layer: int = -1  # of statistics: 1 is the first layer, -1 the last; those above it are left out
    heads: int = 32  # of mhfa
    compressed_dim: int = 128  # of mhfa
    embedding_dim: int = 256  # of the affine layer; statistics have twice the width of the transformer
    # read from the folder:
    architecture: dict[str, Any] = field(default_factory=dict)  # config.json, sizes alone
    do_normalize: bool = True  # the input has mean 0 and variance 1
    sample_rate: int = 16000  # Hz
    labels: Literal["none", "unknown"] = "unknown"  # that the weights of the folder were trained on

    def __post_init__(self):
        check_sizes(self, "lora_rank", "adapter_dim", "compressed_dim", "embedding_dim")
        check_sizes(self, "heads", most=MOST_HEADS)
        check_positive(self, "lora_alpha", "sample_rate")
        check_at_most(self, 1e6, "lora_alpha")
        if not self.architecture:
            if not self.folder:
                raise ConfigError(
                    f"encoder {self.name}: give 'folder', the folder of the pre-trained model (config.yaml "
                    "of a model made with it has 'architecture' instead)"
                )
            found = describe_folder(self.folder, self.name)
            self.architecture, self.do_normalize = found.architecture, found.do_normalize
            self.sample_rate, self.labels = found.sample_rate, found.labels
            self.hash = check_hash(self.folder, self.name, self.hash)
        check_architecture(self.architecture, self.name, "architecture")
        layers, width = self.architecture["num_hidden_layers"], self.architecture["hidden_size"]
        if self.layer != -1 and not 1 <= self.layer <= layers:
            raise ValueError(f"layer must be -1 or between 1 and {layers}, got {self.layer}")
        if self.tuning == "lora" and self.lora_rank > width:
            raise ValueError(
                f"lora_rank must be between 1 and the width of the transformer, {width}, got {self.lora_rank}"
            )
        if self.pooling == "statistics":
            self.embedding_dim = 2 * width


@dataclass
class Wav2Vec2Config(PretrainedConfig):
    """wav2vec 2.0."""

    name = "wav2vec2"


@dataclass
class HubertConfig(PretrainedConfig):
    """HuBERT."""

    name = "hubert"


@dataclass
class WavLMConfig(PretrainedConfig):
    """WavLM."""

    name = "wavlm"


@dataclass
class W2vBertConfig(PretrainedConfig):
    """w2v-BERT 2.0."""

    name = "wav2vec2-bert"


class Pretrained(Encoder):
    """wav2vec 2.0, HuBERT or WavLM: (B, T, H) samples in [-1, 1] -> (B, D).

    The embedding of a padded row is that of the row by itself also where the first layer normalises over time
    (``feat_extract_norm: group``): its statistics are of the valid samples alone. (The library gives such
    models no mask, as they were trained without; for a single utterance, which has none, that is the same.)

    Args:
        config: of the encoder.
        frame_size: H.
    """

    input_kind = "waveform"
    max_input = LONGEST
    compiles = False  # it takes minutes, in many pieces, and steps on a CPU then took longer

    def __init__(self, config: PretrainedConfig, frame_size: int):
        super().__init__()
        self.config, self.frame_size = config, frame_size
        self.sample_rate, self._recomputes = config.sample_rate, False
        architecture, dropped = dict(config.architecture), False
        if config.pooling == "statistics" and config.layer != -1:
            dropped = config.layer < architecture["num_hidden_layers"]
            architecture["num_hidden_layers"] = config.layer
        self.network = make_network(config.name, architecture)
        sizes = self.network.config
        if dropped and getattr(sizes, "do_stable_layer_norm", False):
            self.network.encoder.layer_norm = nn.Identity()  # it is of the last layer
        self._prepare_input(sizes)
        if config.tuning == "lora":
            add_low_rank_updates(self.network, config.lora_rank, config.lora_alpha)
        elif config.tuning == "adapters":
            add_adapters(self.network, sizes.hidden_size, config.adapter_dim)
        layers, width = sizes.num_hidden_layers + 1, sizes.hidden_size
        self.pooling = {
            "statistics": lambda: LayerStatistics(width),
            "weighted": lambda: WeightedStatistics(layers, width),
            "mhfa": lambda: Mhfa(layers, width, config.compressed_dim, config.heads),
        }[config.pooling]()
        affine = config.pooling != "statistics"
        self.embedding = nn.Linear(self.pooling.dim, config.embedding_dim) if affine else nn.Identity()
        self.embedding_dim = config.embedding_dim

    def _prepare_input(self, sizes) -> None:
        """Prepare the convolutions on the waveform."""
        self._convolutions = list(zip(sizes.conv_kernel, sizes.conv_stride, strict=True))
        field_, stride = 1, 1
        for kernel, step in self._convolutions:
            field_, stride = field_ + (kernel - 1) * stride, stride * step
        self.min_input = math.ceil(field_ / self.frame_size)
        self._norms_over_time = sizes.feat_extract_norm == "group"
        if self._norms_over_time:
            first = self.network.feature_extractor.conv_layers[0]
            first.layer_norm = _NormOverTime(first.layer_norm.num_groups, first.layer_norm.num_channels)
        # the library makes the waveform require a gradient where the convolutions are trained
        self.network.feature_extractor._requires_grad = self.config.tuning == "all"

    def load_pretrained(self) -> None:
        config = self.config
        if config.folder:
            check_hash(config.folder, config.name, config.hash)
            path = weights_file(config.folder, config.name)
            fill(self.network, read_weights(config.folder, config.name), CLASSES[config.name][2], str(path))

    def parts(self) -> dict[str, nn.ModuleList]:
        return {
            "frames": nn.ModuleList([self.network]),
            "pooling": nn.ModuleList([self.pooling]),
            "embedding": nn.ModuleList([self.embedding]),
        }

    def lr_scales(self) -> list[tuple[float, list[nn.Parameter]]]:
        """What ``tuning`` does not train, and the weights of layers."""
        added = {id(p) for p in added_parameters(self.network)}
        base = [p for p in self.network.parameters() if id(p) not in added]
        layers = [m.weights for m in self.pooling.modules() if isinstance(m, WeightedLayers)]
        return [(0.0, [] if self.config.tuning == "all" else base), (LAYER_LR_SCALE, layers)]

    def forward(self, x: torch.Tensor, frames: torch.Tensor | None = None) -> torch.Tensor:
        if x.shape[1] < self.min_input:
            raise ValueError(f"this encoder needs {self.min_input} frames or more, got {x.shape[1]}")
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in self.network.parameters())
        if self.checkpointed != self._recomputes:
            recompute_activations(self.network, self.checkpointed)
            self._recomputes = self.checkpointed
            if self._norms_over_time:  # what its norm has of a mask is of the last call
                self.network.feature_extractor.conv_layers[0].gradient_checkpointing = False
        with torch.set_grad_enabled(trained):  # frozen: no activation is stored
            states, mask = self._states(x, frames)
        return self.embedding(self.pooling(states, None if mask is None else mask.unsqueeze(2)))

    def _states(self, x: torch.Tensor, frames: torch.Tensor | None) -> tuple[list[torch.Tensor], Mask]:
        """Return the states (B, T', D) of all layers and the mask (B, T') of their frames."""
        samples, lengths = x.flatten(1), None if frames is None else frames * self.frame_size
        valid = frame_mask(lengths, samples.shape[1])
        if self.config.do_normalize:
            samples = _normalised(samples, valid, dim=1, correction=0)
        samples = zeroed(samples, valid)
        mask, counts = None, []
        if lengths is not None:
            length, total = lengths, samples.shape[1]
            for kernel, stride in self._convolutions:
                length, total = (length - kernel) // stride + 1, (total - kernel) // stride + 1
                counts.append(length)
            mask = frame_mask(length, total)
        if self._norms_over_time:
            self.network.feature_extractor.conv_layers[0].layer_norm.frames = counts[0] if counts else None
        return layer_states(self.network, samples, None if valid is None else valid.long()), mask


class W2vBert(Pretrained):
    """w2v-BERT 2.0: (B, T, F) log filter banks -> (B, D).

    They are this project's, with Kaldi's definition as in the library: 80 bands above 20 Hz, Povey's window
    of 25 ms every 10 ms, no dither. Each band gets mean 0 and variance 1 (unbiased) over the utterance here,
    so that it does not matter which mean the front end subtracts; then two frames are one input.

    Args:
        config: of the encoder.
        feature_dim: F.

    Raises:
        ConfigError: filter banks of another size.
    """

    input_kind = "features"
    needed_features = {
        "low_freq": (20.0,),
        "high_freq": (0.0, 8000.0),
        "window_type": ("povey",),
        "frame_length": (25.0,),
        "frame_shift": (10.0,),
        "preemphasis_coefficient": (0.97,),
        "use_energy": (False,),
        "use_power": (True,),
    }
    min_input = 2
    _norms_over_time = False

    def _prepare_input(self, sizes) -> None:
        if 2 * self.frame_size != sizes.feature_projection_input_dim:
            raise ConfigError(
                f"this {self.config.name} takes {sizes.feature_projection_input_dim // 2} filter banks, and "
                f"the features have {self.frame_size} columns; make them with 'num_mel_bins: "
                f"{sizes.feature_projection_input_dim // 2}' in the configuration of stage 2"
            )

    def _states(self, x: torch.Tensor, frames: torch.Tensor | None) -> tuple[list[torch.Tensor], Mask]:
        valid = frame_mask(frames, x.shape[1])
        x = _normalised(x, None if valid is None else valid.unsqueeze(2), dim=1, correction=1)
        pairs = zeroed(x, None if valid is None else valid.unsqueeze(2))
        pairs = pairs[:, : x.shape[1] // 2 * 2].unflatten(1, (-1, 2)).flatten(2)
        mask = frame_mask(None if frames is None else frames // 2, pairs.shape[1])
        return layer_states(self.network, pairs, None if mask is None else mask.long()), mask


class _NormOverTime(nn.GroupNorm):
    """Group norm of one channel a group, (B, C, T), over the ``frames`` (B,) valid ones; None: over all."""

    frames: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = frame_mask(self.frames, x.shape[2])
        if mask is None:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            x = _normalised(x.float(), mask.unsqueeze(1), dim=2, correction=0, floor=self.eps)
            return x * self.weight[:, None] + self.bias[:, None]


def _normalised(
    x: torch.Tensor, mask: Mask, dim: int, correction: int, floor: float = VARIANCE_FLOOR
) -> torch.Tensor:
    """Return (x - mean) / sqrt(variance + floor), over the valid entries along ``dim``."""
    if mask is None:
        variance, mean = torch.var_mean(x, dim, correction=correction, keepdim=True)
    else:
        mean = masked_mean(x, mask, [dim])
        count = mask.sum(dim, keepdim=True)
        variance = masked_mean((x - mean).square(), mask, [dim]) * count / (count - correction).clamp_min(1)
    return (x - mean) * (variance + floor).rsqrt()
