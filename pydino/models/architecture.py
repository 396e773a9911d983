"""What is taken of the ``config.json`` of a frame-level pre-trained model: sizes and kinds of its layers,
each checked, as the file is a stranger's and every size is memory. Its other keys are of training and of
output layers, or could name code to load.
"""

import math

from pydino.base import ConfigError

MOST_LAYERS, LARGEST_SIZE = 1000, 100_000  # the largest published ones are 48 and 10,000
# kind of a key -> what it must be, in words, and whether a value is
_KINDS = {
    "layers": (f"a whole number from 1 to {MOST_LAYERS}", lambda x: _is_size(x, MOST_LAYERS)),
    "size": (f"a whole number from 1 to {LARGEST_SIZE}", lambda x: _is_size(x)),
    "sizes": (
        f"a list of whole numbers from 1 to {LARGEST_SIZE}",
        lambda x: isinstance(x, list) and bool(x) and all(_is_size(one) for one in x),
    ),
    "share": ("a number from 0 to 1", lambda x: _is_number(x) and 0 <= x <= 1),
    "above 0": ("a number above 0 and up to 1", lambda x: _is_number(x) and 0 < x <= 1),
    "flag": ("true or false", lambda x: isinstance(x, bool)),
    "name": ("a name", lambda x: isinstance(x, str) and bool(x)),
    "name or null": ("a name or null", lambda x: x is None or isinstance(x, str) and bool(x)),
}
_LAYERS = {
    "hidden_size": "size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "size",
    "intermediate_size": "size",
    "hidden_act": "name",
    "layer_norm_eps": "above 0",
    "hidden_dropout": "share",
    "activation_dropout": "share",
    "feat_proj_dropout": "share",
}
_WAVEFORMS = {
    **_LAYERS,
    "feat_extract_norm": "name",
    "feat_extract_activation": "name",
    "conv_dim": "sizes",
    "conv_stride": "sizes",
    "conv_kernel": "sizes",
    "conv_bias": "flag",
    "num_conv_pos_embeddings": "size",
    "num_conv_pos_embedding_groups": "size",
    "do_stable_layer_norm": "flag",
}
# name of the encoder -> key of config.json -> its kind
KEYS = {
    "wav2vec2": _WAVEFORMS,
    "hubert": {**_WAVEFORMS, "feat_proj_layer_norm": "flag"},
    "wavlm": {**_WAVEFORMS, "num_buckets": "size", "max_bucket_distance": "size"},
    "wav2vec2-bert": {
        **_LAYERS,
        "feature_projection_input_dim": "size",
        "position_embeddings_type": "name or null",
        "rotary_embedding_base": "size",
        "max_source_positions": "size",
        "left_max_position_embeddings": "size",
        "right_max_position_embeddings": "size",
        "conv_depthwise_kernel_size": "size",
        "conformer_conv_dropout": "share",
    },
}
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


def check_architecture(architecture: dict, name: str, where: str) -> None:
    """Check the sizes and kinds of a model's layers.

    Args:
        architecture: some of the keys of KEYS, and all of NEEDED.
        name: of the encoder.
        where: file or key that they stand in, for messages.

    Raises:
        ConfigError: names ``where``, the key and what it must be.
    """
    unknown = sorted(architecture.keys() - KEYS[name].keys())
    if unknown:
        raise ConfigError(f"{where}: '{unknown[0]}' is no size of a {name} model; remove it")
    for key in NEEDED:
        if key not in architecture:
            raise ConfigError(f"{where}: there is no '{key}'; get the folder of the {name} model again")
    for key, value in architecture.items():
        words, fits = _KINDS[KEYS[name][key]]
        if not fits(value):
            raise ConfigError(f"{where}: {key} must be {words}, got {value!r}")
    width = architecture["hidden_size"]
    for key in ("num_attention_heads", "num_conv_pos_embedding_groups"):
        if width % architecture.get(key, 1):
            raise ConfigError(f"{where}: {key} ({architecture[key]}) must divide hidden_size ({width})")
    lengths = {
        key: len(architecture[key])
        for key in ("conv_dim", "conv_stride", "conv_kernel")
        if key in architecture
    }
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise ConfigError(f"{where}: one number for each convolution is needed, and there are {said}")


def _is_size(value, most: int = LARGEST_SIZE) -> bool:
    return type(value) is int and 1 <= value <= most


def _is_number(value) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
