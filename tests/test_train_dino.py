"""Training on tiny archives: exact resume, labels that cannot leak, refusals, alarms."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pydino.audio.augment import AugmentConfig
from pydino.base import ConfigError, config_from_dict, config_to_dict, dump_config
from pydino.cli import main
from pydino.data import TrainingSet
from pydino.kaldi import ArchiveWriter, read_table, write_table
from pydino.ssl import DinoLossConfig
from pydino.train.config import NOT_AUGMENTED, OptimiserConfig
from pydino.train.method import ParameterGroup
from pydino.train.methods.dino import DinoConfig
from pydino.train.monitors import collapse, moments, spread_of_moments
from pydino.train.schedules import cosine, learning_rate, ramp, teacher_temperature

ROOT = Path(__file__).parent.parent
BANDS = 12
CONFIG = {
    "method": "dino",
    "epochs": 3,
    "batch_size": 6,
    "koleo_weight": 0.1,
    "on_collapse": "warn",
    "head": {"hidden_dim": 16, "bottleneck_dim": 8, "output_dim": 32},
    "crops": {"num_local": 2, "global_seconds": [0.6, 0.8], "local_seconds": [0.3, 0.5]},
    "encoder": {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8},
    "optimiser": {"warmup_epochs": 1},
}
# SDPN: one clean global view for the teacher, augmented local ones for the student, and one set of prototypes.
SDPN = {
    **CONFIG,
    "head": {**CONFIG["head"], "batch_norm": True, "norm_before": True, "shared_prototypes": True},
    "crops": {**CONFIG["crops"], "num_global": 1, "num_local": 3},
    "loss": {"target": "sinkhorn", "teacher_temperature": 0.025},
    "teacher_sees": "clean",
    "student_sees": "locals",
    "koleo_views": "all",
    "mean_entropy_weight": 1.0,
}
EVERY_TERM = {
    **SDPN,
    "dimension_weight": 0.3,
    "variance_weight": 1.0,
    "covariance_weight": 0.2,
    "variance_ramp_epochs": 2,
}
# A program: pydino, killed after as many checkpoints as SAVES says, two by default.
KILLER = (
    "import os, sys, pydino.train.loop as loop\n"
    "save, count = loop.save_checkpoint, []\n"
    "def save_then_die(*arguments):\n"
    "    count.append(save(*arguments))\n"
    "    if len(count) == int(os.environ.get('SAVES', 2)): os.kill(os.getpid(), 9)\n"
    "loop.save_checkpoint = save_then_die\n"
    "from pydino.cli import main\n"
    "sys.exit(main(sys.argv[1:]))\n"
)


def make_data(folder, names, silence=True, labels=None):
    """A data directory of random features; what utterance i sounds like depends on i alone, not on its
    name.
    """
    order = sorted(range(len(names)), key=lambda i: names[i])
    (folder / "conf").mkdir(parents=True)
    frames = {}
    with (
        ArchiveWriter(folder / "f.ark", folder / "feats.scp") as feats,
        ArchiveWriter(folder / "v.ark", folder / "vad.scp") as vad,
    ):
        for i in order:
            draw = np.random.default_rng(i)
            length = 90 + 7 * i
            frames[names[i]] = length
            feats.write(names[i], draw.normal(size=(length, BANDS)).astype(np.float32))
            voiced = (draw.random(length) < 0.8) if silence else np.ones(length)
            vad.write(names[i], voiced.astype(np.float32))
    write_table(folder / "utt2num_frames", frames)
    write_table(folder / "utt2spk", {name: name.split("-")[0] for name in names})
    (folder / "conf/fbank.yaml").write_text(f"num_mel_bins: {BANDS}\nsample_frequency: 16000\n")
    (folder / "conf/vad.yaml").write_text("vad_energy_threshold: 5.5\n")
    for name, table in (labels or {}).items():
        write_table(folder / name, table)


def make_train_set(source, target, *options):
    assert main(["make-train-set", "--min-duration", "0.5", *options, str(source), str(target)]) == 0


@pytest.fixture
def data(tmp_path):
    make_data(tmp_path / "source", [f"s{i % 4}-u{i:02d}" for i in range(14)])
    make_train_set(tmp_path / "source", tmp_path / "train")
    return tmp_path / "train"


def train(data, exp, *options, config=CONFIG):
    path = exp.parent / f"{exp.name}.yaml"
    dump_config(config, path)
    return main(["train", "--config", str(path), "--num-threads", "1", *options, str(data), str(exp)])


def run_python(code, arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True
    )


def weights(exp):
    files = {role: load_file(exp / role / "model.safetensors") for role in ("teacher", "student")}
    return {f"{role}.{name}": value for role, file in files.items() for name, value in file.items()}


def log_lines(exp):
    lines = (exp / "log.jsonl").read_text().splitlines()
    measured = {"utterances_per_second", "hours_per_second", "data_wait", "memory_gb"}
    return [
        {name: value for name, value in json.loads(line).items() if name not in measured} for line in lines
    ]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_training_moves_weights_and_leaves_models_and_a_log(data, tmp_path):
    assert train(data, tmp_path / "exp") == 0
    lines = [json.loads(line) for line in (tmp_path / "exp/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 5, 7] and lines[-1]["epoch"] == 3
    entropies = ("teacher_entropy", "student_entropy", "mean_teacher_entropy", "kl")
    for name in ("loss", *entropies, "embedding_spread", "lr", "utterances_per_second"):
        assert np.isfinite(lines[-1][name])
    assert not equal(
        load_file(tmp_path / "exp/teacher/model.safetensors"),
        load_file(tmp_path / "exp/student/model.safetensors"),
    )


def test_same_seed_same_weights_other_seed_others(data, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train(data, tmp_path / name, "--seed", str(seed)) == 0
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not equal(weights(tmp_path / "a"), weights(tmp_path / "c"))


def test_killed_where_an_epoch_ends_and_resumed_equals_uninterrupted_bit_for_bit(data, tmp_path):
    """Inside an epoch: test_train_every_method.py."""
    assert train(data, tmp_path / "whole") == 0
    dump_config(CONFIG, tmp_path / "cut.yaml")
    arguments = [
        "train",
        "--config",
        str(tmp_path / "cut.yaml"),
        "--num-threads",
        "1",
        str(data),
        str(tmp_path / "cut"),
    ]
    died = run_python(KILLER, arguments)
    assert died.returncode == -9, died.stderr
    assert (
        not (tmp_path / "cut/teacher").exists()
        and len(list((tmp_path / "cut/checkpoints").glob("*.pt"))) == 2
    )
    with open(tmp_path / "cut/log.jsonl", "a") as log:
        log.write('{"epoch": 2.1, "st')  # a line that the kill cut short
    assert main(arguments) == 0
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert log_lines(tmp_path / "whole") == log_lines(tmp_path / "cut")


def test_a_damaged_newest_checkpoint_is_passed_over(data, tmp_path, capsys):
    assert train(data, tmp_path / "whole") == 0
    assert train(data, tmp_path / "cut") == 0
    newest = sorted((tmp_path / "cut/checkpoints").glob("*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    (tmp_path / "cut/.done.train").unlink()
    assert train(data, tmp_path / "cut") == 0
    assert "cannot be read" in capsys.readouterr().err
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


@pytest.mark.parametrize("name", ["utt2emotion", "spk2gender", "text", "trials"])
def test_a_directory_with_labels_is_refused(data, tmp_path, capsys, name):
    (data / name).write_text("a b\n")
    assert train(data, tmp_path / "exp") == 1
    error = capsys.readouterr().err
    assert f"holds labels ({name})" in error and "make_train_set.sh" in error


def test_a_directory_with_speakers_is_refused(data, tmp_path, capsys):
    table = read_table(data / "utt2spk")
    write_table(data / "utt2spk", {key: "s0" for key in table})
    assert train(data, tmp_path / "exp") == 1
    assert "every utterance is its own speaker" in capsys.readouterr().err


def test_train_set_drops_the_short_and_names_them(tmp_path, capsys):
    make_data(tmp_path / "source", [f"u{i:02d}" for i in range(10)], silence=False)
    make_train_set(tmp_path / "source", tmp_path / "t", "--min-duration", "1.2")
    kept = read_table(tmp_path / "t/utt2spk")
    assert sorted(kept) == [f"u{i:02d}" for i in range(5, 10)]  # 90 + 7 i frames of 10 ms
    assert [line.split()[0] for line in (tmp_path / "t/dropped.txt").read_text().splitlines()] == [
        f"u{i:02d}" for i in range(5)
    ]
    assert (
        main(["make-train-set", "--min-duration", "60", str(tmp_path / "source"), str(tmp_path / "t2")]) == 1
    )
    assert "no utterance is left" in capsys.readouterr().err


def test_another_run_in_the_same_place_is_refused_and_untouched(data, tmp_path, capsys):
    assert train(data, tmp_path / "exp") == 0
    before = weights(tmp_path / "exp")
    assert train(data, tmp_path / "exp") == 0 and "up to date" in capsys.readouterr().err
    assert train(data, tmp_path / "exp", "--set", "optimiser.lr=0.5") == 1
    error = capsys.readouterr().err
    assert "holds another run" in error and "--force true" in error and "--tag" in error
    assert equal(before, weights(tmp_path / "exp"))
    assert train(data, tmp_path / "exp", "--set", "optimiser.lr=0.5", "--force", "true") == 0
    assert not equal(before, weights(tmp_path / "exp"))


def test_mistakes_speak(data, tmp_path, capsys):
    assert train(tmp_path / "nowhere", tmp_path / "e0") == 1
    assert "nowhere" in capsys.readouterr().err
    assert train(data, tmp_path / "e1", "--set", "optimiser.rl=1") == 1
    assert "unknown key 'optimiser.rl' (did you mean 'lr'?)" in capsys.readouterr().err
    assert train(data, tmp_path / "e2", "--set", "compute.accumulation=8", "--set", "batch_size=16") == 1
    assert (
        "there are only 14 utterances to train on, and a batch needs at least 16" in capsys.readouterr().err
    )
    if not torch.cuda.is_available():
        assert train(data, tmp_path / "e3", "--ngpu", "1") == 1
        assert "finds no GPU" in capsys.readouterr().err


def test_crops_come_from_the_voiced_frames_and_wrap_round_where_too_short(data):
    dataset = TrainingSet(data)
    stored = read_table(data / "feats.scp")
    by_hash = {int(value): key for key, value in read_table(data / "utt2hash").items()}
    from pydino.kaldi import read_object

    vad = read_table(data / "vad.scp")
    for index in (0, 7, 13):
        key = by_hash[int(dataset.hashes[index])]
        speech = read_object(stored[key])[read_object(vad[key]) > 0.5]
        assert dataset.lengths[index] == len(speech)
        starts = np.array([[0, len(speech) - 3]])
        first, second = (
            dataset.collect(np.array([index]), starts, np.array([300, 300]))
            .values.numpy()
            .reshape(2, 300, BANDS)
        )
        assert (first == np.resize(speech, (300, BANDS))).all()
        assert (second == np.resize(np.roll(speech, 3, axis=0), (300, BANDS))).all()
        # So far apart that they are read one by one.
        ends = dataset.collect(np.array([index]), np.array([[0, len(speech) - 5]]), np.array([5, 4]))
        assert (ends.values.numpy() == np.concatenate([speech[:5], speech[-5:-1]])).all()


def test_schedules():
    optimiser = OptimiserConfig(lr=1.0, final_lr=0.25, warmup_steps=4)
    assert [learning_rate(s, 11, 1, optimiser) for s in (0, 2, 4)] == [0, 0.5, 1.0]
    assert learning_rate(10, 11, 1, optimiser) == pytest.approx(0.25)
    halving = OptimiserConfig(
        lr=1.0, final_lr=0.2, warmup_epochs=2, schedule="exponential", half_life_steps=10
    )
    assert [learning_rate(s, 99, 2, halving) for s in (4, 14, 19, 90)] == pytest.approx(
        [1, 0.5, 0.5**1.5, 0.2]
    )
    assert cosine(5, 11, 0.996, 1.0) == pytest.approx(0.998) and cosine(10, 11, 0.996, 1.0) == pytest.approx(
        1.0
    )
    assert [ramp(s, 10, 0.1) for s in (0, 5, 30)] == pytest.approx([0, 0.05, 0.1]) and ramp(0, 0, 0.1) == 0.1
    rising = DinoLossConfig(0.1, 0.07, teacher_temperature_start=0.04, teacher_temperature_epochs=3)
    assert [teacher_temperature(s, 4, rising) for s in (0, 6, 12, 99)] == pytest.approx(
        [0.04, 0.055, 0.07, 0.07]
    )
    assert teacher_temperature(5, 4, DinoLossConfig()) == 0.04
    with pytest.raises(ValueError, match="belong together"):
        DinoLossConfig(teacher_temperature_epochs=3)


def test_weight_decay_is_on_matrices_only():
    from pydino.train.loop import make_optimiser

    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    decayed, free = make_optimiser(
        [ParameterGroup(list(module.parameters()))], DinoConfig().optimiser
    ).param_groups
    assert [p.ndim for p in decayed["params"]] == [2] and [p.ndim for p in free["params"]] == [1, 1, 1]
    assert decayed["weight_decay"] > 0 and free["weight_decay"] == 0


def test_alarms_in_plain_words():
    healthy = {
        "loss": 3.0,
        "teacher_entropy": 2.0,
        "mean_teacher_entropy": 5.0,
        "kl": 1.0,
        "embedding_spread": 0.9,
    }
    assert collapse(healthy, 1024) is None
    uniform = {**healthy, "teacher_entropy": 6.92, "kl": 0.01}
    assert "collapse to uniform" in collapse(uniform, 1024)
    assert "collapse to a point" in collapse({**healthy, "mean_teacher_entropy": 0.1}, 1024)
    spread = [
        spread_of_moments(moments(x)[-1]).item()
        for x in (torch.ones(5, 3), torch.cat([torch.eye(4), -torch.eye(4)]))
    ]
    assert spread == pytest.approx([0, 1], abs=1e-6)


def test_a_collapsing_run_stops_and_says_so(data, tmp_path, capsys):
    hot = {"teacher_temperature": 1000.0, "student_temperature": 1000.0}  # every output alike likely
    assert train(data, tmp_path / "exp", config={**CONFIG, "on_collapse": "stop", "loss": hot}) == 1
    assert "collapse to uniform" in capsys.readouterr().err
    assert not (tmp_path / "exp/teacher").exists()


def test_weights_that_are_no_numbers_are_never_saved_even_where_a_collapse_only_warns(data, tmp_path, capsys):
    config = {
        **CONFIG,
        "optimiser": {"name": "sgd", "lr": 1e30, "warmup_epochs": 0, "clip": 0},
        "checkpoint_steps": 1,
    }
    assert train(data, tmp_path / "exp", config=config) == 1
    assert "not a number any more; lower optimiser.lr" in capsys.readouterr().err
    assert not (tmp_path / "exp/teacher").exists()
    for path in (tmp_path / "exp/checkpoints").glob("*.pt"):
        sums = torch.load(path, weights_only=True)["averages"]["sums"]
        assert all(torch.isfinite(value).all() for value in sums.values())


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_every_optimiser_and_bfloat16_run(data, tmp_path, name):
    assert (
        train(
            data,
            tmp_path / "exp",
            "--set",
            f"optimiser.name={name}",
            "--set",
            "compute.precision=bf16",
            "--set",
            "epochs=2",
        )
        == 0
    )
    assert all(
        value.dtype != torch.bfloat16 and torch.isfinite(value).all()
        for value in weights(tmp_path / "exp").values()
    )


def test_the_prototypes_stay_put_at_first_and_then_move(data, tmp_path):
    def prototypes(freeze):
        exp = tmp_path / f"exp{freeze}"
        assert train(data, exp, "--set", "epochs=1", "--set", f"freeze_last_layer_epochs={freeze}") == 0
        return torch.load(next((exp / "checkpoints").glob("*.pt")), weights_only=True)["method"]

    frozen, free = prototypes(1), prototypes(0)
    assert torch.equal(frozen["student.head.prototypes"], frozen["teacher.head.prototypes"])
    assert not torch.equal(free["student.head.prototypes"], frozen["student.head.prototypes"])
    assert not torch.equal(frozen["student.head.mlp.0.weight"], frozen["teacher.head.mlp.0.weight"])


def test_shared_prototypes_are_those_of_the_teacher_too_and_trained_by_gradient_without_decay(data, tmp_path):
    decay = ("--set", "optimiser.weight_decay=1000", "--set", "epochs=2")
    assert train(data, tmp_path / "exp", *decay, config=SDPN) == 0
    first, second = (
        torch.load(path, weights_only=True)["method"]
        for path in sorted((tmp_path / "exp/checkpoints").glob("*.pt"))
    )
    for state in (first, second):
        assert torch.equal(state["student.head.prototypes"], state["teacher.head.prototypes"])
    start, end = (state["student.head.prototypes"] for state in (first, second))
    assert start.abs().max() <= 8**-0.5  # as they were drawn: frozen for the first epoch
    moved = (end - start).norm() / start.norm()
    assert 1e-5 < moved < 0.1  # with that decay of them as well they would have shrunk


def test_a_clean_teacher_and_students_of_local_views(data):
    config = config_from_dict(DinoConfig, SDPN)
    teacher, local = config.view_groups
    assert (teacher.name, teacher.number, teacher.seen_by) == ("global", 1, "teacher")
    assert (local.name, local.number, local.seen_by) == ("local", 3, "student")
    assert teacher.augment == NOT_AUGMENTED and local.augment == AugmentConfig()
    # what is stored beside the models is the same configuration
    assert config_from_dict(DinoConfig, config_to_dict(config)) == config
    both = config_from_dict(DinoConfig, {**CONFIG, "teacher_sees": "clean"})
    assert [group.seen_by for group in both.view_groups] == ["both", "student"]
    partner = config_from_dict(DinoConfig, {**SDPN, "positives": "cluster"})
    assert [(group.owner, group.seen_by) for group in partner.view_groups] == [
        ("own", "student"),
        ("partner", "teacher"),
    ]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"student_sees": "locals"}, "koleo_views: all"),
        ({"student_sees": "locals", "crops": {"num_local": 0}}, "set crops.num_local above 0"),
        ({"crops": {"num_global": 1}}, "1 is enough with student_sees: locals"),
        ({"teacher_sees": "clean", "teacher_augment": {"gain_db": 1.0}}, "remove one of the two"),
        ({"dimension_weight": -1.0}, "dimension_weight"),
        ({"head": {"norm_before": True}}, "set batch_norm: true"),
        ({"loss": {"sinkhorn_iterations": 0}}, "sinkhorn_iterations"),
    ],
)
def test_switches_that_contradict_each_other_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        config_from_dict(DinoConfig, {**CONFIG, **change})


@pytest.mark.parametrize(
    "config, name",
    [
        ({}, "dino"),
        ({"koleo_weight": 0.1}, "dino-koleo"),
        (SDPN, "sdpn"),
        (EVERY_TERM, "sdpn-dimension-variance-covariance"),
        ({**SDPN, "koleo_weight": 0.0}, "dino-mean-entropy-sinkhorn-shared-prototypes-clean-teacher-locals"),
        ({"variance_weight": 1.0, "covariance_weight": 0.2}, "rdino"),
        ({"koleo_weight": 0.1, "dimension_weight": 0.1}, "dino-koleo-dimension"),
    ],
)
def test_results_call_systems_by_different_names(config, name):
    assert config_from_dict(DinoConfig, {"method": "dino", **config}).name == name


def test_variance_and_covariance_weights_rise_and_every_term_is_logged(data, tmp_path):
    assert train(data, tmp_path / "exp", config=EVERY_TERM) == 0
    first, *_, last = log_lines(tmp_path / "exp")
    for name in ("koleo", "mean_entropy", "dimension", "variance", "covariance", "active_dimensions"):
        assert np.isfinite(last[name])
    assert "centre_norm" not in last and last["active_dimensions"] == 1
    terms = EVERY_TERM["koleo_weight"] * last["koleo"] + last["mean_entropy"] + 0.3 * last["dimension"]
    assert last["loss"] == pytest.approx(
        last["dino_loss"] + terms + last["variance"] + 0.2 * last["covariance"], rel=1e-4
    )
    unramped = first["dino_loss"] + 0.1 * first["koleo"] + first["mean_entropy"] + 0.3 * first["dimension"]
    assert unramped < first["loss"] < unramped + first["variance"] + 0.2 * first["covariance"]


def test_an_unknown_encoder_option_stops_before_anything_is_read(tmp_path, capsys):
    config = {**CONFIG, "encoder": {"name": "tdnn", "chanels": 8}}
    assert train(tmp_path / "nowhere", tmp_path / "exp", config=config) == 1
    assert "unknown key 'chanels' (did you mean 'channels'?)" in capsys.readouterr().err


def test_a_run_on_features_made_anew_is_another_run(data, tmp_path, capsys):
    assert train(data, tmp_path / "exp", "--set", "epochs=1") == 0
    (data / "conf/fbank.yaml").write_text(f"num_mel_bins: {BANDS}\nsample_frequency: 16000\nlow_freq: 100\n")
    assert train(data, tmp_path / "exp", "--set", "epochs=1") == 1
    assert "holds another run" in capsys.readouterr().err


def test_making_a_train_set_overwrites_no_data_directory(tmp_path, capsys):
    for name in ("a", "b"):
        make_data(tmp_path / name, ["u1", "u2"])
    before = sorted(p.name for p in (tmp_path / "b").iterdir())
    assert main(["make-train-set", "--min-duration", "0.1", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert "was not made by this step" in capsys.readouterr().err
    assert main(["make-train-set", "--min-duration", "0.1", str(tmp_path / "a"), str(tmp_path / "a")]) == 1
    assert "is also to be read" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == before


def test_grouped_spk2utt_is_refused(data, tmp_path, capsys):
    (data / "spk2utt").write_text(f"s0 {' '.join(read_table(data / 'utt2spk'))}\n")
    assert train(data, tmp_path / "exp") == 1
    assert "spk2utt maps s0" in capsys.readouterr().err


def test_papers_configuration_is_expressible():
    config = config_from_dict(
        DinoConfig,
        {
            "epochs": 70,
            "batch_size": 128,
            "encoder": {"name": "lresnet34"},
            "head": {"hidden_dim": 2048, "bottleneck_dim": 256, "output_dim": 65536},
            "crops": {"global_seconds": [4, 4], "local_seconds": [2, 2]},
            "optimiser": {
                "name": "adam",
                "lr": 0.0025,
                "warmup_epochs": 10,
                "betas": [0.9, 0.95],
                "weight_decay": 1e-4,
                "clip": 0,
            },
            "teacher": {"momentum": 0.996},
        },
    )
    assert config.name == "dino" and config.crops.num_local == 4 and config.crops.global_seconds == [4.0, 4.0]
    assert (
        config.optimiser.final_lr == 1e-6
        and config.loss.student_temperature == 0.1
        and config.loss.teacher_temperature == 0.04
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU here")
def test_gpu_trains_like_the_cpu(data, tmp_path):
    config = {**CONFIG, "epochs": 1}
    assert train(data, tmp_path / "cpu", config=config) == 0
    assert train(data, tmp_path / "gpu", "--ngpu", "1", config=config) == 0
    cpu, gpu = weights(tmp_path / "cpu"), weights(tmp_path / "gpu")
    for name in cpu:
        assert torch.allclose(cpu[name].float(), gpu[name].float(), atol=5e-3), name


@pytest.mark.parametrize("name, code", [("SIGTERM", 143), ("SIGUSR1", 138)])
def test_a_signal_saves_and_ends_a_run_which_then_goes_on_bit_for_bit(data, tmp_path, name, code):
    config = {**CONFIG, "checkpoint_steps": 1000}
    assert train(data, tmp_path / "whole", config=config) == 0
    hurried = (
        "import os, signal, sys, pydino.train.loop as loop\n"
        "update, count = loop.update, []\n"
        "def update_then_hear(*arguments):\n"
        "    count.append(update(*arguments))\n"
        f"    if len(count) == 4: os.kill(os.getpid(), signal.{name})\n"  # the first step of the second epoch
        "    return count[-1]\n"
        "loop.update = update_then_hear\n"
        "from pydino.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    dump_config(config, tmp_path / "cut.yaml")
    arguments = [
        "train",
        "--config",
        str(tmp_path / "cut.yaml"),
        "--num-threads",
        "1",
        str(data),
        str(tmp_path / "cut"),
    ]
    ended = run_python(hurried, arguments)
    assert ended.returncode == code and f"stopped by {name} after step 4, saved" in ended.stderr, ended.stderr
    assert main(arguments) == 0
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert log_lines(tmp_path / "whole") == log_lines(tmp_path / "cut")


def test_a_full_disk_costs_checkpoints_but_not_the_run(data, tmp_path):
    """No file may be longer than a model: the checkpoints fail, training goes on, and ends with the same
    models.
    """
    assert train(data, tmp_path / "whole") == 0
    # enough for the snapshots and the models
    longest = 4 * (tmp_path / "whole/teacher/model.safetensors").stat().st_size
    assert all(path.stat().st_size > longest for path in (tmp_path / "whole/checkpoints").iterdir())
    full = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({longest}, {longest}))\n"
        "from pydino.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = [
        "train",
        "--config",
        str(tmp_path / "whole.yaml"),
        "--num-threads",
        "1",
        str(data),
        str(tmp_path / "full"),
    ]
    done = run_python(full, arguments)
    assert done.returncode == 0 and done.stderr.count("no checkpoint of step") == 3, done.stderr
    assert list((tmp_path / "full/checkpoints").iterdir()) == [] and equal(
        weights(tmp_path / "whole"), weights(tmp_path / "full")
    )


def test_snapshots_and_the_mean_of_the_last_teachers(data, tmp_path):
    config = {**CONFIG, "epochs": 4, "snapshot_epochs": 1, "average_snapshots": 2, "log_steps": 2}
    assert train(data, tmp_path / "exp", config=config) == 0
    snapshots = sorted(path.name for path in (tmp_path / "exp/snapshots").iterdir())
    assert snapshots == ["epoch0001", "epoch0002", "epoch0003", "epoch0004"]
    models = [
        load_file(tmp_path / f"exp/snapshots/{name}/teacher/model.safetensors") for name in snapshots[-2:]
    ]
    mean = load_file(tmp_path / "exp/teacher_average/model.safetensors")
    for name, value in mean.items():
        if value.is_floating_point():
            assert torch.allclose(value, (models[0][name] + models[1][name]) / 2, atol=1e-6), name
    assert equal(models[1], load_file(tmp_path / "exp/teacher/model.safetensors"))
    steps = [json.loads(line)["step"] for line in (tmp_path / "exp/log.jsonl").read_text().splitlines()]
    assert steps == [2, 3, 4, 5, 6, 7, 8, 9]  # every second, and where an epoch ends
    assert list((tmp_path / "exp/tensorboard").glob("events*"))


def test_two_runs_do_not_share_a_folder(data, tmp_path, capsys):
    from pydino.train.exp_dir import lock

    with lock(tmp_path / "exp"):
        assert train(data, tmp_path / "exp") == 1
    assert f"trains in {tmp_path / 'exp'}; wait for it" in capsys.readouterr().err
    assert train(data, tmp_path / "exp") == 0


def test_a_start_that_fails_claims_nothing_and_discards_nothing(data, tmp_path, capsys):
    assert train(data, tmp_path / "exp", "--set", "batch_size=7", "--set", "compute.accumulation=2") == 1
    assert train(data, tmp_path / "exp") == 0
    assert train(data, tmp_path / "exp", "--set", "crops.local_seconds=[0.02,0.02]", "--force", "true") == 1
    assert "crops of 2 frames are too short for this encoder, which needs 23" in capsys.readouterr().err
    assert train(data, tmp_path / "exp") == 0
    assert "is finished and up to date" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    ["epochs=.inf", "koleo_weight=.nan", "optimiser.betas=[2,3]", "epochs=[1", "encoder.embedding_dim=9"],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(data, tmp_path, capsys, change):
    assert train(data, tmp_path / "exp") == 0
    assert train(data, tmp_path / "exp", "--set", change) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_checkpoints_of_another_network_are_refused(data, tmp_path, capsys):
    assert train(data, tmp_path / "exp") == 0
    assert train(data, tmp_path / "other", "--set", "head.output_dim=40") == 0
    for path in (tmp_path / "exp/checkpoints").iterdir():
        path.write_bytes((tmp_path / "other/checkpoints" / path.name).read_bytes())
    (tmp_path / "exp/.done.train").unlink()
    assert train(data, tmp_path / "exp") == 1
    assert "are of another network; discard them with --force true" in capsys.readouterr().err
