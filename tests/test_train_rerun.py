"""A finished training that is called again: nothing starts, no torch is imported, and whatever might make it
another run is noticed.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_train_dino import CONFIG, data  # noqa: F401  (a fixture)
from test_train_xvector import CONFIG as XVECTOR

import pydino.train.training as training
from pydino.base import dump_config, read_json, texts_of, write_json
from pydino.cli import main
from pydino.cli._steps import pending
from pydino.kaldi import read_table, write_table

ROOT = Path(__file__).parent.parent


@pytest.fixture
def finished(data, tmp_path, monkeypatch):  # noqa: F811
    """The call of a training on labels from a given model, which has ended well, in the folder of all."""
    monkeypatch.chdir(tmp_path)
    dump_config({**CONFIG, "epochs": 1}, "dino.yaml")
    assert main(["train", "--config", "dino.yaml", "--num-threads", "1", "train", "dino"]) == 0
    dump_config({**XVECTOR, "encoder": CONFIG["encoder"], "epochs": 1}, "base.yaml")
    Path("conf.yaml").write_text("extends: base.yaml\n")
    write_table("labels", {key: f"l{i % 3}" for i, key in enumerate(read_table("train/utt2hash"))})
    options = ["--config", "conf.yaml", "--labels", "labels", "--init", "dino/teacher", "--seed", "1"]
    call = ["train", *options, "--num-threads", "1", "train", "exp"]
    assert main(call) == 0
    return call


def reason(call: list[str]) -> str:
    return pending(["steps/train.sh", *call[1:]]).get("exp", "")


def test_it_is_up_to_date_and_a_wrapper_is_not_called(finished, capsys):
    assert reason(finished) == ""
    capsys.readouterr()
    assert main(["train", "--cmd", "no-such-wrapper", *finished[1:]]) == 0
    assert capsys.readouterr().err.endswith(" pydino train: exp is up to date\n")
    code = (
        "import sys; from pydino.cli._steps import pending; reasons = pending(sys.argv[1:]);"
        "sys.exit(bool(reasons) or 'torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "steps/train.sh", *finished[1:]]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode == 0


def append(text: str):
    """Return what adds a line to a file."""
    return lambda path: path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    "name, change",
    [
        ("base.yaml", lambda path: path.write_text(path.read_text().replace("epochs: 1", "epochs: 2"))),
        ("labels", lambda path: path.write_text(path.read_text().replace("l0", "l1", 1))),
        ("train/feats.scp", append("x y\n")),
        ("train/utt2hash", append("x 1\n")),
        ("train/vad.scp", append("x y\n")),
        ("train/vad.scp", Path.unlink),
        ("train/segments", lambda path: path.write_text("x y 0 1\n")),
        ("train/conf/fbank.yaml", lambda path: path.write_text("num_mel_bins: 7\n")),
        ("train/.done", Path.unlink),
        ("dino/teacher/config.yaml", append("# another\n")),
        ("dino/teacher/model.safetensors", lambda path: path.write_bytes(path.read_bytes() + b" ")),
        ("exp/model/model.safetensors", Path.unlink),
        ("exp/.done.train", Path.unlink),
    ],
)
def test_another_file_is_noticed(finished, name, change):
    change(Path(name))
    assert reason(finished)


@pytest.mark.parametrize(
    "options", [["--seed", "2"], ["--set", "margin=0.1"], ["--labels", "labels"], ["--init", "dino/student"]]
)
def test_another_option_is_noticed(finished, options):
    assert reason([*finished[:-2], *options, *finished[-2:]])


def test_force_discards_a_finished_run(finished, monkeypatch):
    monkeypatch.setenv("PYDINO_FORCE", "token")
    assert reason(finished) == "--force was given"
    before = Path("exp/.done.train").stat().st_mtime_ns
    assert main(finished) == 0 and Path("exp/.done.train").stat().st_mtime_ns != before
    assert reason(finished) == ""


@pytest.mark.parametrize("cmd", [None, "false"])
def test_an_unscientific_change_asks_the_run_once_and_a_different_run_is_still_refused(finished, capsys, cmd):
    """Without a job, which would wait for its GPUs."""
    call = [*finished[:-2], "--set", "log_steps=7", *finished[-2:]]
    assert reason(call) == "option set changed"
    weights = Path("exp/model/model.safetensors").stat().st_mtime_ns
    submitted = [] if cmd is None else ["--cmd", cmd]
    assert main([*call, *submitted]) == 0 and "exp is finished and up to date" in capsys.readouterr().err
    assert Path("exp/model/model.safetensors").stat().st_mtime_ns == weights
    assert reason(call) == ""
    other = [*finished[:-2], "--set", "margin=0.25", *finished[-2:]]
    assert main(other) == 1 and "exp holds another run: option margin" in capsys.readouterr().err
    assert reason(call) == "" and reason(other)


def test_tables_that_change_during_the_training_are_not_what_it_was_made_from(finished, monkeypatch):
    run = training.run_training

    def run_and_change(*arguments):
        run(*arguments)
        append("x y\n")(Path("train/feats.scp"))

    monkeypatch.setattr(training, "run_training", run_and_change)
    assert main(finished) == 0
    assert reason(finished) == "train/feats.scp changed"


def test_the_mark_compares_every_file_that_the_run_depends_on(finished):
    compared = read_json("exp/.done.call")["ingredients"]
    read = texts_of("exp/.done.train")
    assert {"train/feats.scp", "train/vad.scp", "train/utt2hash", "labels"} <= read.keys()
    assert read.items() <= compared.items()


def test_damaged_weights_of_the_same_size_are_written_again(finished):
    """From the last checkpoint, with the same values."""
    weights = Path("exp/model/model.safetensors")
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert "model.safetensors is not what was written" in reason(finished)
    assert main(finished) == 0 and weights.read_bytes() == before and not reason(finished)


def test_a_run_whose_recordings_were_moved_says_so(finished, capsys):
    mark = read_json("train/.done")
    mark["ingredients"]["what data/train/.done.features stands for"] = "other"
    write_json("train/.done", mark)
    assert main(finished) == 1
    said = capsys.readouterr().err
    assert (
        "exp holds another run: what train/.done stands for" in said and "the paths in wav.scp change" in said
    )
    assert "put the recordings back" in said
