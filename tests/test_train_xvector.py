"""The supervised x-vector on tiny archives: it learns what can be told apart, labels stay where they are."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_train_dino import BANDS, equal, log_lines, make_data, make_train_set
from test_train_dino import CONFIG as DINO_CONFIG

import pydino
from pydino.base import ConfigError, UserError, config_from_dict, dump_config, load_config
from pydino.cli import main
from pydino.data import EpochSampler, TrainingSet, ViewMaker, ViewSampler, read_labels
from pydino.kaldi import ArchiveWriter, read_table, write_table
from pydino.train import DistributedContext, Setup
from pydino.train.methods.xvector import Xvector, XvectorConfig

ROOT = Path(__file__).parent.parent
NAMES = [f"s{i % 4}-u{i:02d}" for i in range(20)]
CONFIG = {
    "method": "xvector",
    "epochs": 3,
    "batch_size": 8,
    "margin_warmup_epochs": 2,
    "crops": {"global_seconds": [0.6, 0.8]},
    "encoder": {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8},
    "optimiser": {"warmup_epochs": 1},
}


@pytest.fixture
def data(tmp_path):
    make_data(tmp_path / "source", NAMES)
    make_train_set(tmp_path / "source", tmp_path / "train")
    return tmp_path / "train"


@pytest.fixture
def labels(tmp_path):
    """Three labels, and an utterance more than there is."""
    write_table(
        tmp_path / "utt2label", {**{name: f"veiled{i % 3}" for i, name in enumerate(NAMES)}, "z": "unheard"}
    )
    return tmp_path / "utt2label"


def arguments(data, labels, exp, *options, config=CONFIG):
    dump_config(config, exp.parent / f"{exp.name}.yaml")
    return [
        "train",
        "--config",
        str(exp.parent / f"{exp.name}.yaml"),
        "--num-threads",
        "1",
        *options,
        "--labels",
        str(labels),
        str(data),
        str(exp),
    ]


def train(*where, config=CONFIG):
    return main(arguments(*where, config=config))


def weights(exp):
    """Of the whole classifier: the model folder has the encoder alone."""
    newest = sorted((exp / "checkpoints").glob("*.pt"))[-1]
    return torch.load(newest, weights_only=True)["method"]


def test_it_learns_classes_that_can_be_told_apart(tmp_path):
    """Four classes, told apart by which bands vary most; means are taken away."""
    names = [f"u{i:02d}" for i in range(48)]
    make_data(tmp_path / "source", names, silence=False)
    with ArchiveWriter(tmp_path / "source/f.ark", tmp_path / "source/feats.scp") as feats:
        for i, (name, frames) in enumerate(read_table(tmp_path / "source/utt2num_frames").items()):
            width = np.where(np.arange(BANDS) % 4 == i % 4, 2.0, 0.5)
            feats.write(
                name, (np.random.default_rng(i).normal(size=(int(frames), BANDS)) * width).astype(np.float32)
            )
    write_table(tmp_path / "labels", {name: f"class{i % 4}" for i, name in enumerate(names)})
    make_train_set(tmp_path / "source", tmp_path / "train")
    config = {
        **CONFIG,
        "epochs": 20,
        "batch_size": 16,
        "margin_warmup_epochs": 0,
        "optimiser": {"lr": 0.01},
        "encoder": {"name": "tdnn", "channels": 24, "pooled_channels": 24, "embedding_dim": 16},
        "augment": {
            "reverberation_probability": 0.0,
            "noise_probability": 0.0,
            "babble_probability": 0.0,
            "time_mask_frames": 0,
            "frequency_mask_bands": 0,
        },
    }
    assert train(tmp_path / "train", tmp_path / "labels", tmp_path / "exp", config=config) == 0
    lines = log_lines(tmp_path / "exp")
    assert lines[0]["accuracy"] < 0.6 and lines[-1]["accuracy"] > 0.95
    assert lines[-1]["loss"] < 0.3 * lines[0]["loss"]
    for name in ("embedding_spread", "effective_rank", "gradient_norm", "margin", "lr"):
        assert math.isfinite(lines[-1][name])


def method_and_sampler(data, labels, micro_batches=1, **options):
    config = {
        **CONFIG,
        "augment": {"babble_probability": 0.0},
        "compute": {"accumulation": micro_batches},
        **options,
    }
    config = config_from_dict(XvectorConfig, config)
    torch.manual_seed(0)
    dataset, groups = TrainingSet(data), config.view_groups
    sampler = ViewSampler(
        dataset,
        config.crops,
        groups,
        EpochSampler(dataset.hashes, config.batch_size, 0),
        0.01,
        0,
        accumulation=micro_batches,
    )
    views = ViewMaker(groups, config.normalisation, BANDS, 0.01, 0, "cpu")
    setup = Setup(config, BANDS, 10, 2.0, DistributedContext(), read_labels(data, [labels]))
    return Xvector(setup), views, sampler


def test_the_loss_is_the_cross_entropy_of_each_crop_with_the_label_of_its_utterance(data, labels):
    """One row after the other, in float64, labels looked up by name; the margin is half of the full one."""
    method, views, sampler = method_and_sampler(
        data, labels, crops={"num_global": 2, "num_local": 1, "local_seconds": [0.4, 0.4]}
    )
    method.student.eval()
    batch = sampler[2][0]
    loss, metrics = method.loss(batch, views(batch), 0)
    table = read_table(labels)
    key_of = {int(value): key for key, value in read_table(data / "utt2hash").items()}
    ranks = {}
    for value in sorted(key_of):
        ranks.setdefault(table[key_of[value]], len(ranks))
    wanted = [ranks[table[key_of[int(value)]]] for value in batch.hashes] * 3
    with torch.no_grad():
        x = torch.cat([method.student.encoder(view) for view in views(batch).student]).double().numpy()
    classes = method.student.output.weight.detach().double().numpy()
    terms, right = [], 0
    for row, label in zip(x, wanted, strict=True):
        angles = np.arccos(classes @ row / np.linalg.norm(classes, axis=1) / np.linalg.norm(row))
        right += angles.argmin() == label
        angles[label] += 0.15
        logits = 30 * np.cos(angles)
        terms.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label])
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-4)
    assert metrics["accuracy"].item() == pytest.approx(right / len(x))


def test_the_margin_rises_from_zero_and_the_log_says_where_it_is(data, labels, tmp_path):
    assert train(data, labels, tmp_path / "exp") == 0
    lines = log_lines(tmp_path / "exp")  # 20 / 8 steps an epoch; full after 5 steps
    assert [line["step"] for line in lines] == [3, 5, 8]
    assert [line["margin"] for line in lines] == pytest.approx([0.3 * 2 / 5, 0.3 * 4 / 5, 0.3])
    method, *_ = method_and_sampler(data, labels)
    assert method.schedule(0) == {"margin": 0}


def test_the_model_is_the_encoder_and_no_label_is_left_in_it(data, labels, tmp_path):
    assert train(data, labels, tmp_path / "exp") == 0
    model = pydino.load(tmp_path / "exp/model")
    assert (model.config.role, model.config.method, model.config.embedding_dim) == ("model", "xvector", 8)
    encoder = {
        f"student.encoder.{name}": value
        for name, value in load_file(tmp_path / "exp/model/model.safetensors").items()
    }
    trained = weights(tmp_path / "exp")
    assert trained.keys() - encoder.keys() == {"student.output.weight"} and equal(
        encoder, {name: trained[name] for name in encoder}
    )
    assert trained["student.output.weight"].shape == (3, 8)
    assert not [
        path for path in (tmp_path / "exp").rglob("*") if path.is_file() and b"veiled" in path.read_bytes()
    ]


def test_no_other_command_opens_the_labels(tmp_path):
    """Labels lie where they do in a recipe, beside the features; the directory is made, and DINO trained,
    without a look at them.
    """
    make_data(tmp_path / "source", NAMES, labels={"utt2emotion": {name: "sad" for name in NAMES}})
    opened, watching = [], [True]
    sys.addaudithook(
        lambda event, values: opened.append(str(values[0])) if event == "open" and watching else None
    )
    make_train_set(tmp_path / "source", tmp_path / "train")
    config, target = tmp_path / "dino.yaml", tmp_path / "train"
    dump_config({**DINO_CONFIG, "epochs": 1}, config)
    assert (
        main(["train", "--config", str(config), "--num-threads", "1", str(target), str(tmp_path / "dino")])
        == 0
    )
    seen = set(opened)
    assert train(target, tmp_path / "source/utt2spk", tmp_path / "exp") == 0
    watching.clear()
    assert str(tmp_path / "source/feats.scp") in seen and str(tmp_path / "train/utt2spk") in seen
    assert not seen & {str(tmp_path / "source" / name) for name in ("utt2spk", "spk2utt", "utt2emotion")}
    assert str(tmp_path / "source/utt2spk") in opened


def test_mistakes_in_the_labels_speak_and_leave_no_trace(data, labels, tmp_path, capsys):
    table = read_table(labels)
    for name, broken, message in (
        (
            "two",
            {key: table[key] for key in table if key not in NAMES[4:6]},
            f"2 of the 20 utterances of {data}, such as '{NAMES[4]}'",
        ),
        (
            "empty",
            {**table, NAMES[3]: ""},
            f"no label for 1 of the 20 utterances of {data}, such as '{NAMES[3]}'",
        ),
        ("one", dict.fromkeys(table, "same"), "one label, 'same'; there is nothing to tell apart"),
    ):
        write_table(tmp_path / name, broken)
        assert train(data, tmp_path / name, tmp_path / "exp") == 1
        assert message in capsys.readouterr().err
    assert train(data, tmp_path / "missing", tmp_path / "exp") == 1
    assert "missing: No such file" in capsys.readouterr().err
    assert train(tmp_path / "source", labels, tmp_path / "exp") == 1
    assert "steps/make_train_set.sh makes one" in capsys.readouterr().err
    assert not (tmp_path / "exp").exists()
    assert train(data, labels, tmp_path / "exp") == 0  # corrected, it starts in the same place


def test_labels_of_several_files(data, labels, tmp_path):
    table = read_table(labels)
    halves = [tmp_path / "one", tmp_path / "two"]
    write_table(halves[0], dict(list(table.items())[::2]))
    write_table(halves[1], table)
    one, several = read_labels(data, [labels]), read_labels(data, halves)
    assert (one.hashes == several.hashes).all() and (one.classes == several.classes).all()
    first = next(iter(table))
    write_table(halves[1], {**table, first: "another"})
    with pytest.raises(UserError, match=f"calls {first} 'another', and another of .* '{table[first]}'"):
        read_labels(data, halves)


def test_a_finished_run_is_left_alone_and_one_of_other_labels_refused(data, labels, tmp_path, capsys):
    assert train(data, labels, tmp_path / "exp") == 0
    before = weights(tmp_path / "exp")
    assert train(data, labels, tmp_path / "exp") == 0 and "up to date" in capsys.readouterr().err
    table = read_table(labels)
    write_table(labels, {**table, NAMES[0]: "veiled1"})
    assert train(data, labels, tmp_path / "exp") == 1
    error = capsys.readouterr().err
    assert f"holds another run: {labels} is different now" in error and "--force true" in error
    assert equal(before, weights(tmp_path / "exp"))
    assert train(data, labels, tmp_path / "exp", "--force", "true") == 0
    assert not equal(before, weights(tmp_path / "exp"))


def test_impossible_values_are_refused():
    for wrong, message in (
        ({"margin": 1.6}, "margin must be in"),
        ({"scale": 0}, "scale must be above 0"),
        ({"margin_warmup_epochs": -1}, "margin_warmup_epochs must not be negative"),
        ({"teacher_augment": {"gain_db": 1}}, "teacher_augment changes the views of a teacher"),
    ):
        with pytest.raises(ConfigError, match=message):
            config_from_dict(XvectorConfig, wrong)


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("egs/*/conf/xvector*.yaml")), ids=lambda path: path.parent.parent.name
)
def test_shipped_configurations_are_valid(path):
    config = load_config(XvectorConfig, path)
    assert config.crops.num_global == 1 and config.crops.num_local == 0


def test_a_collapse_is_said_in_plain_words(data, labels):
    method, *_ = method_and_sampler(data, labels)
    assert method.collapse_reason({"embedding_spread": 0.5, "accuracy": 0.0}) is None
    assert "collapse to a point" in method.collapse_reason({"embedding_spread": 0.001, "accuracy": 0.02})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
def test_gpu_trains_like_the_cpu(data, labels, tmp_path):
    assert train(data, labels, tmp_path / "cpu") == 0
    assert train(data, labels, tmp_path / "gpu", "--ngpu", "1") == 0
    cpu, gpu = weights(tmp_path / "cpu"), weights(tmp_path / "gpu")
    for name in cpu:
        assert torch.allclose(cpu[name].float(), gpu[name].float().cpu(), atol=5e-3), name
