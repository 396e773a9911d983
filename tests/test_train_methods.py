"""Methods as a registry, what a method may read, where a run starts from, and what of it is trained."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_train_dino import CONFIG, data, equal, log_lines, make_data, make_train_set, train  # noqa: F401
from test_train_xvector import CONFIG as XVECTOR

import pydino.train.methods as registry
from pydino.base import ConfigError, UserError, config_from_dict, dump_config, read_yaml
from pydino.cli import main
from pydino.kaldi import read_table, write_table
from pydino.train import DistributedContext, ParameterGroup, Setup, find_method, load_training_config
from pydino.train.loop import make_optimiser
from pydino.train.methods.dino import Dino, DinoConfig
from pydino.train.pipeline import fitting_batch_size

ROOT = Path(__file__).parent.parent
KNOWN = ", ".join(registry.method_names())


def run_verb(data, exp, config, *options):
    dump_config(config, exp.parent / f"{exp.name}.yaml")
    arguments = ["--config", str(exp.parent / f"{exp.name}.yaml"), "--num-threads", "1", *options]
    return main(["train", *arguments, str(data), str(exp)])


def label_file(data, path, number=3):
    write_table(path, {key: f"l{i % number}" for i, key in enumerate(read_table(data / "utt2hash"))})
    return path


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"method": "dyno"}, f"unknown method 'dyno' (did you mean 'dino'?); known: {KNOWN}"),
        ({"method": None}, f"names no method; begin it with 'method: NAME', one of {KNOWN}"),
    ],
)
def test_a_missing_or_unknown_method_is_an_error_that_names_the_known_ones(
    data, tmp_path, capsys, change, complaint
):
    config = {key: value for key, value in ({**CONFIG, **change}).items() if value is not None}
    assert run_verb(data, tmp_path / "exp", config) == 1
    error = capsys.readouterr().err
    assert complaint in error and "exp.yaml" in error


def test_without_a_configuration_the_method_comes_from_an_override(data, tmp_path, capsys):
    assert main(["train", str(data), str(tmp_path / "exp")]) == 1
    assert "give --config" in capsys.readouterr().err
    method, config = load_training_config(None, ["method=xvector", "margin=0.1"])
    assert method.roles == ("model",) and method.reads_labels and config.margin == 0.1


@pytest.mark.parametrize(
    "name, roles, labels", [("dino", ("teacher", "student"), False), ("xvector", ("model",), True)]
)
def test_what_a_method_leaves_and_reads_is_literal_in_its_file(name, roles, labels):
    """Programs that do not import PyTorch read it there."""
    import ast

    path = ROOT / f"pydino/train/methods/{name}.py"
    found = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id in ("ROLES", "READS_LABELS"):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    assert found == {"ROLES": roles, "READS_LABELS": labels}
    method = find_method(name)
    assert (method.roles, method.reads_labels) == (roles, labels)


def test_the_registry_imports_no_method_before_it_is_asked_for():
    code = "import sys, pydino.train; sys.exit(any('methods.' in name for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_labels_are_refused_where_they_are_not_read_and_required_where_they_are(data, tmp_path, capsys):
    labels = label_file(data, tmp_path / "utt2label")
    assert run_verb(data, tmp_path / "dino", CONFIG, "--labels", str(labels)) == 1
    assert "the method dino trains without labels, and must not be given any" in capsys.readouterr().err
    assert run_verb(data, tmp_path / "xvector", XVECTOR) == 1
    assert "the method xvector trains on labels: give --labels UTT2LABEL" in capsys.readouterr().err
    assert not (tmp_path / "dino").exists() and not (tmp_path / "xvector").exists()


def test_the_configuration_beside_the_run_names_the_method_and_trains_the_same_again(data, tmp_path):
    assert run_verb(data, tmp_path / "exp", CONFIG) == 0
    written = read_yaml(tmp_path / "exp/config.yaml")
    assert (written["method"], written.pop("name"), written.pop("seed")) == ("dino", "dino-koleo", 0)
    assert config_from_dict(DinoConfig, written) == config_from_dict(DinoConfig, CONFIG)
    assert read_yaml(tmp_path / "exp/teacher/config.yaml")["method"] == "dino-koleo"


def test_a_model_of_one_run_is_where_another_starts(data, tmp_path, capsys):
    labels = str(label_file(data, tmp_path / "utt2label"))
    assert run_verb(data, tmp_path / "first", {**CONFIG, "epochs": 1}) == 0
    teacher = load_file(tmp_path / "first/teacher/model.safetensors")
    still = {**XVECTOR, "epochs": 1, "trainable": [], "encoder": CONFIG["encoder"], "on_collapse": "warn"}
    init = ("--init", str(tmp_path / "first/teacher"), "--labels", labels)
    assert run_verb(data, tmp_path / "second", still, *init) == 0
    assert equal(teacher, load_file(tmp_path / "second/model/model.safetensors"))
    # Another model to start from is another run, and one of another encoder none at all.
    student = ("--init", str(tmp_path / "first/student"), "--labels", labels)
    assert run_verb(data, tmp_path / "second", still, *student) == 1
    assert "option init was" in capsys.readouterr().err
    wide = {**still, "encoder": {**CONFIG["encoder"], "channels": 16}}
    assert run_verb(data, tmp_path / "third", wide, *init) == 1
    error = capsys.readouterr().err
    assert "--init: the model is of another encoder: " in error and "(8, " in error and "(16, " in error
    assert run_verb(data, tmp_path / "third", still, "--init", str(tmp_path), "--labels", labels) == 1
    assert "is no model folder" in capsys.readouterr().err


def test_the_labels_that_weights_were_trained_on_go_on_to_whatever_starts_from_them(data, tmp_path):
    """--init does not make a model trained on labels one that was trained without."""
    dino = {**CONFIG, "epochs": 1, "average_snapshots": 1, "snapshot_epochs": 1, "on_collapse": "warn"}
    xvector = {**XVECTOR, "epochs": 1, "encoder": CONFIG["encoder"], "on_collapse": "warn"}
    given = ("--labels", str(label_file(data, tmp_path / "utt2label")))

    def labels(exp):
        return {path.parent.name: read_yaml(path)["labels"] for path in tmp_path.glob(f"{exp}/*/config.yaml")}

    assert run_verb(data, tmp_path / "free", dino) == 0
    assert labels("free") == {"teacher": "none", "student": "none", "teacher_average": "none"}
    assert run_verb(data, tmp_path / "free2", dino, "--init", str(tmp_path / "free/teacher")) == 0
    assert set(labels("free2").values()) == {"none"}
    assert run_verb(data, tmp_path / "taught", xvector, *given, "--init", str(tmp_path / "free/teacher")) == 0
    assert labels("taught") == {"model": "train"}
    assert run_verb(data, tmp_path / "after", dino, "--init", str(tmp_path / "taught/model")) == 0
    assert labels("after") == {"teacher": "train", "student": "train", "teacher_average": "train"}
    assert (
        "started from weights that were trained on labels"
        in (tmp_path / "after/teacher/README.md").read_text()
    )
    assert {read_yaml(path)["labels"] for path in tmp_path.glob("after/snapshots/*/*/config.yaml")} == {
        "train"
    }
    assert run_verb(data, tmp_path / "later", dino, "--init", str(tmp_path / "after/student")) == 0
    assert set(labels("later").values()) == {"train"}
    # A folder that was made before this was recorded is not called free of labels.
    config = read_yaml(tmp_path / "free/teacher/config.yaml")
    del config["labels"]
    dump_config(config, tmp_path / "free/teacher/config.yaml")
    assert run_verb(data, tmp_path / "old", dino, "--init", str(tmp_path / "free/teacher")) == 0
    assert set(labels("old").values()) == {"unknown"}


@pytest.mark.parametrize("config", [CONFIG, XVECTOR], ids=["dino", "xvector"])
@pytest.mark.parametrize("trainable", [["embedding"], ["frames", "pooling"], []])
def test_what_is_not_trained_does_not_move_and_neither_do_its_running_statistics(
    data, tmp_path, config, trainable
):
    labels = ("--labels", str(label_file(data, tmp_path / "utt2label"))) if config is XVECTOR else ()
    small = {**config, "epochs": 1, "encoder": CONFIG["encoder"], "optimiser": {"warmup_epochs": 0}}
    assert run_verb(data, tmp_path / "exp", {**small, "trainable": trainable}, *labels) == 0
    init = ("--init", str(tmp_path / "exp" / find_method(config["method"]).roles[0]))
    before = load_file(f"{init[1]}/model.safetensors")
    assert run_verb(data, tmp_path / "tuned", {**small, "trainable": trainable}, *labels, *init) == 0
    for role in find_method(config["method"]).roles:
        after = load_file(tmp_path / f"tuned/{role}/model.safetensors")
        frozen = {name for name in after if name.split(".")[0] not in parts_of(trainable)}
        assert all(torch.equal(before[name], after[name]) for name in frozen)
        learnt = [name for name in after.keys() - frozen if name.endswith(("weight", "running_mean"))]
        assert all(not torch.equal(before[name], after[name]) for name in learnt)
    steps = [line["step"] for line in log_lines(tmp_path / "tuned")]
    assert steps and bool(frozen) and bool(learnt) == bool(trainable)


def parts_of(names):
    """First words of the state dict of a TDNN, by part."""
    words = {"frames": {"frames"}, "pooling": set(), "embedding": {"embedding", "embedding_norm"}}
    return set().union(*(words[name] for name in names))


def test_frozen_random_weights_are_warned_of(data, tmp_path, capsys):
    config = {**CONFIG, "epochs": 1}
    warning = "trainable: embedding of the encoder: the other parts keep their random weights"
    for name, options, warned in (
        ("whole", (), False),
        ("random", ("--set", "trainable=[embedding]"), True),
        ("from", ("--set", "trainable=[embedding]", "--init", str(tmp_path / "whole/teacher")), False),
    ):
        capsys.readouterr()
        assert run_verb(data, tmp_path / name, config, *options) == 0
        assert (warning in capsys.readouterr().err) == warned


def test_an_unknown_part_is_named_with_those_there_are(data, tmp_path, capsys):
    assert run_verb(data, tmp_path / "exp", {**CONFIG, "trainable": ["frame"]}) == 1
    error = capsys.readouterr().err
    assert (
        "no part 'frame' (did you mean 'frames'?); known: all, or some of frames, pooling, embedding" in error
    )


def test_groups_have_learning_rates_and_weight_decays_of_their_own():
    first, second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    groups = [
        ParameterGroup(list(first.parameters())),
        ParameterGroup(list(second.parameters()), lr_scale=0.1, weight_decay=0.0),
    ]
    found = make_optimiser(groups, DinoConfig().optimiser).param_groups
    assert [group["lr_scale"] for group in found] == [1.0, 1.0, 0.1, 0.1]
    assert [group["weight_decay"] for group in found] == [0.01, 0.0, 0.0, 0.0]


def test_a_loss_that_compares_the_batch_refuses_to_split_it():
    class Contrastive(Dino):
        splits_batch = False

    config = config_from_dict(DinoConfig, {**CONFIG, "compute": {"accumulation": 2}})
    with pytest.raises(UserError, match="cannot be split: set compute.accumulation to 1"):
        Contrastive(Setup(config, 12, 10, 1.0, DistributedContext()))


def test_fewer_utterances_than_a_batch_takes_are_one_batch_and_a_line_says_so(data, tmp_path, capsys):
    assert train(data, tmp_path / "exp", "--set", "batch_size=64") == 0
    assert "batch_size: 64 is more than the 14 utterances" in capsys.readouterr().err
    assert [line["step"] for line in log_lines(tmp_path / "exp")] == [1, 2, 3]
    assert read_yaml(tmp_path / "exp/config.yaml")["batch_size"] == 14
    assert train(data, tmp_path / "exp", "--set", "batch_size=64") == 0
    assert "is finished and up to date" in capsys.readouterr().err


def test_the_batch_is_as_large_as_the_data_allow():
    assert [fitting_batch_size(64, n, shares) for n, shares in ((64, 1), (15, 1), (15, 2), (15, 4))] == [
        64,
        15,
        14,
        12,
    ]
    for utterances, shares in ((1, 1), (7, 4), (0, 1)):
        with pytest.raises(UserError, match="use more recordings"):
            fitting_batch_size(64, utterances, shares)


NEW_METHOD = '''
"""Every utterance's embedding has a mean of 1: no use, but a method."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from pydino.train.config import TrainingConfig
from pydino.train.method import Method
from pydino.train.monitors import MOMENTS, moments

ROLES = ("model",)
READS_LABELS = False


@dataclass
class Config(TrainingConfig):
    method: Literal["unit-mean"] = "unit-mean"


class Network(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, view):
        return self.encoder(view)


class UnitMean(Method):
    Config = Config
    roles, reads_labels = ROLES, READS_LABELS

    def __init__(self, setup):
        super().__init__(setup)
        self.set_student(Network(self.new_encoder()))

    def loss(self, batch, views, micro_step):
        with self.precision():
            x = self.network(views.group("global"))
        loss = (x.float().mean(1) - 1).square().mean()
        return loss, {"loss": loss.detach(), MOMENTS: moments(x.detach()[: len(batch.hashes)])}
'''


def test_a_method_is_one_file(data, tmp_path, monkeypatch):
    """It is found by its name, and nothing else is edited."""
    (tmp_path / "unit_mean.py").write_text(NEW_METHOD)
    monkeypatch.setattr(registry, "_FOLDER", tmp_path)
    monkeypatch.setattr(registry, "__path__", [str(tmp_path)])
    config = {key: CONFIG[key] for key in ("epochs", "batch_size", "encoder", "crops", "on_collapse")}
    assert run_verb(data, tmp_path / "exp", {"method": "unit-mean", **config}) == 0
    lines = log_lines(tmp_path / "exp")
    assert lines[-1]["loss"] < lines[0]["loss"] and np.isfinite(lines[-1]["embedding_spread"])
    assert (tmp_path / "exp/model/model.safetensors").exists()
    with pytest.raises(ConfigError, match="known: unit-mean"):
        find_method("dino")


def test_a_method_is_told_the_exact_epoch_and_the_log_rounds_it(data, tmp_path, monkeypatch):
    """14 utterances in batches of 6: an epoch is 7 / 3 steps. Rounded, 2.996 epochs would be a third."""
    told = f"""
    def evaluate(self, epoch, last):
        with open({str(tmp_path / "told")!r}, "a") as stream:
            stream.write(f"{{epoch!r}}\\n")
        return {{}}, last
"""
    (tmp_path / "told_mean.py").write_text(NEW_METHOD.replace("unit-mean", "told-mean") + told)
    monkeypatch.setattr(registry, "_FOLDER", tmp_path)
    monkeypatch.setattr(registry, "__path__", [str(tmp_path)])
    config = {key: CONFIG[key] for key in ("epochs", "batch_size", "encoder", "crops", "on_collapse")}
    assert run_verb(data, tmp_path / "exp", {"method": "told-mean", **config}) == 0
    exact = [float(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert exact == [0.0, *(step / (14 / 6) for step in (3, 5, 7))]
    logged = {line["epoch"] for line in log_lines(tmp_path / "exp")}
    assert {1.29, 2.14, 3.0} <= logged
