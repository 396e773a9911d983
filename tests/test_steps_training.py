"""steps/train.sh as a job: what a signal to it does, and what is wrong before there is one."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from test_train_dino import CONFIG, data  # noqa: F401  (a fixture)

from pydino.base import dump_config

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
    # After Ctrl-C it ends by the signal, by which a script that called it learns that it was meant to stop too.
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
