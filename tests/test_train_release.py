"""pydino release, and trainings that go on from what it makes: which parts they take, that these are the same bit
for bit, what stays behind, and what is refused.
"""

import shutil
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_methods import ROWS, Training
from test_run import ROOT, run
from test_train_dino import (
    BANDS,
    CONFIG,
    KILLER,
    log_lines,
    make_data,
    make_train_set,
    run_python,
    train,
)
from test_train_every_method import make_world

from pydino.base import UserError, dump_config, read_json, read_yaml, write_json
from pydino.cli import main
from pydino.cli._configurations import check_configurations
from pydino.kaldi import ArchiveWriter, read_table
from pydino.recipe import RunOptions, resolve
from pydino.recipe.rows import rows
from pydino.train.from_release import Release, belongs, take, take_optimiser
from pydino.train.loop import make_optimiser
from pydino.train.methods.dino import Dino
from pydino.train.release_text import config_without_places, text_without_places

# Of data with something to learn the teacher's outputs are sharp, and a head with random weights is far from them.
LEARNS = {
    **CONFIG,
    "batch_size": 16,
    "epochs": 30,
    "log_steps": 1,
    "tensorboard": False,
    "normalisation": {"kind": "none"},
    "encoder": {"name": "tdnn", "channels": 32, "pooled_channels": 32, "embedding_dim": 16},
    "head": {"hidden_dim": 32, "bottleneck_dim": 16, "output_dim": 64},
    "loss": {"teacher_temperature": 0.07},
    "teacher": {"momentum": 0.95, "final_momentum": 0.98},
    "optimiser": {"lr": 0.002, "warmup_epochs": 2},
    "freeze_last_layer_epochs": 0,
}
MEASURED = {"wav": "/home/me/secret/x.wav", "command": "steps/score.sh /home/me/secret/trials"}


def make_voices(folder, names, seed):
    """A pre-training directory of four voices, each with a spectrum of its own."""
    make_data(folder / "source", names)
    draw = np.random.default_rng(seed)
    with ArchiveWriter(folder / "source/f.ark", folder / "source/feats.scp") as feats:
        for number, name in enumerate(sorted(names)):
            length = int(read_table(folder / "source/utt2num_frames")[name])
            voice = 1.5 * np.random.default_rng(1000 + number % 4).normal(size=BANDS)
            feats.write(name, (draw.normal(size=(length, BANDS)) + voice).astype(np.float32))
    make_train_set(folder / "source", folder / "train")
    return folder / "train"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a DINO run, and its release with an optimiser; its utterances are s0-u00, ..."""
    folder = tmp_path_factory.mktemp("released")
    data = make_voices(folder, [f"s{i % 4}-u{i:02d}" for i in range(48)], 0)
    assert train(data, folder / "exp", "--set", "snapshot_epochs=10", config=LEARNS) == 0
    result = dict.fromkeys(("encoder", "labels", "backend", "treatment", "test_set", "unit"), "x")
    result |= {"task": "sv", "model": "dino", "system": "exp", "model_labels": "none", "train_set": "train"}
    result |= {"metric": "eer", "value": 12.5, "ci": None, "n": 9, "seed": 0, "config": "", "varied": {}}
    (folder / "exp/scores").mkdir()
    write_json(folder / "exp/scores/test.result.json", [{**result, "version": "0", **MEASURED}])
    options = ("--optimiser", "true", "--licence", "CC BY 4.0")
    assert main(["release", *options, str(folder / "exp"), str(folder / "out")]) == 0
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Other utterances of such voices."""
    return make_voices(tmp_path_factory.mktemp("other"), [f"t{i % 4}-v{i:02d}" for i in range(33)], 1)


@pytest.fixture
def at_step_0(monkeypatch):
    """The state of a DINO run just before its first step."""
    found = {}
    monkeypatch.setattr(
        Dino,
        "before_first_step",
        lambda self, embed: found.update({name: x.clone() for name, x in self.state_dict().items()}),
    )
    return found


def checkpoint(exp):
    return torch.load(sorted((exp / "checkpoints").glob("*.pt"))[-1], weights_only=True)


def test_a_training_goes_on_where_another_has_ended(trained, other, tmp_path, at_step_0, monkeypatch, capsys):
    """Bit for bit, and without a pickle; its loss is near that of the end, and not that of random weights."""
    ended = checkpoint(trained / "exp")["method"]
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was read"))
    short = {**LEARNS, "epochs": 1}
    assert train(other, tmp_path / "more", "--init", str(trained / "out"), config=short) == 0
    assert at_step_0.keys() == ended.keys() and "criterion.centre" in ended
    assert all(torch.equal(at_step_0[name], ended[name]) for name in ended)
    said = capsys.readouterr().err
    taken = "encoder of student and teacher, head of student and teacher, criterion.centre"
    assert f"taken: {taken}; restarted: schedules, the optimiser" in said
    assert train(other, tmp_path / "fresh", config=short) == 0
    last, first, fresh = (
        log_lines(exp)[at]["loss"]
        for exp, at in ((trained / "exp", -1), (tmp_path / "more", 0), (tmp_path / "fresh", 0))
    )
    assert abs(first - last) < 0.4 * abs(fresh - last)
    assert read_yaml(tmp_path / "more/teacher/config.yaml")["labels"] == "none"


def test_a_training_that_goes_on_and_is_interrupted_resumes_exactly(trained, other, tmp_path):
    options = ("--init", str(trained / "out"), "--set", "checkpoint_steps=1", "--init-optimiser", "true")
    assert train(other, tmp_path / "whole", *options, config={**LEARNS, "epochs": 2}) == 0
    words = ["train", "--config", str(tmp_path / "whole.yaml"), "--num-threads", "1", *options]
    words += [str(other), str(tmp_path / "cut")]
    assert run_python(KILLER, words).returncode == -9
    assert main(words) == 0
    whole, cut = (checkpoint(tmp_path / name)["method"] for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_a_release_names_no_utterance_and_no_place_and_its_sums_are_right(trained):
    out = trained / "out"
    files = {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert not [
        name for name, content in files.items() if str(trained).encode() in content or b"-u0" in content
    ]
    assert not [name for name, content in files.items() if b"/home/me" in content]
    assert not [name for name in files if name.endswith((".pt", ".pkl", ".py"))]
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True, text=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == len(files) - 1
    for role in ("teacher", "student"):
        for name in ("model.safetensors", "config.yaml"):
            assert files[f"{role}/{name}"] == (trained / "exp" / role / name).read_bytes()
    record = read_json(out / "release.json")
    assert (record["finished"], record["epochs"], record["licence"]) == (True, 30, "CC BY 4.0")
    (result,) = read_json(out / "results.json")
    assert result["value"] == 12.5 and not result.keys() & MEASURED.keys()
    assert b"CC BY 4.0" in files["README.md"]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Two worlds of different numbers of utterances and of classes, whose numbers are nothing else's."""
    folder = tmp_path_factory.mktemp("worlds")
    for name, count, classes in (("one", 21, 7), ("two", 18, 5)):
        names = [f"s{i % 4}-u{i:02d}" for i in range(count)]
        groups = [f"c{i % classes}" for i in range(count)]
        make_world(folder / name, names, groups, ["sad"] * count)
    return folder / "one", folder / "two"


def state_of(training):
    """What a release has of a method."""
    state, of_data = training.method.state_dict(), training.method.of_data
    return {name: x.clone() for name, x in state.items() if not belongs(name, of_data)}


@pytest.mark.parametrize("name", ROWS)
def test_every_method_takes_all_of_its_state_but_what_belongs_to_the_data(worlds, name):
    """Nothing that is released has a row for each utterance or class, and all of it is there at the next start."""
    one, two = (Training(name, world) for world in worlds)
    for step in range(2):
        one.update(step)
    state, before = state_of(one), state_of(two)
    assert {key: x.shape for key, x in state.items()} == {key: x.shape for key, x in before.items()}
    release = Release("R", {"method": one.method.config.method, "roles": list(one.method.roles)}, state)
    taken = take(two.method, release)
    now = state_of(two)
    assert taken.whole and all(torch.equal(state[key], now[key]) for key in state)
    assert any(not torch.equal(state[key], before[key]) for key in state)


@pytest.mark.parametrize("name", ["dino", "moco"])
def test_the_moments_of_the_optimiser_are_taken_on_request(worlds, name):
    one, two = (Training(name, world) for world in worlds)
    one.update(0)
    of_one = one.optimiser.state_dict()["state"]
    moments = {f"{n}.{key}": x.clone() for n, found in of_one.items() for key, x in found.items()}
    kind = type(one.optimiser).__name__.lower()
    record = {"method": one.method.config.method, "roles": ["teacher"], "optimiser": kind}
    release = Release("R", record, state_of(one), moments)
    taken = take(two.method, release)
    assert take_optimiser(two.optimiser, release, taken) == ""
    now = two.optimiser.state_dict()["state"]
    assert all(torch.equal(now[n][key], x) for n, found in of_one.items() for key, x in found.items())
    adamw = make_optimiser(two.method.parameter_groups(), type(two.method.config.optimiser)())
    assert take_optimiser(adamw, release, taken) == "it was sgd, and is adamw"


def test_another_head_is_restarted_and_so_is_the_centre_of_its_outputs(
    trained, other, tmp_path, at_step_0, capsys
):
    """Though the centre has the same size: it is of other outputs."""
    config = {**LEARNS, "epochs": 1, "head": {**LEARNS["head"], "hidden_dim": 24}}
    options = ("--init", str(trained / "out"), "--init-optimiser", "true")
    assert train(other, tmp_path / "more", *options, config=config) == 0
    assert not at_step_0["criterion.centre"].any()
    ended = checkpoint(trained / "exp")["method"]
    encoders = [name for name in ended if ".encoder." in name]
    assert encoders and all(torch.equal(at_step_0[name], ended[name]) for name in encoders)
    said = capsys.readouterr().err
    differs = "student.head.mlp.0.bias is (32,) in it and (24,) here"
    assert f"head of student and teacher and criterion.centre ({differs}), schedules" in said
    assert "the optimiser (parts of the method are restarted)" in said


def test_another_method_takes_the_encoder_of_the_model_alone(trained, other, tmp_path, capsys):
    config = {key: LEARNS[key] for key in ("encoder", "normalisation", "batch_size", "on_collapse")}
    config |= {"method": "moco", "epochs": 1, "optimiser": {"lr": 1e-12, "final_lr": 0}, "momentum": 1.0}
    assert train(other, tmp_path / "moco", "--init", str(trained / "out"), config=config) == 0
    teacher = load_file(trained / "out/teacher/model.safetensors")
    found = load_file(tmp_path / "moco/teacher/model.safetensors")
    assert all(
        torch.equal(teacher[key], found[key]) for key in teacher if "running" not in key and "num" not in key
    )
    assert (
        "the encoder of its teacher; restarted: the rest of moco, as it was trained by dino"
        in capsys.readouterr().err
    )


def test_what_does_not_fit_is_refused_with_what_would(trained, other, tmp_path, capsys):
    out, copied = trained / "out", tmp_path / "copied"

    def refused(data=other, init=out, *options, **changes):
        config = {**LEARNS, "epochs": 1, **changes}
        assert train(data, tmp_path / "no", "--init", str(init), *options, config=config) == 1
        assert not list((tmp_path / "no").glob("*/model.safetensors"))
        return capsys.readouterr().err

    wide = {**LEARNS["encoder"], "channels": 48}
    said = refused(encoder=wide)
    assert "--init: the model is of another encoder: " in said and "(32," in said and "(48," in said
    assert "normalisation.kind was none and is mean here; take over the 'normalisation'" in refused(
        normalisation={"kind": "mean"}
    )
    low = tmp_path / "low"
    shutil.copytree(other, low)
    fbank = low / "conf/fbank.yaml"
    fbank.write_text(fbank.read_text() + "low_freq: 100\n")
    said = refused(low)
    assert "features.low_freq was 20.0 and is 100.0 here; make the features with low_freq: 20.0" in said
    said = refused(other, out / "teacher", "--init-optimiser", "true")
    assert "is a model folder, which holds no optimiser" in said
    shutil.copytree(out, copied)
    with open(copied / "training.safetensors", "r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x55")
    assert "training.safetensors is not the file that was released" in refused(init=copied)


def test_a_release_replaces_nothing_and_is_of_a_training_at_its_end_unless_asked(trained, tmp_path, capsys):
    def release(exp, out, *options):
        status = main(["release", *options, str(exp), str(out)])
        return status, capsys.readouterr().err

    exp = tmp_path / "exp"
    shutil.copytree(trained / "exp", exp)
    status, said = release(exp, trained / "out")
    assert status == 1 and "is there already" in said
    assert release(tmp_path, tmp_path / "x") == (
        1,
        f"pydino release: {tmp_path} holds no training; give the folder of one, such as "
        "exp/dino-koleo_mini/seed0\n",
    )
    (exp / ".done.train").unlink()
    for role in ("teacher", "student"):
        shutil.rmtree(exp / role)
    status, said = release(exp, tmp_path / "running")
    assert status == 1 and "--unfinished true" in said
    assert release(exp, tmp_path / "running", "--unfinished", "true")[0] == 0
    record = read_json(tmp_path / "running/release.json")
    assert not record["finished"] and "not its end" in (tmp_path / "running/README.md").read_text()
    ended = checkpoint(exp)["method"]
    model = load_file(tmp_path / "running/teacher/model.safetensors")
    assert all(torch.equal(model[key], ended[f"teacher.encoder.{key}"]) for key in model)
    shutil.rmtree(exp / "snapshots")
    status, said = release(exp, tmp_path / "none", "--unfinished", "true")
    assert status == 1 and "--set snapshot_epochs=1" in said
    for path in (exp / "checkpoints").glob("*.pt"):
        path.unlink()
    status, said = release(exp, tmp_path / "none", "--unfinished", "true")
    assert status == 1 and "checkpoints is empty" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp", "running"]


def test_a_damaged_model_is_named_where_it_is_and_nothing_is_left(trained, tmp_path, capsys):
    shutil.copytree(trained / "exp", tmp_path / "exp")
    damaged = tmp_path / "exp/teacher/model.safetensors"
    damaged.write_bytes(b"broken")
    assert main(["release", str(tmp_path / "exp"), str(tmp_path / "out")]) == 1
    assert f"{damaged} is not a safetensors file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["exp"]


def test_the_configuration_of_a_release_trains_and_names_no_place_of_the_machine(trained, other, tmp_path):
    out = trained / "out"
    words = [
        "--config",
        str(out / "config.yaml"),
        "--init",
        str(out),
        "--set",
        "epochs=1",
        "--num-threads",
        "1",
    ]
    assert main(["train", *words, str(other), str(tmp_path / "more")]) == 0
    lists = {"noise": "/home/me/exp/data/musan_noise/wav.scp", "rirs": {"small": "../x/data/rirs/wav.scp"}}
    found = config_without_places({"encoder": {"name": "tdnn"}, "augmentation_data": lists})
    assert found["augmentation_data"] == {
        "noise": "data/musan_noise/wav.scp",
        "rirs": {"small": "data/rirs/wav.scp"},
    }
    text = "Made by `steps/train.sh --init exp/a '/home/me/my data/b' ~/c`; see `config.yaml`."
    assert text_without_places(text) == "Made by `steps/train.sh --init exp/a b c`; see `config.yaml`."


def test_a_recipe_goes_on_from_a_release_by_its_configuration(trained, tmp_path, monkeypatch):
    """run.sh --init: the configuration is that of the release, and the folder of the run says where it is from."""
    out, ours = tmp_path / "mine", str(ROOT / "egs/wavdir")
    shutil.copytree(trained / "out", out)
    monkeypatch.chdir(tmp_path)

    def resolved(**options):
        wanted = RunOptions(ours, str(ROOT / "conf"), root=[str(tmp_path)], dry_run=True, **options)
        return resolve(wanted, several_machines=False)

    said = "features.snip_edges was True and is False"
    with pytest.raises(UserError, match=said):  # before features are computed
        check_configurations(resolved(init=str(out)))
    config = read_yaml(out / "teacher/config.yaml")
    config["front_end"]["features"] |= read_yaml(f"{ours}/conf/fbank.yaml")
    config["front_end"]["vad"] |= read_yaml(ROOT / "conf/vad.yaml")
    dump_config(config, out / "teacher/config.yaml")
    options = ("--corpus-dir", ours, "--root", tmp_path, "--work-dir", tmp_path / "w", "--dry-run")
    done = run(*options, "--init", out, "--stage", 2, "--stop-stage", 5)
    assert done.returncode == 0, done.stderr
    exp = "exp/dino-koleo-from-mine_wavdir/seed0"
    assert f"--config {out}/config.yaml --seed 0 --init {out} data/train_ssl {exp}" in done.stdout
    assert f"{exp}/teacher" in done.stdout
    (named,) = rows(resolved(init=str(out), models="dino-koleo"), "training", 4)
    words = ["--config", f"{ours}/conf/dino-koleo.yaml", "--seed", "0", "--init", str(out)]
    assert named.values == {"options": words, "exp": exp}
    (plain,) = rows(resolved(init=str(out / "student")), "training", 4)  # the encoder alone
    assert plain.values["exp"] == "exp/dino-koleo-from-dino-koleo-student_wavdir/seed0"
    with pytest.raises(UserError, match="is a release; its model is the folder .*mine/teacher"):
        resolved(model=[str(out)])
    with pytest.raises(UserError, match="is neither a release .* nor a model folder"):
        resolved(init=str(tmp_path))
