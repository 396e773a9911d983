"""The naive step that ours is measured against learns the same: from one seed, on the same data, both end
with the same weights. What a method does besides its steps is counted.
"""

import sys
import time
from pathlib import Path

import pytest
import torch

from pydino.base import config_from_dict
from pydino.train import DistributedContext
from pydino.train.methods.contrastive import ContrastiveConfig
from pydino.train.methods.dino import DinoConfig

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import method_cost  # noqa: E402
import train_step  # noqa: E402
from made_data import make_augmentation_data, make_training_dir  # noqa: E402
from runs import Prepared  # noqa: E402

STEPS, BATCH = 6, 8
CONFIG = {
    "epochs": 3,
    "batch_size": BATCH,
    "koleo_weight": 0.1,
    "cosine_weight": 0.1,
    "cosine_ramp_epochs": 1,
    "loss": {"teacher_temperature": 0.07, "teacher_temperature_start": 0.04, "teacher_temperature_epochs": 2},
    "head": {"hidden_dim": 16, "bottleneck_dim": 8, "output_dim": 32},
    "crops": {"num_local": 3, "global_seconds": [0.6, 0.8], "local_seconds": [0.3, 0.5]},
    "teacher_augment": {"noise_probability": 0.2},
    "encoder": {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8},
    "optimiser": {"warmup_epochs": 1, "clip": 0.5, "lr": 0.002},
}
AUDIO = {
    "input": "audio",
    "speed_factors": [0.9, 1.0],
    "teacher_waveform": {"noise_probability": 0.0},
    "waveform": {
        "reverberation_probability": 0.5,
        "noise_probability": 0.7,
        "gain_db": 3,
        "babble_speakers": [2, 3],
    },
}


class NormOfEachView(torch.nn.BatchNorm1d):
    """Batch norm that sees one view at a time, as the naive step has it; the rows of the views come one after
    another.
    """

    def forward(self, x):
        return torch.cat([super(NormOfEachView, self).forward(part) for part in x.chunk(self.views)])


def norm_each_view(network):
    """Give ``network`` the statistics of single views."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    assert norms

    def count(_, arguments):
        for norm in norms:
            norm.views = len(arguments[0]) // BATCH

    for norm in norms:
        norm.__class__ = NormOfEachView
    network.encoder.register_forward_pre_hook(count)


def compare(config, data, monkeypatch, tolerance):
    monkeypatch.setattr(train_step, "WORKERS", 0)
    ours = train_step.Ours(config, data, DistributedContext(), 0)
    naive = train_step.Naive(ours, data, ours.distributed.device)
    norm_each_view(ours.method.student), norm_each_view(ours.method.teacher)
    for side in (ours, naive):
        assert sum(1 for _ in side(0, STEPS)) == STEPS
    mine, peers = ours.method.state_dict(), naive.dino.state_dict()
    assert mine.keys() == peers.keys()
    for name, value in mine.items():
        assert torch.allclose(value.float(), peers[name].float(), rtol=1e-4, atol=tolerance), (
            name,
            (value - peers[name]).abs().max(),
        )


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
def test_the_naive_step_trains_to_the_same_weights(tmp_path, monkeypatch, optimiser):
    data = make_training_dir(tmp_path, 16, 1.0)
    config = config_from_dict(DinoConfig, {**CONFIG, "optimiser": {**CONFIG["optimiser"], "name": optimiser}})
    compare(config, data, monkeypatch, 1e-4)  # adaptive optimisers make much of small gradients' rounding


def test_the_naive_step_trains_to_the_same_weights_from_audio(tmp_path, monkeypatch):
    data = make_training_dir(tmp_path, 16, 1.0, audio="wav")
    # Adam would make much of small gradients' rounding, which is that of filter banks here.
    config = config_from_dict(
        DinoConfig, {**CONFIG, **AUDIO, "optimiser": {**CONFIG["optimiser"], "name": "sgd", "lr": 0.05}}
    )
    config.augmentation_data.noise = config.augmentation_data.speech = "yes"
    config.augmentation_data.rirs = {"small": "yes", "large": "yes"}
    config.augmentation_data = make_augmentation_data(
        tmp_path / "augmentation_data", config.augmentation_data
    )
    compare(config, data, monkeypatch, 1e-4)


def test_clusterings_of_a_training_are_counted_and_its_steps_use_them(tmp_path):
    data = make_training_dir(tmp_path, 16, 1.0)
    cluster = {"method": "kmeans", "num_clusters": 4}
    ssps = {"start_epoch": 1, "every_epochs": 2, "crops": 2, "statistics": False, "cluster": cluster}
    shared = {key: CONFIG[key] for key in ("batch_size", "encoder", "optimiser")}
    crops = {"global_seconds": [0.4, 0.5]}
    config = {**shared, "epochs": 7, "crops": crops, "positives": "ssps", "ssps": ssps}
    config = config_from_dict(ContrastiveConfig, config)
    ours = train_step.Ours(config, data, DistributedContext(), 0)
    run = Prepared(tmp_path / "simclr-ssps.yaml", config, data, None)
    found = method_cost.clusterings(ours, run, time.process_time)
    assert found["clusterings"] == 3 and found["s each"] > 0  # after epochs 1, 3 and 5, not after the last
    assert ours.method.positive_sampling.classes.max() == 3
    assert train_step.alternating({"one": lambda first, last: last - first}, 2, 3, 5) == {"one": [3, 3]}
    assert sum(1 for _ in ours(4, 6)) == 2
