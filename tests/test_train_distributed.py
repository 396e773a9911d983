"""A step is the same step in many processes and in many micro-batches: two train as one, and micro-batches add up to
the large batch.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_train_dino import BANDS, EVERY_TERM, make_data, make_train_set

from pydino.base import config_from_dict, dump_config
from pydino.data import EpochSampler, TrainingSet, ViewMaker, ViewSampler
from pydino.train import DistributedContext, Setup
from pydino.train.loop import make_optimiser, parameters_of, update
from pydino.train.methods.dino import Dino, DinoConfig
from pydino.train.synchronised_norm import SynchronisedNorm

ROOT = Path(__file__).parent.parent
CONFIG = {
    "method": "dino",
    "epochs": 4,
    "batch_size": 16,
    "koleo_weight": 0.1,
    "cosine_weight": 0.1,
    "cosine_ramp_epochs": 1,
    "on_collapse": "warn",
    "head": {"hidden_dim": 16, "bottleneck_dim": 8, "output_dim": 32},
    "crops": {"num_local": 2, "global_seconds": [0.6, 0.8], "local_seconds": [0.3, 0.5]},
    "encoder": {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8},
    "optimiser": {"name": "sgd", "lr": 0.005, "warmup_epochs": 1},  # a rate at which rounding does not grow
}
# What differs in them is set one by one, and then together.
SWITCHES = {
    "dino": {},
    "all views": {"koleo_views": "all"},
    "mean entropy": {"mean_entropy_weight": 1.0},
    "dimension": {"dimension_weight": 1.0},
    "variance and covariance": {
        "variance_weight": 1.0,
        "covariance_weight": 1.0,
        "variance_ramp_epochs": 8,
    },
    "sinkhorn": {"loss": {"target": "sinkhorn"}},
    "shared prototypes": {"head": {**CONFIG["head"], "shared_prototypes": True}},
    "clean teacher": {"teacher_sees": "clean"},
    "locals": {"student_sees": "locals", "koleo_views": "all"},
    "every term": {
        key: value for key, value in EVERY_TERM.items() if key not in ("optimiser", "epochs", "batch_size")
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    make_data(folder / "source", [f"s{i % 4}-u{i:02d}" for i in range(20)])
    make_train_set(folder / "source", folder / "train")
    return folder / "train"


def start(data, exp, processes, *options, config=CONFIG):
    dump_config(config, exp.parent / f"{exp.name}.yaml")
    command = [sys.executable, "-m", "pydino"]
    if processes > 1:
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(processes),
            "-m",
            "pydino",
        ]
    arguments = [
        "train",
        "--config",
        str(exp.parent / f"{exp.name}.yaml"),
        "--num-threads",
        "1",
        *options,
        str(data),
        str(exp),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def train(data, exp, processes, *options, config=CONFIG):
    process = start(data, exp, processes, *options, config=config)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def outcome(exp):
    weights = {
        f"{role}.{k}": v
        for role in ("teacher", "student")
        for k, v in load_file(exp / role / "model.safetensors").items()
    }
    lines = [json.loads(line) for line in (exp / "log.jsonl").read_text().splitlines()]
    return weights, lines


@pytest.mark.parametrize("switches", ["dino", "every term"])
def test_two_processes_with_micro_batches_train_as_one(data, tmp_path, switches):
    """Centre or Sinkhorn, terms across utterances, clipping, the means in the log: all over the global batch. Without
    micro-batches: test_train_every_method.py.
    """
    # babble mixes the utterances of a micro-batch
    compute = {"accumulation": 2}
    config = {**CONFIG, **SWITCHES[switches], "compute": compute, "augment": {"babble_probability": 0.0}}
    train(data, tmp_path / "one", 1, config=config)
    # synchronised norms that are computed again on the way back
    config["compute"] = {**compute, "activation_checkpointing": True}
    output = train(data, tmp_path / "two", 2, config=config)
    assert output.count("epoch 4 (step 5 of 5)") == 1  # only one of the processes logs
    (one, one_lines), (two, two_lines) = outcome(tmp_path / "one"), outcome(tmp_path / "two")
    for name in one:
        assert torch.allclose(one[name].float(), two[name].float(), atol=5e-5), name
    measured = {"utterances_per_second", "hours_per_second", "data_wait", "memory_gb"}
    for a, b in zip(one_lines, two_lines, strict=True):
        for name in a.keys() - measured:
            assert a[name] == pytest.approx(b[name], rel=1e-3), name
        assert a["embeddings"] == b["embeddings"]


def test_a_run_goes_on_with_another_number_of_processes(data, tmp_path):
    """SIGTERM, to those that read ahead too, saves and ends two; one goes on, with the same utterances, to
    the same end.
    """
    config = {**CONFIG, "epochs": 40, "checkpoint_steps": 1000000}
    train(data, tmp_path / "whole", 1, config=config)
    process = start(data, tmp_path / "cut", 2, "--data-workers", "1", config=config)
    while not (tmp_path / "cut/log.jsonl").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0 and "stopped by SIGTERM after step" in output, output
    assert "resuming" in train(data, tmp_path / "cut", 1, config=config)
    (whole, whole_lines), (cut, cut_lines) = outcome(tmp_path / "whole"), outcome(tmp_path / "cut")
    assert [line["step"] for line in whole_lines] == [line["step"] for line in cut_lines]
    for name in whole:
        assert torch.allclose(whole[name].float(), cut[name].float(), atol=2e-2), name


def method_and_sampler(data, micro_batches, koleo=0.1, switches="dino", **options):
    config = {
        **CONFIG,
        "koleo_weight": koleo,
        **SWITCHES[switches],
        "augment": {"babble_probability": 0.0},
        "compute": {"accumulation": micro_batches, **options},
    }
    config = config_from_dict(DinoConfig, config)
    torch.manual_seed(0)
    dataset, distributed = TrainingSet(data), DistributedContext()
    groups = config.view_groups
    sampler = ViewSampler(
        dataset,
        config.crops,
        groups,
        EpochSampler(dataset.hashes, 16, 0),
        0.01,
        0,
        accumulation=micro_batches,
    )
    views = ViewMaker(groups, config.normalisation, BANDS, 0.01, 0, "cpu")
    return Dino(Setup(config, BANDS, 10, 1.0, distributed)), views, sampler


@pytest.mark.parametrize("switches", SWITCHES)
@pytest.mark.parametrize("micro_batches", [2, 4, 8])
def test_micro_batches_add_up_to_the_large_batch(data, micro_batches, switches):
    """The same update, batch norm's statistics aside: here they are held fixed."""
    outcomes = []
    for number in (1, micro_batches):
        method, views, sampler = method_and_sampler(data, number, switches=switches)
        method.student.eval(), method.teacher.eval()
        parameters = parameters_of(method.parameter_groups())
        optimiser = make_optimiser(method.parameter_groups(), method.config.optimiser)
        for step in (3, 4):
            watched = update(method, views, optimiser, parameters, sampler[step], step, 0.1, 3.0)
        outcomes.append((method.state_dict(), watched))
    (whole, one), (parts, several) = outcomes
    for name in whole:
        assert torch.allclose(whole[name], parts[name], atol=1e-5), name
    for name in one:
        assert torch.allclose(one[name].float(), several[name].float(), rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 7), (4, 3, 5, 2)])
def test_synchronised_norm_of_one_process_is_batch_norm(shape, tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        ours, theirs = (
            SynchronisedNorm(3),
            (torch.nn.BatchNorm1d if len(shape) < 4 else torch.nn.BatchNorm2d)(3),
        )
        results = []
        for norm in (ours, theirs):
            torch.manual_seed(0)
            torch.nn.init.normal_(norm.weight)
            x = (torch.randn(shape) * 2 + 5).requires_grad_()
            y = norm(x)
            (y * torch.from_numpy(np.random.default_rng(0).normal(size=shape)).float()).sum().backward()
            results.append([y, x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
        for a, b in zip(*results, strict=True):
            assert torch.allclose(a, b, atol=1e-5)
    finally:
        torch.distributed.destroy_process_group()


def test_what_is_computed_twice_counts_once_in_running_statistics(data):
    """The outputs that terms need beforehand, and activations that are computed again on the way back."""
    states = []
    for compute, koleo, switches in (
        ({}, 0.0, "dino"),
        ({}, 0.1, "dino"),
        ({}, 0.0, "dimension"),
        ({}, 0.0, "sinkhorn"),
        ({"activation_checkpointing": True}, 0.0, "dino"),
    ):
        method, views, sampler = method_and_sampler(data, 2, koleo, switches, **compute)
        parameters = parameters_of(method.parameter_groups())
        optimiser = make_optimiser(method.parameter_groups(), method.config.optimiser)
        update(method, views, optimiser, parameters, sampler[3], 3, 0.1, 3.0)
        states.append(method.state_dict())
    plain, *ahead, again = states
    for state in ahead:
        assert all(
            torch.equal(plain[name], state[name]) for name in plain if "running" in name or "tracked" in name
        )
    assert all(torch.equal(plain[name], again[name]) for name in plain)
