"""Every encoder in the training of methods of three kinds (DINO, labels, clusters): a few steps leave a model
that embeds. The other methods call an encoder as one of these does.
"""

import numpy as np
import pytest
import torch
from test_models_encoders import SMALL
from test_train_dino import BANDS, log_lines
from test_train_dino import CONFIG as DINO
from test_train_ssrl import NAMES, SSRL, clusters, data  # noqa: F401
from test_train_xvector import CONFIG as XVECTOR

import pydino
from pydino.base import dump_config
from pydino.cli import main
from pydino.kaldi import write_table

ENCODERS = {config["name"]: config for config in SMALL}
# as large models need it: micro-batches, recomputed activations, half precision
LARGE = {"accumulation": 2, "activation_checkpointing": True, "channels_last": True, "precision": "bf16"}
METHODS = {
    "dino": {**DINO, "batch_size": 8, "compute": LARGE},
    "xvector": {**XVECTOR, "compute": LARGE},
    "ssrl": SSRL,
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("method", METHODS)
def test_every_encoder_is_trained(data, clusters, tmp_path, method, encoder):  # noqa: F811
    config = {**METHODS[method], "epochs": 1, "encoder": ENCODERS[encoder], "on_collapse": "warn"}
    dump_config(config, tmp_path / "config.yaml")
    write_table(tmp_path / "utt2label", {name: f"c{i % 3}" for i, name in enumerate(NAMES)})
    supervision = {
        "dino": [],
        "xvector": ["--labels", tmp_path / "utt2label"],
        "ssrl": ["--clusters", clusters],
    }[method]
    words = ["--config", tmp_path / "config.yaml", "--num-threads", 1, *supervision, data, tmp_path / "exp"]
    assert main(["train", *map(str, words)]) == 0
    lines = log_lines(tmp_path / "exp")
    assert lines[-1]["step"] >= 2 and np.isfinite(lines[-1]["loss"])
    for weights in (tmp_path / "exp").glob("*/model.safetensors"):
        assert pydino.load(weights.parent).encoder(torch.randn(1, 60, BANDS)).isfinite().all()
