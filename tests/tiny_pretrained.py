"""Folders of tiny frame-level pre-trained models with random weights, as the transformers library writes them."""

import json

import pytest

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed (utils/setup.sh transformers)"
)

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 20}
CONVOLUTIONS = {"conv_dim": [16, 16, 16], "conv_stride": [5, 8, 8], "conv_kernel": [10, 8, 8]}
CONVOLUTIONS |= {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
# name of the encoder -> configuration, network, and further sizes
MODELS = {
    "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model, CONVOLUTIONS),
    "hubert": (transformers.HubertConfig, transformers.HubertModel, CONVOLUTIONS),
    "wavlm": (transformers.WavLMConfig, transformers.WavLMModel, CONVOLUTIONS),
    "wav2vec2-bert": (
        transformers.Wav2Vec2BertConfig,
        transformers.Wav2Vec2BertModel,
        {"feature_projection_input_dim": 40, "position_embeddings_type": "relative_key"},
    ),
}
LARGE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer"}  # the structure of large models


def make_folder(folder, name, do_normalize=True, **sizes):
    """Write a folder; return the network, in evaluation mode."""
    config, network, usual = MODELS[name]
    made = network(config(**{**SIZES, **usual, **sizes})).eval()
    made.save_pretrained(folder)
    preprocessor = {"do_normalize": do_normalize, "sampling_rate": 16000, "return_attention_mask": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return made
