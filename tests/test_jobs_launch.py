"""What stands between a scheduler and the processes that train: signals handed on, ends told apart, a place
to meet.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pydino.base import UserError
from pydino.jobs.launch import batch, node
from pydino.jobs.launch.addresses import address_towards, free_port, interface_towards, own_address
from pydino.jobs.launch.node import FAILED, trainer

ROOT = Path(__file__).resolve().parent.parent


def test_an_address_needs_no_name():
    assert own_address(("127.0.0.1", 9)) == "127.0.0.1" and interface_towards("127.0.0.1") == "lo"
    assert address_towards(["no.such.name.invalid", "127.0.0.3"]) == "127.0.0.1"


def test_nodes_that_cannot_be_found_are_named_with_the_way_out(monkeypatch):
    with pytest.raises(UserError, match="no.such.name.invalid.*PYDINO_MASTER_ADDR"):
        address_towards(["no.such.name.invalid"])
    monkeypatch.setenv("PYDINO_MASTER_ADDR", "10.1.2.3")
    assert address_towards(["no.such.name.invalid"]) == "10.1.2.3"


def test_two_jobs_on_a_node_do_not_share_a_port():
    first = free_port(1234567)
    assert 20000 <= first < 30000
    with socket.socket() as s:
        s.bind(("", first))
        assert free_port(1234567) == first + 1 or free_port(1234567) != first


def test_one_process_needs_no_torchrun():
    assert trainer(["train"], 1) == [sys.executable, "-P", "-m", "pydino", "train"]
    words = trainer(["train"], 4, 2, 1, "10.0.0.1:20007")
    assert "10.0.0.1" in words and "20007" in words and words[-3:] == ["-m", "pydino", "train"]


HEARS = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(8))
os.write(1, b"up" + bytes([10]))
time.sleep(30)
"""


@pytest.mark.parametrize("number, heard", [(signal.SIGUSR1, 7), (signal.SIGTERM, 8), (signal.SIGHUP, 8)])
def test_a_signal_is_handed_on_and_told_in_the_exit_status(number, heard, tmp_path):
    code = (
        "import sys; from pydino.jobs.launch import node as launch\n"
        f"launch.trainer = lambda *_: [sys.executable, '-c', {HEARS!r}]\n"
        "run = launch.run_forwarding\n"
        "def loud(*a, **k):\n    ended = run(*a, **k); print('ended', ended[0]); return ended\n"
        "launch.run_forwarding = loud\n"
        "sys.exit(launch.launch_here([], 1))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "up\n"
    process.send_signal(number)
    said, _ = process.communicate(timeout=20)
    assert said == f"ended {heard}\n" and process.returncode == 128 + number


def test_a_trainer_that_was_killed_is_said_to_have_been(capfd):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(node, "trainer", lambda *_: ["bash", "-c", "kill -9 $$"])
        assert node.launch_here([], 1) == 128 + signal.SIGKILL
    assert "a training process was killed (signal 9): often" in capfd.readouterr().err


@pytest.mark.parametrize("rank, returned", [(0, 138), (1, 0)])
def test_only_the_first_node_ends_the_others_when_it_was_warned(rank, returned, tmp_path):
    code = (
        "import sys; from pydino.jobs.launch import node as launch\n"
        f"launch.trainer = lambda *_: [sys.executable, '-c', {HEARS!r}]\n"
        f"sys.exit(launch.launch_node([], 1, 2, {rank}, '127.0.0.1:1', {str(tmp_path / 'told')!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=20) == returned
    assert (tmp_path / "told").exists() == (rank == 0) and (rank or (tmp_path / "told").read_text() == "10")


def test_what_torchrun_started_saves_in_its_own_time(tmp_path):
    """Both processes hear, also those that torchrun would not tell, and the exit status is theirs."""
    script = tmp_path / "train.py"
    save = f"time.sleep(1), open({str(tmp_path / 'saved')!r} + os.environ['RANK'], 'w'), sys.exit(138)"
    script.write_text("import os\n" + HEARS.replace("sys.exit(7)", f"({save})"))
    command = [
        sys.executable,
        "-m",
        "pydino.cli._torchrun",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(script),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert [process.stdout.readline() for _ in range(2)] == ["up\n"] * 2
    process.send_signal(signal.SIGUSR1)
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == 138 and "Traceback" not in errors, errors
    assert (tmp_path / "saved0").exists() and (tmp_path / "saved1").exists()


@pytest.mark.parametrize(
    "srun, state, restarts, code, queued",
    [
        (0, "RUNNING", 0, 0, False),
        (FAILED, "RUNNING", 0, 1, False),
        (1, "RUNNING", 0, 1, False),
        (138, "RUNNING", 0, 138, True),  # the warning before the time limit
        (138, "RUNNING", 2, 138, False),  # too often
        (138, "CANCELLED", 0, 138, False),
        (143, "TIMEOUT", 1, 143, True),
        (143, "PREEMPTED", 1, 143, True),
        (143, "CANCELLED", 0, 143, False),
        (143, "RUNNING", 0, 143, False),  # somebody asked the processes to end
        (143, "PENDING", 0, 143, False),  # Slurm has queued it itself
        # the first node was warned and has saved, and srun then ended the second
        ("143 USR1", "RUNNING", 0, 138, True),
    ],
)
def test_which_ends_go_back_into_the_queue(srun, state, restarts, code, queued, tmp_path, monkeypatch):
    srun, _, warned = str(srun).partition(" ")
    tell = (
        f"while [ $1 != --signal-file ]; do shift; done; echo {int(signal.SIGUSR1)} > $2; " if warned else ""
    )
    (tmp_path / "srun").write_text(f"#!/bin/sh\n{tell}exit {srun}\n")
    (tmp_path / "scontrol").write_text(
        f"#!/bin/sh\ncase $1 in requeue) touch {tmp_path}/queued ;; *) echo JobId=7 JobState={state} "
        "Reason=x ;; esac\n"
    )
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    monkeypatch.setattr(batch.time, "sleep", lambda _: None)
    assert batch.launch_job(["train"], 1, 1, max_restarts=2) == code
    assert (tmp_path / "queued").exists() == queued


def test_a_job_without_the_nodes_that_were_asked_for_says_what_is_missing(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    with pytest.raises(
        UserError,
        match=r"--num-nodes 2, but job 7 has 1; .*\n  option num_nodes=\* --nodes=\$0 --ntasks-per-node=1",
    ):
        batch.launch_job(["train"], 1, 2, 20)
