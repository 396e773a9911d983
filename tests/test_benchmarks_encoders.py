"""The benchmark of encoders, at tiny sizes."""

import argparse
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import encoder_cost  # noqa: E402

ARGUMENTS = argparse.Namespace(seconds=1.0, batch=2, passes=1)


def measured(monkeypatch, config):
    monkeypatch.setitem(encoder_cost.ENCODERS, "it", config)
    return encoder_cost.measure("it", ARGUMENTS, torch.device("cpu"))


def test_a_row_of_an_encoder_of_features(monkeypatch):
    config = {"name": "tdnn", "channels": 64, "pooled_channels": 96, "embedding_dim": 32}
    row = measured(monkeypatch, config)
    encoder = encoder_cost.build_encoder(config, 80)
    assert row["million parameters"] == row["trained"]
    assert row["trained"] == round(sum(p.numel() for p in encoder.parameters()) / 1e6, 2)
    # a convolution multiplies each of its weights once a frame, or not at all where the kernel is outside
    weights = sum(p.numel() for p in encoder.parameters() if p.dim() == 3)
    assert 0 < row["G multiply-adds"] <= weights * 100 / 1e9
    assert min(row["embed utt/s"], row["train utt/s"]) > 0
    assert 0 < row["recomputed MB"] < row["kept MB"]


def test_a_row_of_a_frozen_pretrained_model(monkeypatch):
    tiny = pytest.importorskip("tiny_pretrained")
    config = encoder_cost.pretrained("wavlm", "frozen", **tiny.SIZES, **tiny.CONVOLUTIONS)
    frozen = measured(monkeypatch, {**config, "heads": 2, "compressed_dim": 4})
    whole = measured(monkeypatch, {**config, "heads": 2, "compressed_dim": 4, "tuning": "all"})
    assert frozen["million parameters"] == whole["million parameters"] == whole["trained"]
    assert frozen["trained"] < whole["trained"]
    assert frozen["kept MB"] < whole["kept MB"] / 2
