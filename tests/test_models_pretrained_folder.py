"""Folders of frame-level pre-trained models: what is read of them, what is believed, and what is refused."""

import json

import pytest
import torch
from test_models_pretrained import SMALL, draw, encoder_of
from tiny_pretrained import make_folder, transformers

from pydino.base import ConfigError, UserError
from pydino.models import build_encoder, resolve_encoder
from pydino.models.architecture import NEEDED


def test_weights_of_other_forms(tmp_path):
    """A pickle of tensors, weight norm under its old names, and a model with an output layer."""
    make_folder(tmp_path, "wavlm")
    x, wanted = draw("wavlm"), encoder_of(tmp_path, "wavlm", pooling="statistics")(draw("wavlm"))
    config = transformers.WavLMConfig.from_pretrained(tmp_path)
    whole = transformers.WavLMForCTC(config)
    whole.wavlm.load_state_dict(transformers.WavLMModel.from_pretrained(tmp_path).state_dict())
    state = {
        name.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): value
        for name, value in whole.state_dict().items()
    }
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**described, "architectures": ["WavLMForCTC"]}))
    assert torch.allclose(encoder_of(tmp_path, "wavlm", pooling="statistics")(x), wanted, atol=1e-6)
    assert resolve_encoder({"name": "wavlm", "folder": str(tmp_path)})["labels"] == "unknown"

    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    torch.save({"x": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="tensors alone"):
        encoder_of(tmp_path, "wavlm")


def test_the_resolved_configuration_needs_no_folder(tmp_path):
    make_folder(tmp_path / "model", "hubert")
    config = resolve_encoder({"name": "hubert", "folder": str(tmp_path / "model"), **SMALL})
    assert (
        len(config["hash"]) == 64
        and config["labels"] == "none"
        and "vocab_size" not in config["architecture"]
    )
    (tmp_path / "model").rename(tmp_path / "moved")
    encoder = build_encoder({**config, "folder": ""}, 160)
    encoder.load_pretrained()  # nothing to load
    encoder.load_state_dict(encoder_of(tmp_path / "moved", "hubert").state_dict())


@pytest.mark.parametrize(
    "change, options, message",
    [
        ("", {"hash": "0" * 64}, "encoder.hash"),
        ("no folder", {}, "hf download microsoft/wavlm-base-plus"),
        ("no weights", {}, "no .*model.safetensors"),
        ("no preprocessor", {}, "no .*preprocessor_config.json"),
        ("damaged", {}, "tensors alone"),
        ("other sizes", {}, "do not match config.json"),
        ("other kind", {}, "set 'encoder.name: hubert'"),
        ("pointer", {}, "git lfs pull"),
        ("short", {}, "tensors alone"),
        ("remote code", {}, "config.json: auto_map names code"),
        ("", {"layer": 4}, "between 1 and 3"),
        ("", {"layer": 0}, "between 1 and 3"),
        ("", {"layer": -2}, "between 1 and 3"),
        ("", {"pooling": "mean"}, "pooling must be one of statistics, weighted, mhfa"),
        ("", {"pooling": "mhfa", "heads": 0}, "heads must be between 1 and 1024"),
        ("", {"tuning": "lora", "lora_rank": 17}, "lora_rank must be between 1 and the width .* 16, got 17"),
        ("", {"tuning": "lora", "lora_alpha": 1e300}, "lora_alpha must be at most"),
        ("", {"tuning": "adapters", "adapter_dim": 10**12}, "adapter_dim must be between 1 and 20000"),
        ("", {"architecture": {"auto_map": "x"}}, "'auto_map' is no size"),
        ("", {"folder": ""}, "give 'folder'"),
    ],
)
def test_folders_that_will_not_do(tmp_path, change, options, message):
    folder = tmp_path / "model"
    make_folder(folder, "wavlm")
    described = json.loads((folder / "config.json").read_text())
    if change == "no folder":
        folder = tmp_path / "absent"
    elif change == "no weights":
        (folder / "model.safetensors").unlink()
    elif change == "no preprocessor":
        (folder / "preprocessor_config.json").unlink()
    elif change == "damaged":
        (folder / "model.safetensors").write_bytes(b"damaged")
    elif change == "pointer":  # what git clone gives without git lfs
        (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\nsize 9\n")
    elif change == "short":
        whole = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    elif change == "remote code":
        with_code = {**described, "auto_map": {"AutoModel": "modeling.Model"}}
        (folder / "config.json").write_text(json.dumps(with_code))
    elif change == "other sizes":
        (folder / "config.json").write_text(json.dumps({**described, "hidden_size": 32}))
    elif change == "other kind":
        (folder / "config.json").write_text(json.dumps({**described, "model_type": "hubert"}))
    with pytest.raises((UserError, ConfigError), match=message):
        encoder_of(folder, "wavlm", **options) if "folder" not in options else build_encoder(
            {"name": "wavlm", **options}, 160
        )


@pytest.mark.parametrize(
    "file, change, message",
    [
        ("config", {"hidden_size": "768"}, "hidden_size must be a whole number"),
        ("config", {"hidden_size": 10**9}, "hidden_size must be a whole number from 1 to 100000"),
        ("config", {"hidden_size": True}, "hidden_size must be a whole number"),
        ("config", {"num_hidden_layers": 10**6}, "num_hidden_layers must be a whole number from 1 to 1000"),
        ("config", {"num_hidden_layers": 0}, "num_hidden_layers must be a whole number from 1 to 1000"),
        ("config", {"conv_stride": [5, 0, 8]}, "conv_stride must be a list of whole numbers from 1"),
        ("config", {"conv_stride": 8}, "conv_stride must be a list"),
        ("config", {"intermediate_size": None}, "intermediate_size must be a whole number"),
        (
            "config",
            {"num_attention_heads": 3},
            "num_attention_heads \\(3\\) must divide hidden_size \\(16\\)",
        ),
        ("config", {"hidden_dropout": float("nan")}, "hidden_dropout must be a number from 0 to 1"),
        ("config", {"layer_norm_eps": "small"}, "layer_norm_eps must be a number above 0"),
        ("config", {"hidden_act": "os.system"}, "no network of this architecture"),
        ("config", {"conv_dim": [16]}, "conv_dim 1, conv_stride 3, conv_kernel 3"),
        ("config", {"model_type": ["wavlm"]}, "not 'wavlm'"),
        ("preprocessor_config", {"sampling_rate": None}, "sampling_rate a number of Hz"),
        ("preprocessor_config", {"do_normalize": "no"}, "do_normalize must be true or false"),
    ],
)
def test_what_a_folder_says_is_not_believed(tmp_path, file, change, message):
    make_folder(tmp_path, "wavlm")
    path = tmp_path / f"{file}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        encoder_of(tmp_path, "wavlm")


@pytest.mark.parametrize("key", NEEDED)
def test_a_size_that_is_missing_is_not_guessed(tmp_path, key):
    make_folder(tmp_path, "hubert")
    described = json.loads((tmp_path / "config.json").read_text())
    del described[key]
    (tmp_path / "config.json").write_text(json.dumps(described))
    with pytest.raises(ConfigError, match=f"config.json: there is no '{key}'"):
        encoder_of(tmp_path, "hubert")


def test_a_dropout_of_0_may_be_a_whole_number(tmp_path):
    make_folder(tmp_path, "wavlm")
    described = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**described, "hidden_dropout": 0}))
    encoder_of(tmp_path, "wavlm")


@pytest.mark.parametrize(
    "content",
    [[1], {"a": 1}, {1: torch.ones(2)}, torch.ones(2), None],
    ids=lambda value: type(value).__name__,
)
def test_a_pickle_of_other_things_than_named_tensors(tmp_path, content):
    make_folder(tmp_path, "wavlm")
    (tmp_path / "model.safetensors").unlink()
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(b"") if content is None else torch.save(content, path)
    with pytest.raises(UserError, match="cannot be read as tensors alone"):
        encoder_of(tmp_path, "wavlm")


def test_weights_in_several_files_are_refused(tmp_path):
    """An index names files, which could be anywhere: it is not read."""
    make_folder(tmp_path / "model", "wavlm")
    (tmp_path / "model/model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"encoder.layer_norm.weight": "../outside.safetensors"}}
    (tmp_path / "model/model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="several files"):
        encoder_of(tmp_path / "model", "wavlm")


def test_labels_are_unknown_where_the_outputs_are(tmp_path):
    make_folder(tmp_path, "wavlm")
    described = json.loads((tmp_path / "config.json").read_text())
    for outputs, labels in (
        (["WavLMModel"], "none"),
        (["Wav2Vec2ForPreTraining"], "none"),
        (["Wav2Vec2ForXVector"], "unknown"),
        (["WavLMModel", "WavLMForCTC"], "unknown"),
        ([], "unknown"),
        (None, "unknown"),
        ("WavLMModel", "unknown"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**described, "architectures": outputs}))
        assert resolve_encoder({"name": "wavlm", "folder": str(tmp_path)})["labels"] == labels
