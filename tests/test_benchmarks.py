"""The naive step that ours is measured against learns the same: from one seed, on the same data, both end with the same weights."""

import sys
from pathlib import Path

import pytest
import torch
from test_train_dino import BANDS, make_data, make_train_set

from pydino.base import config_from_dict
from pydino.data import Order, TrainingSet, ViewMaker, ViewSampler, batches
from pydino.train import Dino, DinoConfig, World
from pydino.train.loop import make_optimiser, update
from pydino.train.schedules import learning_rate

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from naive import NaiveDino, NaiveLoader, NaiveViews, StoredFeatures  # noqa: E402

STEPS, STEPS_PER_EPOCH, BATCH = 6, 2.0, 8
CONFIG = {
    "epochs": 3, "batch_size": BATCH, "koleo_weight": 0.1, "cosine_weight": 0.1, "cosine_ramp_epochs": 1,
    "head": {"hidden_dim": 16, "bottleneck_dim": 8, "output_dim": 32},
    "crops": {"num_local": 3, "global_seconds": [0.6, 0.8], "local_seconds": [0.3, 0.5]},
    "teacher_augment": {"noise_probability": 0.2},
    "encoder": {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8},
    "optimiser": {"warmup_epochs": 1, "clip": 0.5, "lr": 0.01},
}  # fmt: skip


class NormOfEachView(torch.nn.BatchNorm1d):
    """Batch norm that sees one view at a time, as the naive step has it; the rows of the views come one after another."""

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


def train_ours(config, data):
    torch.manual_seed(0)
    dataset, world = TrainingSet(data), World()
    sampler = ViewSampler(dataset, config.crops, Order(dataset.hashes, BATCH, 0), 0.01, 0)
    views = ViewMaker(config.crops, config.augment_pair, config.normalisation, BANDS, 0.01, 0, "cpu")
    method = Dino(config, views, BANDS, STEPS, STEPS_PER_EPOCH, world)
    norm_each_view(method.student), norm_each_view(method.teacher)
    parameters = list(method.student.parameters())
    optimiser = make_optimiser(parameters, config.optimiser)
    for step, passes in enumerate(batches(sampler, 0, STEPS)):
        lr = learning_rate(step, STEPS, STEPS_PER_EPOCH, config.optimiser)
        metrics = update(method, optimiser, parameters, passes, step, lr, config.optimiser.clip)
    return method.state_dict(), metrics["loss"].item()


def train_naive(config, data):
    torch.manual_seed(0)
    dataset = TrainingSet(data)
    views = NaiveViews(StoredFeatures(data), config, Order(dataset.hashes, BATCH, 0), dataset.lengths, BANDS, 0.01, 0)
    naive = NaiveDino(config, BANDS, STEPS, STEPS_PER_EPOCH, "cpu")
    for step, made in enumerate(NaiveLoader(views, workers=0)(0, STEPS)):
        loss = naive.step(made, step)
    return naive.state_dict(), loss


@pytest.mark.parametrize("optimiser", ["adamw", "adam", "sgd"])
def test_the_naive_step_trains_to_the_same_weights(tmp_path, optimiser):
    make_data(tmp_path / "source", [f"s{i % 4}-u{i:02d}" for i in range(16)])
    make_train_set(tmp_path / "source", tmp_path / "train")
    config = config_from_dict(DinoConfig, {**CONFIG, "optimiser": {**CONFIG["optimiser"], "name": optimiser}})
    (ours, our_loss), (naive, naive_loss) = train_ours(config, tmp_path / "train"), train_naive(config, tmp_path / "train")
    assert ours.keys() == naive.keys()
    assert naive_loss == pytest.approx(our_loss, rel=1e-4)
    for name, value in ours.items():
        assert torch.allclose(value.float(), naive[name].float(), atol=1e-4), (name, (value - naive[name]).abs().max())
