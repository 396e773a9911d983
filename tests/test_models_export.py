"""Parts of every encoder, and its export: what torch.export and ONNX compute is what eager mode computes."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from pydino import load
from pydino.base import UserError, config_from_dict
from pydino.cli import main
from pydino.infer import FrontEnd, ModelConfig, save_model
from pydino.infer.export import export_encoder
from pydino.models import ENCODERS, PARTS, Encoder, build_encoder
from pydino.models.transformer_library import CLASSES

SMALL = [
    {"name": "tdnn", "channels": 8, "pooled_channels": 12, "embedding_dim": 6},
    {"name": "lresnet34", "base_channels": 2, "embedding_dim": 6},
    {"name": "lresnet34", "base_channels": 2, "embedding_dim": 6, "activation": "swish", "norm_before": False}
    | {"pooling": "attentive", "attention_dim": 5, "dropout": 0.2},
    {"name": "fwse-resnet34", "base_channels": 2, "attention_dim": 5, "embedding_dim": 6},
    {"name": "ecapa-tdnn", "channels": 16, "scale": 4, "pooled_channels": 24, "attention_dim": 5},
    {"name": "ecapa-tdnn", "channels": 16, "scale": 2, "pooled_channels": 24, "norm_before": True},
    {"name": "resnet34", "base_channels": 2, "embedding_dim": 6},
    {"name": "campplus", "front_channels": 4, "channels": 8, "layers": [2, 1, 2], "growth": 4}
    | {"bottleneck_channels": 6, "embedding_dim": 6, "segment_frames": 30},
    {"name": "eres2net", "base_channels": 4, "embedding_dim": 6},
    {"name": "statistics"},
    {"name": "statistics", "mean": False},
]
every_encoder = pytest.mark.parametrize("config", SMALL, ids=lambda config: config["name"])
DIM = 20


def trained(config):
    """An encoder as after training: its running statistics are not those that it was made with."""
    torch.manual_seed(0)
    encoder = build_encoder(config, DIM)
    with torch.no_grad():
        for _ in range(3):
            encoder(3 * torch.randn(6, 40, DIM) + 1)
    return encoder.eval().requires_grad_(False)


@pytest.fixture
def runtime():
    """onnxruntime, where the set-up has installed it."""
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} is not installed: bash utils/setup.sh dev")
    return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: bash utils/setup.sh dev")


def same(embeddings, expected):
    """Within 1e-5 of the size of the embeddings."""
    return (torch.as_tensor(embeddings) - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1)


def test_every_encoder_of_features_is_tried_here():
    """Those of frame-level pre-trained models are in test_models_pretrained.py."""
    assert {config["name"] for config in SMALL} == set(ENCODERS) - set(CLASSES)


@every_encoder
def test_every_parameter_and_buffer_is_in_exactly_one_part(config):
    encoder = build_encoder(config, DIM)
    assert isinstance(encoder, Encoder)
    parts = encoder.parts()
    assert tuple(parts) == PARTS
    for kind in ("parameters", "buffers"):
        split = sorted(id(tensor) for part in parts.values() for tensor in getattr(part, kind)())
        assert split == sorted(id(tensor) for tensor in getattr(encoder, kind)())
    if config["name"] != "statistics":
        affine = encoder.embedding.weight.numel() + 2 * encoder.embedding_dim
        assert sum(p.numel() for p in parts["embedding"].parameters()) == affine


@every_encoder
def test_parts_are_not_copies_and_add_no_names(config):
    encoder = build_encoder(config, DIM)
    names = list(encoder.state_dict())
    encoder.parts()["frames"].requires_grad_(False).eval()
    assert list(encoder.state_dict()) == names
    frozen = {name for name, parameter in encoder.named_parameters() if not parameter.requires_grad}
    after = ("pooling", "embedding", "embedding_norm")
    expected = {name for name in names if name.split(".")[0] not in after}
    assert frozen == expected & {name for name, _ in encoder.named_parameters()}


@every_encoder
def test_input_and_sizes_are_declared(config):
    encoder = trained(config)
    assert encoder.input_kind == "features" and encoder.checkpointed is False
    y = encoder(torch.randn(2, encoder.min_input, DIM))
    assert y.shape == (2, encoder.embedding_dim) and torch.isfinite(y).all()


@every_encoder
def test_torch_export(config):
    encoder = trained(config)
    free = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    program = torch.export.export(encoder, (torch.randn(2, 100, DIM),), dynamic_shapes=(free,)).module()
    # torch.export holds an axis of one entry for another case: the pooled frames must be two or more
    for batch, frames in ((1, 2 * encoder.min_input), (3, 101), (2, 333)):
        x = torch.randn(batch, frames, DIM)
        assert same(program(x), encoder(x)), (batch, frames)


@every_encoder
def test_onnx(config, runtime, tmp_path):
    encoder = trained(config)
    export_encoder(encoder, DIM, tmp_path / "encoder.onnx", {"note": "déjà vu"})
    session = runtime.InferenceSession(tmp_path / "encoder.onnx")
    assert session.get_modelmeta().custom_metadata_map["note"] == "déjà vu"
    assert [(x.name, x.shape) for x in session.get_inputs()] == [("features", ["batch", "frames", DIM])]
    assert [(x.name, x.shape[1]) for x in session.get_outputs()] == [("embedding", encoder.embedding_dim)]
    for batch, frames in ((1, encoder.min_input), (1, encoder.min_input + 1), (3, 101), (2, 333)):
        x = torch.randn(batch, frames, DIM)
        assert same(session.run(None, {"features": x.numpy()})[0], encoder(x)), (batch, frames)


@pytest.mark.parametrize("config", [SMALL[0], SMALL[1], SMALL[4]], ids=lambda config: config["name"])
def test_the_exported_form_is_for_export_only(config):
    """In eager mode the gradient written out by hand stays in the graph: it is what training is held to."""
    pooled = []
    encoder = build_encoder(config, DIM)
    encoder.embedding.register_forward_pre_hook(lambda module, inputs: pooled.append(inputs[0].grad_fn))
    encoder(torch.randn(4, 40, DIM))
    seen, nodes = set(), [pooled[0]]
    while nodes:  # each node once: the paths through residual blocks double with every block
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [parent for parent, _ in node.next_functions]
    assert any("_Moments" in node.name() for node in seen)


@pytest.fixture
def folder(tmp_path):
    config = {
        "encoder": SMALL[0],
        "embedding_dim": 6,
        "role": "teacher",
        "method": "dino",
        "seed": 0,
        "train_set": "train",
        "front_end": {
            "sample_rate": 16000,
            "features": {"kind": "fbank", "sample_frequency": 16000, "num_mel_bins": DIM, "dither": 0.0},
            "normalisation": {"kind": "mean"},
        },
    }
    save_model(tmp_path / "teacher", trained(SMALL[0]), config, "")
    return tmp_path / "teacher"


def test_the_exported_model_gives_the_embedding_of_the_folder(folder, runtime, tmp_path, capsys):
    """The front end comes from the metadata alone."""
    assert main(["export", str(folder), str(tmp_path / "model.onnx")]) == 0
    assert (
        "features (batch, frames, 20) to embedding (batch, 6); at least 23 frames" in capsys.readouterr().err
    )
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["min_frames"], metadata["max_frames"]) == ("23", "30000")
    front_end = FrontEnd(config_from_dict(ModelConfig, json.loads(metadata["config"])).front_end)
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, 16000).astype(np.float32)
    features = front_end.from_waveform(waveform, 16000)[0]
    embedding = session.run(None, {"features": features.unsqueeze(0).numpy()})[0][0]
    assert same(embedding, torch.from_numpy(load(folder).embed(waveform, 16000)))


def test_mistakes_in_export_get_a_message(folder, tmp_path, capsys, monkeypatch):
    assert main(["export", str(folder), str(tmp_path / "model.pt")]) == 1
    assert "a name that ends in .onnx" in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="onnx and onnxscript, not installed here: .*setup.sh export"):
        export_encoder(trained(SMALL[0]), DIM, tmp_path / "model.onnx", {})
    assert not (tmp_path / "model.onnx").exists()
