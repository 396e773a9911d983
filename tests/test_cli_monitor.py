"""The reader of snapshots: right figures, nothing measured twice, damage passed over, and training that never
looks.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_infer_model_folder import TDNN, configuration, tdnn

from pydino.backend import equal_error_rate, knn_accuracy
from pydino.base import dump_config
from pydino.cli import main
from pydino.cli._steps import pending, run_step
from pydino.infer import load, save_model
from pydino.kaldi import ArchiveWriter, read_scp_objects, write_table
from pydino.train.exp_dir import lock

ROOT = Path(__file__).parent.parent
SPEAKERS, EACH = 5, 4
KEYS = [f"s{speaker}-u{number}" for speaker in range(SPEAKERS) for number in range(EACH)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five speakers, each with a mean spectrum of its own, and all their trials."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "conf").mkdir()
    draw = np.random.default_rng(0)
    spectra, frames = draw.normal(size=(SPEAKERS, 1, 20)), {}
    with (
        ArchiveWriter(folder / "f.ark", folder / "feats.scp") as feats,
        ArchiveWriter(folder / "v.ark", folder / "vad.scp") as vad,
    ):
        for number, key in enumerate(KEYS):
            length = frames[key] = 60 + 13 * (number % 7)
            ramp = np.linspace(-1, 1, length)[:, None]  # what mean normalisation leaves of a speaker
            features = 8 * spectra[number // EACH] * ramp + draw.normal(size=(length, 20))
            feats.write(key, features.astype(np.float32))
            vad.write(key, (draw.random(length) < 0.8).astype(np.float32))
    write_table(folder / "utt2num_frames", frames)
    write_table(folder / "utt2spk", {key: key.split("-")[0] for key in KEYS})
    (folder / "conf/fbank.yaml").write_text("num_mel_bins: 20\ndither: 0.0\nsnip_edges: false\n")
    (folder / "conf/vad.yaml").write_text("vad_energy_threshold: 5.5\n")
    pairs = [(one, other) for place, one in enumerate(KEYS) for other in KEYS[:place]]
    lines = (f"{a} {b} {'target' if a[:2] == b[:2] else 'nontarget'}\n" for a, b in pairs)
    (folder / "trials").write_text("".join(lines))
    return folder


def spread(seed=0):
    """An encoder whose embeddings do not all lie in one direction."""
    encoder = tdnn(seed)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.reset_running_stats()
    encoder.embedding_norm.running_mean.copy_(encoder(torch.randn(20, 60, 20)).mean(0).detach())
    return encoder


def snapshot(exp, epoch, seed, roles=("teacher", "student")):
    for number, role in enumerate(roles):
        folder = exp / "snapshots" / f"epoch{epoch:04d}" / role
        save_model(folder, spread(10 * seed + number), configuration(role=role), "")
    return exp


def monitor(exp, data, *options):
    return main(["monitor", str(exp), "--data", str(data), "--trials", str(data / "trials"), *options])


def lines(exp):
    return [json.loads(line) for line in (exp / "monitor.jsonl").read_text().splitlines()]


def test_figures_equal_those_of_extraction_and_scoring(data, tmp_path):
    exp = snapshot(tmp_path / "exp", 10, seed=1)
    assert monitor(exp, data) == 0
    measured = {line["role"]: line for line in lines(exp)}
    assert set(measured) == {"teacher", "student"} and measured["teacher"]["epoch"] == 10
    for role, line in measured.items():
        assert (
            main(
                [
                    "extract-embeddings",
                    "--part",
                    "1/1",
                    str(exp / f"snapshots/epoch0010/{role}"),
                    str(data),
                    str(tmp_path / role),
                ]
            )
            == 0
        )
        stored = {
            key: vector.astype(np.float64)
            for key, vector in read_scp_objects(tmp_path / role / "xvector.1.scp")
        }
        vectors = {key: vector / np.linalg.norm(vector) for key, vector in stored.items()}
        trials = [text.split() for text in (data / "trials").read_text().splitlines()]
        scores = np.array([vectors[a] @ vectors[b] for a, b, _ in trials])
        assert line["eer"] == pytest.approx(
            100 * equal_error_rate(scores, np.array([c == "target" for *_, c in trials])), abs=0.002
        )
        assert line["knn"] == pytest.approx(
            100 * knn_accuracy(np.stack([vectors[key] for key in KEYS]), np.array([k[:2] for k in KEYS]))
        )
        assert 1 < line["eer"] < 49 and line["num_trials"] == len(trials) and line["utterances"] == len(KEYS)


def test_nothing_is_measured_twice_unless_something_changed(data, tmp_path, capsys):
    exp = snapshot(tmp_path / "exp", 10, seed=1)
    assert monitor(exp, data) == 0
    snapshot(exp, 20, seed=2)
    assert monitor(exp, data) == 0 and monitor(exp, data) == 0
    assert [(line["epoch"], line["role"]) for line in lines(exp)] == [
        (e, r) for e in (10, 20) for r in ("teacher", "student")
    ]
    capsys.readouterr()
    labels = tmp_path / "labels"
    write_table(labels, {key: str(number % 2) for number, key in enumerate(KEYS)})
    snapshot(exp, 20, seed=3, roles=("student",))  # trained again
    assert monitor(exp, data) == 0
    assert [line["model"] for line in lines(exp)[4:]] == ["snapshots/epoch0020/student"]
    assert monitor(exp, data, "--labels", str(labels)) == 0
    assert len(lines(exp)) == 9
    # A kill while a line was written: it is measured again, on a line of its own.
    text = (exp / "monitor.jsonl").read_text()
    (exp / "monitor.jsonl").write_text(text[:-20])
    assert monitor(exp, data, "--labels", str(labels)) == 0
    good = [line for line in (exp / "monitor.jsonl").read_text().splitlines() if line.endswith("}")]
    assert json.loads(good[-1]) == json.loads(text.splitlines()[-1]) and len(good) == 9


def test_half_written_and_damaged_snapshots_are_named_and_skipped(data, tmp_path, capsys):
    exp = snapshot(tmp_path / "exp", 10, seed=1)
    (exp / "snapshots/epoch0010/student/config.yaml").unlink()  # it is written last
    snapshot(exp, 20, seed=2)
    weights = exp / "snapshots/epoch0020/teacher/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    diverged = tdnn()
    diverged.embedding.weight.data.fill_(torch.nan)
    save_model(exp / "snapshots/epoch0030/teacher", diverged, configuration(), "")
    (exp / "snapshots/.epoch0040.tmp").mkdir()
    assert monitor(exp, data) == 0
    said = capsys.readouterr().err
    assert "epoch0010/student" in said and "epoch0020/teacher" in said and "not finite" in said
    assert [(line["epoch"], line["role"], line["eer"] is None) for line in lines(exp)] == [
        (10, "teacher", False),
        (20, "student", False),
        (30, "teacher", True),
    ]
    # now it is whole
    save_model(exp / "snapshots/epoch0010/student", tdnn(5), configuration(role="student"), "")
    assert monitor(exp, data) == 0
    assert lines(exp)[-1]["model"] == "snapshots/epoch0010/student"


def test_the_final_models_are_measured_unless_a_snapshot_is_of_the_end(data, tmp_path, capsys):
    exp = tmp_path / "exp"
    exp.mkdir()
    assert monitor(exp, data) == 1 and "snapshot_epochs" in capsys.readouterr().err
    for role in ("teacher", "student"):
        save_model(exp / role, tdnn(), configuration(role=role), "")
    dump_config({"epochs": 48.0}, exp / "config.yaml")
    assert monitor(exp, data) == 0
    assert [(line["model"], line["epoch"]) for line in lines(exp)] == [("teacher", 48), ("student", 48)]
    snapshot(exp, 44, seed=1)
    (exp / "monitor.jsonl").unlink()
    assert monitor(exp, data) == 0
    assert [line["epoch"] for line in lines(exp)] == [44, 44, 48, 48]
    snapshot(exp, 48, seed=1)
    (exp / "monitor.jsonl").unlink()
    assert monitor(exp, data) == 0
    assert [line["model"] for line in lines(exp)[2:]] == [
        "snapshots/epoch0048/teacher",
        "snapshots/epoch0048/student",
    ]


def test_watching_ends_with_the_run_and_survives_a_kill(data, tmp_path):
    exp = snapshot(tmp_path / "exp", 10, seed=1)
    command = [
        sys.executable,
        "-m",
        "pydino",
        "monitor",
        str(exp),
        "--data",
        str(data),
        "--trials",
        str(data / "trials"),
    ]
    command += ["--watch", "true", "--interval", "0.1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    watching = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    for _ in range(2):
        assert "epoch 10" in watching.stderr.readline()
    (exp / ".lock").touch()  # a training was there, and has died
    assert "no training is running" in watching.stderr.readline()
    watching.kill()
    watching.wait()
    at_work = lock(exp)
    watching = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    snapshot(tmp_path / "elsewhere", 20, seed=2)
    (tmp_path / "elsewhere/snapshots/epoch0020").rename(exp / "snapshots/epoch0020")
    (exp / ".done.train").write_text("{}")
    _, said = watching.communicate(timeout=60)
    assert (
        watching.returncode == 0
        and "epoch 20" in said
        and "epoch 10" not in said
        and "no training" not in said
    )
    at_work.release()
    assert [line["epoch"] for line in lines(exp)] == [10, 10, 20, 20]


@pytest.mark.parametrize(
    "trials, text",
    [
        ("s0-u0 s0-u1\n", "target or nontarget"),
        ("s0-u0 x target\ns0-u0 s0-u1 target\ns0-u0 s1-u0 nontarget\n", "no features, first: x"),
    ],
)
def test_mistakes_speak(data, tmp_path, capsys, trials, text):
    exp = snapshot(tmp_path / "exp", 10, seed=1)
    (tmp_path / "trials").write_text(trials)
    assert main(["monitor", str(exp), "--data", str(data), "--trials", str(tmp_path / "trials")]) == 1
    assert text in capsys.readouterr().err.replace("target and nontarget", "target or nontarget")
    assert (
        main(["monitor", str(tmp_path / "nowhere"), "--data", str(data), "--trials", str(data / "trials")])
        == 1
    )
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("may_fail", ["true", "false"])
def test_a_failure_is_a_warning_where_the_caller_says_so(data, tmp_path, may_fail):
    exp = snapshot(tmp_path / "exp", 10, seed=1)  # without a config.yaml
    command = [ROOT / "steps/monitor.sh", "--may-fail", may_fail, "--data", data, exp]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert f"no {exp}/config.yaml" in done.stderr  # the end of the log
    again = f"steps/monitor.sh --may-fail {may_fail} --data {data} {exp}\n"
    assert done.returncode == (0 if may_fail == "true" else 1)
    assert (
        (f"warning: {exp} is not measured" in done.stderr) == (again in done.stderr) == (may_fail == "true")
    )


LISTENING = """
import json, sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from pydino.cli import main
from pydino.cli._steps import pending, run_step
status = main(sys.argv[2:])
open(sys.argv[1], "w").write(json.dumps(opened))
sys.exit(status)
"""


def test_training_never_opens_what_the_monitor_writes(data, tmp_path):
    assert main(["make-train-set", "--min-duration", "0.3", str(data), str(tmp_path / "train")]) == 0
    config = {
        "method": "dino",
        "epochs": 2,
        "batch_size": 5,
        "on_collapse": "warn",
        "head": {"hidden_dim": 8, "bottleneck_dim": 4, "output_dim": 16},
        "crops": {"num_local": 1, "global_seconds": [0.4, 0.4], "local_seconds": [0.3, 0.3]},
        "encoder": TDNN,
    }
    dump_config(config, tmp_path / "dino.yaml")
    exp = tmp_path / "exp"
    arguments = [
        "train",
        "--config",
        str(tmp_path / "dino.yaml"),
        "--num-threads",
        "1",
        str(tmp_path / "train"),
        str(exp),
    ]
    assert main(arguments) == 0
    alone = load_file(exp / "teacher/model.safetensors")
    assert monitor(exp, data) == 0
    measure = ["steps/monitor.sh", "--cmd", "no_such_wrapper", "--data", str(tmp_path / "train"), str(exp)]
    assert pending(measure)
    assert main(["monitor", str(exp), "--data", str(tmp_path / "train")]) == 0
    assert not pending(measure) and run_step(measure) == 0  # without a job
    written = (exp / "monitor.jsonl").read_text()

    # The same run once more from its beginning, in the same folder, with the monitor's figures in it.
    shutil.rmtree(exp / "checkpoints")
    (exp / ".done.train").unlink()
    assert pending(measure)
    command = [sys.executable, "-c", LISTENING, str(tmp_path / "opened.json"), *arguments]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    opened = [
        path for path in json.loads((tmp_path / "opened.json").read_text()) if path.startswith(str(exp))
    ]
    assert str(exp / "log.jsonl") in opened  # so the hook works
    assert not [path for path in opened if "monitor" in path.removeprefix(str(exp))]
    again = load_file(exp / "teacher/model.safetensors")
    assert (exp / "monitor.jsonl").read_text() == written and all(
        torch.equal(alone[name], again[name]) for name in alone
    )


def test_neighbours_against_a_plain_loop():
    draw = np.random.default_rng(3)
    vectors, labels = draw.normal(size=(40, 3)), draw.integers(0, 6, 40)
    labels[0] = 99  # alone: it votes, and is not judged
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    right = []
    for i in range(1, 40):
        cosines = sorted(((unit[i] @ unit[j], labels[j]) for j in range(40) if j != i), reverse=True)[:7]
        votes = {
            label: (sum(x == label for _, x in cosines), sum(c for c, x in cosines if x == label))
            for _, label in cosines
        }
        right.append(max(votes, key=votes.get) == labels[i])
    assert knn_accuracy(vectors, labels, 7) == pytest.approx(np.mean(right))
    assert knn_accuracy(vectors * draw.uniform(1, 9, (40, 1)), labels, 7) == pytest.approx(np.mean(right))
    assert knn_accuracy(np.eye(3)[[0, 0, 1, 1]], np.array(["a", "a", "b", "b"]), 1) == 1
    with pytest.raises(ValueError, match="same label"):
        knn_accuracy(vectors[:3], np.arange(3))


def test_average_models_is_the_mean_of_weights_and_running_statistics(tmp_path, capsys):
    folders = [str(tmp_path / f"m{seed}") for seed in range(3)]
    for seed, folder in enumerate(folders):
        save_model(folder, tdnn(seed), configuration(), "")
    assert main(["average-models", str(tmp_path / "out"), *folders]) == 0
    loaded = [load_file(f"{folder}/model.safetensors") for folder in folders]
    for name, value in load_file(tmp_path / "out/model.safetensors").items():
        if value.is_floating_point():
            expected = np.mean([weights[name].numpy().astype(np.float64) for weights in loaded], axis=0)
            np.testing.assert_allclose(value.numpy(), expected, rtol=1e-6, atol=1e-8)
    assert load(tmp_path / "out").config == load(folders[0]).config
    assert all(folder in (tmp_path / "out/README.md").read_text() for folder in folders)
    before = (tmp_path / "m0/model.safetensors").read_bytes()
    assert (
        main(["average-models", folders[0], *folders]) == 1
        and "one of the folders" in capsys.readouterr().err
    )
    assert (tmp_path / "m0/model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    "changes, key",
    [({"role": "student"}, "role"), ({"seed": 7}, "seed"), ({"encoder": {**TDNN, "stride": 2}}, "encoder")],
)
def test_average_models_refuses_folders_that_do_not_match(tmp_path, capsys, changes, key):
    save_model(tmp_path / "a", tdnn(), configuration(), "")
    save_model(tmp_path / "b", tdnn(), configuration(**changes), "")
    assert main(["average-models", str(tmp_path / "out"), str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert f"do not match: {key} is" in capsys.readouterr().err and not (tmp_path / "out").exists()
