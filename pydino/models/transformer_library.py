"""The one file that imports the transformers library: networks of wav2vec 2.0, HuBERT, WavLM and w2v-BERT
2.0, made of their sizes alone.

Only the code of the networks is used. Its loading machinery, which can fetch files and run code that comes
with a model, is not: :mod:`.pretrained_folder` reads the weights.
"""

import importlib.util
import warnings
from contextlib import contextmanager

import torch
from torch import nn

from pydino.base import ConfigError, UserError

# configuration, network, and the prefix of its weights in models with an output layer
CLASSES = {
    "wav2vec2": ("Wav2Vec2Config", "Wav2Vec2Model", "wav2vec2"),
    "hubert": ("HubertConfig", "HubertModel", "hubert"),
    "wavlm": ("WavLMConfig", "WavLMModel", "wavlm"),
    "wav2vec2-bert": ("Wav2Vec2BertConfig", "Wav2Vec2BertModel", "wav2vec2_bert"),
}
# No layer is dropped and no frame masked by the library: augmentation is done to waveforms, by keyed draws.
# The dropout of attention is no module of its own, so that a teacher could not turn it off.
_FIXED = {"layerdrop": 0.0, "mask_time_prob": 0.0, "mask_feature_prob": 0.0, "attention_dropout": 0.0}
_FIXED |= {"add_adapter": False}


@contextmanager
def weights_follow(config: dict):
    """Where the weights of the encoder ``config["name"]`` are read afterwards: those of a transformer are not
    initialised before, which for the large ones takes seconds.
    """
    if config.get("name") not in CLASSES or not is_installed():
        yield
        return
    from transformers import initialization

    with initialization.no_init_weights():
        yield


def is_installed() -> bool:
    """Return whether the library is."""
    return importlib.util.find_spec("transformers") is not None


def make_network(name: str, architecture: dict) -> nn.Module:
    """Return a network with random weights.

    Args:
        name: wav2vec2, hubert, wavlm or wav2vec2-bert.
        architecture: sizes, the keys of :data:`.architecture.KEYS`.

    Raises:
        UserError: the library is not installed.
        ConfigError: sizes that it does not accept.
    """
    if not is_installed():
        raise UserError(
            f"the encoder {name} needs the package transformers, not installed here: run 'bash "
            "utils/setup.sh transformers', or 'pip install transformers' in your own environment"
        )
    import transformers

    # of WavLM, whose mask is of another type than its position bias
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    config_class, network_class, _ = CLASSES[name]
    try:
        config = getattr(transformers, config_class)(**architecture, **_FIXED)
        return getattr(transformers, network_class)(config)
    except Exception as error:  # of many kinds: the library does not check all that a config.json may say
        text = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"encoder {name}: no network of this architecture can be made: {text}") from error


def layer_states(network: nn.Module, x: torch.Tensor, mask: torch.Tensor | None) -> list[torch.Tensor]:
    """Return the states (B, T', D) of all layers: the input of the first layer, then the output of each, the
    last one normalised where the network normalises it.

    Args:
        network: of :func:`make_network`.
        x: (B, S) samples, or (B, T', 2F) features.
        mask: (B, S) or (B, T'), int64, 1 where valid; None: everywhere.
    """
    found = network(x, attention_mask=mask, output_hidden_states=True, return_dict=True)
    return [*found.hidden_states[:-1], found.last_hidden_state]


def recompute_activations(network: nn.Module, recomputed: bool) -> None:
    """Let the layers recompute their activations in the backward pass instead of storing them, or not."""
    new = hasattr(network, "activation_checkpointing_enable")  # the name since transformers 5
    stem = "activation_checkpointing" if new else "gradient_checkpointing"
    if recomputed:
        getattr(network, f"{stem}_enable")({"use_reentrant": False})
    else:
        getattr(network, f"{stem}_disable")()
