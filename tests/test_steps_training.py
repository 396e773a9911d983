"""steps/train.sh as a job: what a signal to it does, and what is wrong before there is one."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_train_dino import CONFIG, data  # noqa: F401  (a fixture)

from pydino.base import dump_config
from pydino.cli import main

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
@pytest.mark.parametrize("group", [False, True], ids=["step", "group"])
def test_a_signal_to_the_step_saves_the_run_and_leaves_nobody_behind(data, tmp_path, number, group):
    exp = tmp_path / "my exp"
    dump_config({**CONFIG, "epochs": 100000}, tmp_path / "long.yaml")
    command = [
        ROOT / "steps/train.sh",
        "--config",
        tmp_path / "long.yaml",
        "--num-threads",
        "1",
        data,
        exp,
    ]
    step = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 60
    while not (exp / "log.jsonl").exists():
        assert time.monotonic() < end and step.poll() is None
        time.sleep(0.05)
    (os.killpg if group else os.kill)(step.pid, number)
    step.communicate(timeout=60)
    # After Ctrl-C it ends by the signal, by which a script that called it learns that it was meant to stop
    # too.
    assert step.returncode == (-number if number == signal.SIGINT else 128 + number)
    assert ", saved; start it again" in (exp / "log/train.log").read_text()
    assert list((exp / "checkpoints").glob("*.pt"))
    assert not subprocess.run(["pgrep", "-f", str(exp)], capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "option, least",
    [
        ("--num-nodes", 1),
        ("--num-processes", 1),
        ("--num-threads", 1),
        ("--ngpu", 0),
        ("--max-restarts", 0),
        ("--seed", 0),
    ],
)
@pytest.mark.parametrize("value", ["x", "-1", "0"])
def test_a_mistake_does_not_wait_in_a_queue(data, tmp_path, option, least, value):
    dump_config(CONFIG, tmp_path / "conf.yaml")
    command = [
        ROOT / "steps/train.sh",
        "--cmd",
        "false",
        "--config",
        tmp_path / "conf.yaml",
        option,
        value,
        data,
        tmp_path / "exp",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    good = value == "0" and least == 0
    assert (
        done.returncode == 1
        and (f"{option}: should be a whole number from {least} on, got '{value}'" in done.stderr) != good
    )
    assert (tmp_path / "exp").exists() == good


RUN_PL = """#!/usr/bin/env bash
# As Kaldi's run.pl: words with blanks in double quotes, the others as they are, for a shell to read.
while [[ $1 == --* ]]; do shift 2; done
log=$1; shift
for word in "$@"; do
  if [[ $word == *[[:blank:]]* ]]; then line+=" \\"$word\\""; else line+=" $word"; fi
done
bash -c "${line# }" >"$log" 2>&1
"""
PYDINO = """#!/usr/bin/env bash
printf '%s\\n' "$@" >"$RECORD"
mkdir -p "${@: -1}" && echo '{"ingredients": {}, "outputs": {}}' >"${@: -1}/.done.train"
echo "force=${PYDINO_FORCE:-}" >>"$RECORD"
echo "2026-01-01 00:00:00 pydino train: epoch 1 (step 3 of 9)"
echo "a line of a library"
sleep 0.5
echo "pydino launch: saved"
exit "${STATUS:-0}"
"""


@pytest.fixture
def site(data, tmp_path, monkeypatch):  # noqa: F811
    """A site's wrapper, and a training that writes down what it was called with."""
    for name, text in (("run.pl", RUN_PL), ("pydino", PYDINO)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    monkeypatch.delenv("PYDINO_FORCE", raising=False)
    place = tmp_path / "R&D $(touch x) 'y'"
    shutil.copytree(data, place / "data")
    dump_config(CONFIG, place / "conf.yaml")
    return place


def test_a_sites_wrapper_gets_every_word_as_it_is(site, tmp_path, capsys, monkeypatch):
    override = "optimiser.betas=[0.9, 0.99]"
    arguments = ["--config", str(site / "conf.yaml"), "--set", override, "--num-threads", "3"]
    where = [str(site / "data"), str(site / "exp")]
    assert main(["train", "--cmd", "run.pl --mem 4G", *arguments, "--force", "true", *where]) == 0
    *words, force = (tmp_path / "record").read_text().splitlines()
    assert words[:1] == ["launch"] and words[words.index("--") + 1] == "train" and words[-2:] == where
    assert words[words.index("--set") + 1] == override and words[words.index("--num-threads") + 1] == "3"
    assert words[words.index("--scheduler") + 1] == "none" and force != "force=" and "--force" not in words
    assert not list(tmp_path.rglob("x"))
    said = capsys.readouterr().err
    assert "epoch 1 (step 3 of 9)" in said and "pydino launch: saved" in said and "library" not in said
    monkeypatch.setenv("STATUS", "7")
    assert main(["train", "--cmd", "run.pl", *arguments, where[0], str(site / "other")]) == 7


@pytest.mark.parametrize(
    "options, complaint",
    [
        (["--cmd", "run.pl", "--num-nodes", "2"], "--num-nodes 2 needs a scheduler"),
        (["--cmd", " "], "cannot run ''"),
        (["--num-processes", "2"], "are for jobs (steps/train.sh); here, use torchrun"),
        (["--cmd", "run.pl", "--labels", "nowhere"], "no such file: nowhere"),
        (["--cmd", "no-such-wrapper"], "cannot run 'no-such-wrapper'"),
        (["--cmd", "run.pl", "--set", "nosuch=1"], "--set nosuch=1: unknown key 'nosuch'; known"),
        (["--cmd", "run.pl", "--set", "method=xvector"], "unknown key 'koleo_weight'"),
        (["--cmd", "run.pl", "--labels", "labels"], "the method dino trains without labels"),
        (["--cmd", "run.pl", "--init", "nowhere"], "nowhere"),
        (["--cmd", "run.pl", "--set", "trainable=[head]"], "no part 'head'"),
    ],
)
def test_what_cannot_become_a_job_is_named(site, tmp_path, capsys, monkeypatch, options, complaint):
    monkeypatch.chdir(tmp_path)
    Path("labels").write_text("a b\n")
    assert main(["train", *options, "--config", str(site / "conf.yaml"), str(site / "data"), "exp"]) == 1
    assert complaint in capsys.readouterr().err and not Path("exp").exists()
    assert not (tmp_path / "record").exists()


@pytest.mark.parametrize(
    "method, spoil, complaint",
    [
        ("xvector", lambda data: None, "the method xvector trains on labels: give --labels"),
        ("dino", lambda data: (data / "feats.scp").unlink(), "no {data}/feats.scp"),
        ("dino", lambda data: (data / "conf/fbank.yaml").unlink(), "no {data}/conf/fbank.yaml"),
        ("dino", lambda data: (data / "utt2hash").unlink(), "{data}/utt2hash"),
        ("dino", lambda data: (data / "utt2emotion").write_text("a b\n"), "holds labels (utt2emotion)"),
    ],
)
def test_data_that_cannot_be_trained_on_cost_no_job(site, tmp_path, capsys, method, spoil, complaint):
    (site / "conf.yaml").write_text(f"method: {method}\n")
    spoil(site / "data")
    call = ["--config", str(site / "conf.yaml"), str(site / "data"), str(tmp_path / "exp")]
    assert main(["train", "--cmd", "run.pl", *call]) == 1
    assert complaint.format(data=site / "data") in capsys.readouterr().err
    assert not (tmp_path / "exp").exists() and not (tmp_path / "record").exists()


def test_another_run_in_the_folder_costs_no_job_and_a_job_that_does_nothing_is_named(site, tmp_path, capsys):
    call = ["--config", str(site / "conf.yaml"), str(site / "data"), str(tmp_path / "exp")]
    assert main(["train", "--cmd", "true", *call]) == 1
    assert "the job left no model" in capsys.readouterr().err
    (tmp_path / "exp/log.jsonl").touch()
    assert main(["train", "--cmd", "run.pl", *call]) == 1
    assert "holds an unknown run" in capsys.readouterr().err and not (tmp_path / "record").exists()


def test_a_step_of_its_own_checks_in_a_child_and_passes_on_its_status(site, tmp_path):
    """Where torch is not loaded yet."""
    step = [ROOT / "steps/train.sh", "--cmd", "false", "--config", site / "conf.yaml"]
    for options, said in ((["--set", "epocs=1"], "unknown key 'epocs' (did you mean 'epochs'?)"), ([], "")):
        done = subprocess.run(
            [*step, *options, site / "data", tmp_path / "exp"], capture_output=True, text=True, timeout=120
        )
        assert (
            done.returncode == 1 and done.stderr.count("pydino train:") == bool(said) and said in done.stderr
        )
        assert "Traceback" not in done.stderr and (tmp_path / "exp").exists() != bool(said)


def test_the_process_that_waits_has_no_torch():
    code = "import sys, pydino.cli.train, pydino.jobs.train_job; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
