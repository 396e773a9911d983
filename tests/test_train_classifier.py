"""Fine-tuning for a task on tiny archives: where it starts, what it leaves alone, how it ends, what it must
not see.
"""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_train_dino import BANDS, KILLER, make_data, make_train_set

import pydino.downstream.classifiers as classifiers
import pydino.downstream.finetuning as finetuning
import pydino.downstream.solved_head as solved_head
from pydino.base import UserError, config_from_dict, config_to_dict, dump_config
from pydino.cli import finetune, main, parser_of
from pydino.downstream import TaskConfig, read_task, write_task
from pydino.downstream.finetuning import first_head, tune_fold
from pydino.downstream.solved_head import solve_head
from pydino.downstream.tuning import DevelopmentPart, Tuning
from pydino.infer import load, read_front_end, save_model
from pydino.infer.classifier import load_classifier
from pydino.infer.training_audio import write_training_audio
from pydino.kaldi import ArchiveWriter, read_scp_objects, read_table, write_table
from pydino.models import build_encoder, resolve_encoder
from pydino.train import DistributedContext
from pydino.train.methods.classifier import TaskClassifier
from pydino.train.supervision import balanced_loss, class_weights, head_of, unweighted_average_recall
from pydino.train.tuning_config import TuningConfig

ROOT = Path(__file__).parent.parent
ENCODER = {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8}
CONFIG = {
    "method": "classifier",
    "epochs": 2,
    "batch_size": 8,
    "crops": {"global_seconds": [0.5, 0.6], "num_global": 1, "num_local": 0},
    "optimiser": {"lr": 0.003, "warmup_epochs": 0},
}
CLASSES = ["a", "b", "c"]
NAMES = [f"s{i % 6}-u{i:02d}" for i in range(36)]  # of six speakers


def write_features(source, names, kinds):
    """Classes are told apart by which bands vary most."""
    frames = read_table(source / "utt2num_frames")
    with ArchiveWriter(source / "f.ark", source / "feats.scp") as feats:
        for name in sorted(names):
            i = names.index(name)
            width = np.where(np.arange(BANDS) % len(CLASSES) == kinds[i], 1.5, 0.7)
            draw = np.random.default_rng(i).normal(size=(int(frames[name]), BANDS))
            feats.write(name, (draw * width).astype(np.float32))


def make_task(work, names=NAMES, kind="class", rng=0, hashes=None, shorten=None):
    """A task of one fold a speaker, a model, and the directory with the labels hidden."""
    kinds = np.random.default_rng(rng).integers(0, len(CLASSES), len(names))
    make_data(work / "data", names, silence=False)
    write_features(work / "data", names, kinds)
    make_train_set(work / "data", work / "task/train_set")
    if hashes:
        write_table(work / "task/train_set/utt2hash", hashes)
    labels = {
        name: CLASSES[k] if kind == "class" else f"{60 + 9 * k}" for name, k in zip(names, kinds, strict=True)
    }
    order = {name: i for i, name in enumerate(names)}
    speaker = {name: f"s{order[name] % 6}" for name in names}
    folds = {
        f"s{n}": {
            name: "test" if who == f"s{n}" else "dev" if who == f"s{(n + 1) % 6}" else "train"
            for name, who in speaker.items()
        }
        for n in range(6)
    }
    final = {name: "dev" if who == "s0" else "train" for name, who in speaker.items()}
    config = TaskConfig(
        "colour", kind, CLASSES if kind == "class" else [], "years" * (kind == "number"), folds=sorted(folds)
    )
    every = {name: name for name in names}
    tables = {
        "utt2label": labels,
        "utt2spk": speaker,
        "utt2unit": every,
        "utt2set": dict.fromkeys(names, "data"),
    }
    undeveloped = {name: "test" if who == "s0" else "train" for name, who in speaker.items()}
    write_task(work / "task", config, tables, {**folds, "final": final, "undeveloped": undeveloped})
    make_model(work / "model", read_front_end(work / "data", TuningConfig().normalisation))
    return work


def make_model(folder, front_end):
    torch.manual_seed(1)
    encoder = build_encoder(ENCODER, BANDS)
    for module in encoder.modules():  # running statistics as after a training
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    config = {
        "encoder": resolve_encoder(ENCODER),
        "embedding_dim": 8,
        "role": "teacher",
        "method": "dino",
        "seed": 0,
        "train_set": "elsewhere",
        "front_end": config_to_dict(front_end),
        "labels": "none",
    }
    save_model(folder, encoder, config, "# a model\n")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_task(tmp_path_factory.mktemp("task"))


def tuning(work, *trainings, statistics=None, scratch=False, seed=0):
    named = [
        (f"step{i}", config_from_dict(TuningConfig, {**CONFIG, **training}))
        for i, training in enumerate(trainings or [{}])
    ]
    return Tuning(
        read_task(work / "task"),
        {"data": work / "data"},
        work / "task/train_set",
        work / "model",
        named,
        "affine-then-all",
        seed,
        DistributedContext(),
        scratch,
        statistics,
    )


def outcome(folder, step=0):
    return json.loads((folder / f"step{step}/outcome.json").read_text())


def log_lines(folder, step=0):
    return [json.loads(line) for line in (folder / f"step{step}/log.jsonl").read_text().splitlines()]


def probe_outputs(made_by, fold, part="test"):
    """What the head says before any training, of whole utterances."""
    task = made_by.task
    train = sorted(task.part(fold, "train"), key=made_by.hashes.__getitem__)
    head = head_of(first_head(made_by, task, train, made_by.trainings[0][1]), 0)
    return made_by.outputs(made_by.classifier(made_by.model.encoder, head, 0.0), task.part(fold, part))


def assert_equal_but_for_the_temperature(outputs, expected):
    centred = [np.stack([of[key] - of[key].mean() for key in expected]) for of in (outputs, expected)]
    inverse = (centred[0] * centred[1]).sum() / (centred[1] ** 2).sum()
    np.testing.assert_allclose(centred[0], inverse * centred[1], atol=1e-5)
    assert 0.01 <= inverse <= 10


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_head_is_logistic_regression_as_scikit_learn_has_it(classes, monkeypatch):
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(90, 5)) * [1, 2, 3, 4, 5] + 7, draw.integers(0, classes, 90)
    x[:, 0] += 2 * y
    monkeypatch.setattr(solved_head, "_choose", lambda *_: 3)
    state = {k: torch.from_numpy(v).float() for k, v in solve_head(x, y, np.arange(90) % 6, classes).items()}
    head = head_of(state, 0)
    expected = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=classifiers.INVERSE_STRENGTHS[3], class_weight="balanced", tol=1e-8),
    ).fit(x, y)
    with torch.no_grad():
        posteriors = head(torch.from_numpy(x).float()).softmax(1).numpy()
    np.testing.assert_allclose(posteriors, expected.predict_proba(x), atol=2e-3)


def test_the_head_of_numbers_is_ridge_regression(monkeypatch):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(50, 4)) * [1, 5, 1, 2] + 3
    y = x @ [1.0, 0.2, 0.0, -1.0] + draw.normal(size=50)
    monkeypatch.setattr(solved_head, "_choose", lambda *_: 4)
    state = {k: torch.from_numpy(v).float() for k, v in solve_head(x, y, np.arange(50) % 5, 0).items()}
    expected = make_pipeline(StandardScaler(), Ridge(alpha=classifiers.PENALTIES[4])).fit(x, y)
    with torch.no_grad():
        numbers = head_of(state, 0)(torch.from_numpy(x).float())[:, 0].numpy()
    np.testing.assert_allclose(numbers, expected.predict(x), rtol=1e-4)


def test_a_class_without_a_training_utterance_is_never_answered():
    draw = np.random.default_rng(0)
    state = solve_head(draw.normal(size=(40, 3)), draw.choice([0, 2], 40), np.arange(40) % 4, 3)
    assert state["layers.weight"].shape == (3, 3) and state["layers.bias"][1] < -10


def test_all_classes_count_alike():
    targets = np.array([0] * 8 + [1] * 2)
    assert class_weights(targets, 3).tolist() == [10 / 16, 10 / 4, 0.0]
    log_posteriors = np.log(np.array([[0.9, 0.1]] * 10))
    expected = (-np.log(0.9) - np.log(0.1)) / 2
    assert balanced_loss(log_posteriors, targets) == pytest.approx(expected)
    assert unweighted_average_recall(log_posteriors, targets) == 0.5


def test_training_starts_at_the_probe_and_learns(made, tmp_path):
    made_by = tuning(made, {"trainable": ["embedding"]}, {"epochs": 6})
    outputs = tune_fold(made_by, "s0", tmp_path)
    dev = made_by.task.part("s0", "dev")
    at_start = probe_outputs(made_by, "s0", "dev")
    stacked = np.stack([at_start[key] for key in dev])
    assert outcome(tmp_path)["start"] == pytest.approx(
        balanced_loss(stacked, made_by.task.targets_of(dev)), rel=1e-5
    )
    assert outcome(tmp_path, 1)["start"] == pytest.approx(outcome(tmp_path)["value"], rel=1e-6)
    assert outcome(tmp_path, 1)["value"] < outcome(tmp_path)["start"]
    assert sorted(outputs) == made_by.task.part("s0", "test")
    assert log_lines(tmp_path, 1)[-1]["loss"] < log_lines(tmp_path)[0]["loss"]


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_frozen_parts_stay_bit_for_bit_with_their_running_statistics(made, tmp_path, batch_norm):
    tune_fold(tuning(made, {"trainable": ["embedding"], "batch_norm": batch_norm}), "undeveloped", tmp_path)
    before, after = (load_file(x / "model.safetensors") for x in (made / "model", tmp_path / "step0/model"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.startswith("embedding") for name in changed)
    assert ("embedding_norm.running_mean" in changed) == (batch_norm == "train")


def test_the_start_is_kept_where_training_only_does_harm(made, tmp_path):
    made_by = tuning(made, {"optimiser": {"lr": 3.0}, "epochs": 8, "patience": 2})
    outputs = tune_fold(made_by, "s1", tmp_path)
    assert outcome(tmp_path)["epoch"] == 0
    assert len(log_lines(tmp_path)) == 2  # epochs: it ends when it has not become better for so many
    expected = probe_outputs(made_by, "s1")
    assert_equal_but_for_the_temperature(outputs, expected)


@pytest.mark.parametrize("fold", ["s1", "undeveloped"])
def test_where_the_numbers_are_lost_the_start_is_kept(made, tmp_path, monkeypatch, fold, capsys):
    loss = TaskClassifier.loss

    def lost(self, batch, views, micro_step):
        value, metrics = loss(self, batch, views, micro_step)
        return value * math.nan, {**metrics, "loss": metrics["loss"] * math.nan}

    monkeypatch.setattr(TaskClassifier, "loss", lost)
    made_by = tuning(made, {"trainable": ["embedding"]}, {})
    outputs = tune_fold(made_by, fold, tmp_path / "fold")
    assert "not a number any more: the training ends" in capsys.readouterr().err
    assert outcome(tmp_path / "fold")["diverged"] and outcome(tmp_path / "fold", 1)["epoch"] == 0
    expected = probe_outputs(made_by, fold)
    assert_equal_but_for_the_temperature(outputs, expected)
    with pytest.raises(UserError, match="not a number any more; lower"):  # random weights are no result
        tune_fold(tuning(made, scratch=True), fold, tmp_path / "scratch")


def test_trainings_that_do_not_agree_are_refused(made, tmp_path, capsys):
    short = {"crops": {**CONFIG["crops"], "short": "mask"}}
    with pytest.raises(UserError, match="crops.short: repeat in step0, mask in step1; all trainings"):
        tuning(made, {}, short)
    with pytest.raises(UserError, match="hidden: 0 in step0, 4 in step1"):
        tuning(made, {}, {"hidden": 4})
    call = command(made, tmp_path / "out")
    dump_config({**CONFIG, **short}, tmp_path / "all.yaml")
    assert main(call) == 1 and "crops.short: repeat in affine, mask in all" in capsys.readouterr().err
    assert not (tmp_path / "out/log").exists()
    held = [
        DevelopmentPart(tuning(made, training), NAMES[:4], np.zeros(4), 0.5).digest
        for training in ({}, short, {})
    ]
    assert held[0] == held[2] != held[1]


@pytest.mark.parametrize(
    "meta, said",
    [
        ({"model": "fbank-stats-cmn"}, "these are of fbank-stats-cmn, not of fbank-stats"),
        ({"model": "fbank-stats", "keep_silence": True}, "silence was kept, and in the task"),
    ],
)
def test_statistics_of_another_kind_or_with_silence_are_refused(made, tmp_path, capsys, meta, said):
    folder = tmp_path / "xvectors"
    folder.mkdir()
    with ArchiveWriter(folder / "xvector.ark", folder / "xvector.scp") as archive:
        for name in NAMES:
            archive.write(name, np.ones(2 * BANDS, dtype=np.float32))
    dump_config(meta, folder / "meta.yaml")
    assert main(command(made, tmp_path / "out", "--statistics", str(folder))) == 1
    assert said in capsys.readouterr().err


def test_utterances_without_features_are_dropped_as_far_as_is_allowed(tmp_path, capsys):
    work = make_task(tmp_path / "work")
    scp = work / "data/feats.scp"
    scp.write_text("".join(scp.read_text().splitlines(keepends=True)[1:]))  # s0-u00
    make_train_set(work / "data", work / "task/train_set")
    outputs = tune_fold(tuning(work, {"epochs": 1}), "s0", tmp_path / "tested")
    assert len(outputs) == 5 and "s0-u00" not in outputs
    assert len(tune_fold(tuning(work, {"epochs": 1}), "s5", tmp_path / "dev")) == 6
    assert main(command(work, tmp_path / "out", "--max-drop", "0.01")) == 1
    assert "1 of 36 utterances of" in (said := capsys.readouterr().err) and "first: s0-u00" in said
    # nor do they hide that the model was trained on another test utterance
    hashes = {name: f"{number:016x}" for number, name in enumerate(NAMES)}
    write_table(work / "data/utt2audiohash", {name: hashes[name] for name in NAMES if name != "s0-u00"})
    write_training_audio(work / "model", np.array([int(hashes["s1-u01"], 16)], dtype=np.uint64))
    assert main(command(work, tmp_path / "out")) == 1
    assert "trained on 1 of the 36 test utterances of this task" in capsys.readouterr().err
    write_table(work / "task/utt2set", dict.fromkeys(NAMES, "data") | {"s1-u01": "other"})
    assert main(command(work, tmp_path / "out")) == 1
    assert "its utterances are also of other; give that DATA, too" in capsys.readouterr().err


def test_a_fold_is_redone_for_what_it_depends_on(tmp_path):
    """And for nothing else: what is counted, in which order the folds are, another fold."""
    work = make_task(tmp_path / "work")
    args = parser_of("finetune", finetune).parse_args(command(work, tmp_path / "out")[1:])
    yaml, digests = (work / "task/task.yaml").read_text(), [finetune._fold_step(args, "s0").digest]
    for old, new in (
        ("keep_silence: false", "keep_silence: true"),
        ("kind: class", "kind: number"),
        ("average_over: utterance", "average_over: subject"),
    ):
        assert old in yaml
        (work / "task/task.yaml").write_text(yaml.replace(old, new))
        digests.append(finetune._fold_step(args, "s0").digest)
    (work / "task/task.yaml").write_text(yaml)
    for name in ("fold.s1", "fold.s0", "utt2spk", "utt2label"):
        table = work / "task" / name
        text = table.read_text()
        table.write_text(text + "another x\n")
        digests.append(finetune._fold_step(args, "s0").digest)
        table.write_text(text)
    first, kept, kind, counted, other, *own = digests
    assert first == counted == other and len({first, kept, kind, *own}) == 6


def test_a_training_part_of_one_class_is_refused(made, tmp_path):
    made_by = tuning(made)
    one = {
        key: "a" if key in made_by.task.part("s0", "train") else label
        for key, label in made_by.task.labels.items()
    }
    made_by.task = replace(made_by.task, labels=one)
    with pytest.raises(UserError, match="of the class a; a classifier needs two classes or more"):
        tune_fold(made_by, "s0", tmp_path)


def test_a_mean_with_the_start_is_a_candidate(made, tmp_path):
    made_by = tuning(made, {"epochs": 3, "average_with_start": [0.5], "optimiser": {"lr": 0.02}})
    plain = tuning(made, {"epochs": 3, "optimiser": {"lr": 0.02}})
    found = []
    for name, one in (("with", made_by), ("without", plain)):
        tune_fold(one, "s2", tmp_path / name)
        found.append(outcome(tmp_path / name))
    assert found[0]["value"] <= found[1]["value"] and found[0]["share_of_start"] in (0.0, 0.5)


def test_the_training_path_never_sees_labels_of_the_test_part(made, tmp_path):
    first = tuning(made)
    other = tuning(made)
    hidden = dict.fromkeys(first.task.part("s3", "test"), "no label")
    other.task = replace(first.task, labels={**first.task.labels, **hidden})
    assert same(tune_fold(first, "s3", tmp_path / "a"), tune_fold(other, "s3", tmp_path / "b"))


def test_names_and_their_order_have_no_influence(made, tmp_path):
    renamed = [f"z{(7 * i) % 36:02d}" for i in range(36)]
    hashes = read_table(made / "task/train_set/utt2hash")
    work = make_task(
        tmp_path / "other",
        renamed,
        hashes={new: hashes[old] for new, old in zip(renamed, NAMES, strict=True)},
    )
    a = tune_fold(tuning(made), "s0", tmp_path / "a")
    b = tune_fold(tuning(work), "s0", tmp_path / "b")
    assert same(a, {old: b[new] for new, old in zip(renamed, NAMES, strict=True) if new in b})


def test_vectors_beside_the_embedding_are_those_of_the_utterance(made, tmp_path):
    """They give the class away: who looks them up in another order learns nothing from them."""
    task = read_task(made / "task")
    vectors = {key: np.eye(3, dtype=np.float32)[target] * 5 + 100 for key, target in task.targets.items()}
    frozen = {"frames": 0.0, "embedding": 0.0}
    training = {"epochs": 8, "head": "random", "lr_scales": frozen, "optimiser": {"lr": 0.3}}
    made_by = tuning(made, training, statistics=vectors)
    tune_fold(made_by, "s0", tmp_path / "random")
    assert log_lines(tmp_path / "random")[-1]["accuracy"] > 0.8
    made_by = tuning(made, statistics=vectors)
    outputs = tune_fold(made_by, "s0", tmp_path / "probe")
    assert all(outputs[key].argmax() == task.targets[key] for key in outputs)
    with pytest.raises(UserError, match="no vector for"):
        tune_fold(tuning(made, statistics={}.fromkeys(NAMES[:3], np.ones(3))), "s0", tmp_path / "few")


def test_numbers_are_saved_in_their_unit(tmp_path):
    work = make_task(tmp_path / "work", kind="number")
    made_by = tuning(work, {"optimiser": {"lr": 3.0}})  # the start is kept
    outputs = tune_fold(made_by, "s0", tmp_path / "fold")
    expected = probe_outputs(made_by, "s0")
    for key in expected:
        np.testing.assert_allclose(outputs[key], expected[key], rtol=1e-4)
    assert 55 < np.mean(list(outputs.values())) < 85
    with pytest.raises(UserError, match="select: uar in .* is for classes"):
        tune_fold(tuning(work, {"select": "uar"}), "s0", tmp_path / "wrong")


def test_without_a_development_part_the_last_weights_are_kept(made, tmp_path):
    tune_fold(tuning(made), "undeveloped", tmp_path)
    assert round(outcome(tmp_path)["epoch"]) == 2 and not outcome(tmp_path)["judged_by"]
    a, b = (load_file(x / "model.safetensors") for x in (made / "model", tmp_path / "step0/model"))
    assert not torch.equal(a["embedding.weight"], b["embedding.weight"])


def test_posteriors_of_the_test_part_have_the_temperature_of_the_development_part(
    made, tmp_path, monkeypatch
):
    made_by = tuning(made, {"epochs": 1})
    monkeypatch.setattr(finetuning, "fit_temperature", lambda *_: 1.0)
    plain = tune_fold(made_by, "s0", tmp_path / "plain")
    given = []
    monkeypatch.setattr(finetuning, "fit_temperature", lambda *given_: given.append(given_) or 2.5)
    scaled = tune_fold(made_by, "s0", tmp_path / "scaled")
    (stacked, truth, _), dev = given[0], made_by.part("s0", "dev")
    assert len(stacked) == len(dev) and sorted(truth) == sorted(made_by.task.targets_of(dev))
    for key, outputs in plain.items():
        expected = torch.from_numpy(outputs / 2.5).log_softmax(0).numpy()
        np.testing.assert_allclose(scaled[key], expected, atol=1e-6)


def test_the_final_fold_leaves_a_classifier(made, tmp_path):
    made_by = tuning(made)
    assert tune_fold(made_by, "final", tmp_path) == {}
    classifier = load_classifier(tmp_path / "classifier")
    assert classifier.config.classes == CLASSES and classifier.config.back_end == "affine-then-all"
    assert "research only" in classifier.config.note and "calibrated on 6 utt" in classifier.config.note
    assert classifier.config.note in (tmp_path / "classifier/README.md").read_text()
    given = load(tmp_path / "step0/model").encoder.state_dict()
    assert all(torch.equal(given[k], v) for k, v in classifier.model.encoder.state_dict().items())


def command(made, out, *options):
    for name, training in (("affine", {"trainable": ["embedding"]}), ("all", {})):
        dump_config({**CONFIG, **training, "checkpoint_steps": 1}, out.parent / f"{name}.yaml")
    configs = [word for name in ("affine", "all") for word in ("--config", str(out.parent / f"{name}.yaml"))]
    places = [str(made / "task"), str(made / "model"), str(made / "data"), str(out)]
    return ["finetune", *configs, *options, *places]


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(made, tmp_path):
    one_fold = ("--fold", "s0", "--part", "1/1")
    assert main(command(made, tmp_path / "whole", *one_fold)) == 0
    for saves in (4, 4):  # in the first training, then in the second
        done = subprocess.run(
            [sys.executable, "-c", KILLER, *command(made, tmp_path / "cut", *one_fold)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "SAVES": str(saves)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert main(command(made, tmp_path / "cut", *one_fold)) == 0
    found = [dict(read_scp_objects(tmp_path / name / "fold_s0/outputs.scp")) for name in ("whole", "cut")]
    assert same(*found)
    for name in ("affine", "all"):
        kept = [
            json.loads((tmp_path / x / "fold_s0" / name / "outcome.json").read_text())
            for x in ("whole", "cut")
        ]
        assert kept[0] == kept[1]


def test_two_processes_train_as_one(made, tmp_path):
    call = ("--fold", "s0", "--part", "1/1", "--set", "epochs=1")
    assert main(command(made, tmp_path / "one", *call)) == 0
    done = subprocess.run(
        [*(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "pydino")]
        + command(made, tmp_path / "two", *call),
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in ("affine", "all"):
        logs = [(tmp_path / x / "fold_s0" / name / "log.jsonl").read_text() for x in ("one", "two")]
        one, two = (json.loads(log.splitlines()[-1]) for log in logs)
        for key in ("loss", "dev_loss", "accuracy"):
            assert one[key] == pytest.approx(two[key], rel=1e-4), (name, key)


def test_a_call_trains_the_folds_in_jobs_measures_them_and_does_nothing_twice(made, tmp_path):
    out = tmp_path / "exp/x/seed0/transfer/colour/affine-then-all"
    out.parent.mkdir(parents=True)
    call = [ROOT / "steps/finetune.sh", *command(made, out, "--nj", "2")[1:]]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{out}: fold final is done, " in done.stderr and "is done, 7 of 7" in done.stderr
    results = json.loads((out / "colour.result.json").read_text())
    assert {line["backend"] for line in results} == {"affine-then-all"}
    assert results[0]["n"] == 36 and results[0]["system"].endswith("x/seed0")
    assert len(dict(read_scp_objects(out / "fold_s0/outputs.scp"))) == 6
    assert load_classifier(out / "fold_final/classifier").config.task == "colour"
    assert not list(out.glob("fold_*/*/checkpoints"))
    for missing in (out / "fold_s1/outputs.ark", out / "colour.result.json"):
        missing.unlink()
    again = subprocess.run(call, capture_output=True, text=True)
    assert again.returncode == 0 and "1 fold in 1 job " in again.stderr
    assert "fold s1 is done, 1 of 1" in again.stderr and "fold s0" not in again.stderr
    third = subprocess.run(call, capture_output=True, text=True)
    assert "up to date" in third.stderr and len(third.stderr.splitlines()) == 1


def test_mistakes_are_found_before_the_jobs(made, tmp_path, capsys):
    dump_config({**CONFIG, "method": "xvector"}, tmp_path / "wrong.yaml")
    places = [str(made / "task"), str(made / "model"), str(made / "data"), str(tmp_path / "out")]
    assert main(["finetune", "--config", str(tmp_path / "wrong.yaml"), *places]) == 1
    assert "fine-tuning takes method: classifier" in capsys.readouterr().err
    assert main(command(made, tmp_path / "out", "--fold", "s9")) == 1
    assert "has no fold 's9'" in capsys.readouterr().err
    dump_config(CONFIG, tmp_path / "right.yaml")
    assert (
        main(
            [
                "train",
                "--config",
                str(tmp_path / "right.yaml"),
                str(made / "task/train_set"),
                str(tmp_path / "exp"),
            ]
        )
        == 1
    )
    assert "steps/finetune.sh" in capsys.readouterr().err
    with pytest.raises(Exception, match="did you mean 'embedding'"):
        config_from_dict(TuningConfig, {"method": "classifier", "lr_scales": {"embeding": 0.1}})
