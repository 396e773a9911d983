"""Detached pipelines on Slurm: a controller that is queued again finds its jobs, one that is cancelled takes
them along; a chain.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slurm
# A pipeline of one job that waits for a file, and does its work once.
PIPELINE = (
    "echo pipeline begins; run_slurm.sh exp/log/work.log bash -c "
    "'echo once >> begun; for i in $(seq 300); do if [ -e go ]; then exit 0; fi; sleep 0.1; done; exit 1' "
    "&& echo pipeline ends"
)


@pytest.fixture
def work(tmp_path, cluster, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    monkeypatch.setenv("PATH", cluster.environment["PATH"])
    for name in ("PYDINO_SLURM_CONF", "PYDINO_MADE_FROM", "PYDINO_FORCE"):
        monkeypatch.delenv(name, raising=False)
    work = tmp_path / "a b"
    work.mkdir()
    (work / "slurm.conf").write_text("command sbatch\noption mem=*\n")
    monkeypatch.setenv("PYDINO_SLURM_CONF", str(work / "slurm.conf"))
    yield work
    cluster.ask("scancel", "--user", str(os.getuid()))
    cluster.until(lambda: not cluster.queue())


def detach(work, *command, options=("--wrapper", "run_slurm.sh --mem 1G")):
    command = ["pydino", "detach", *options, "exp", "--", *command]
    return subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=60)


def status(work):
    return subprocess.run(
        ["pydino", "status", "."], cwd=work, capture_output=True, text=True, timeout=60
    ).stdout


def jobs(work):
    return [entry["job"] for entry in json.loads((work / "exp/run.json").read_text())["jobs"]]


def test_a_controller_that_is_queued_again_finds_its_jobs(work, cluster):
    done = detach(work, "bash", "-c", PIPELINE)
    assert done.returncode == 0, done.stderr
    cluster.until(lambda: (work / "begun").exists())
    second = detach(work, "true")
    assert second.returncode == 1 and "is running in" in second.stderr
    assert "controller, Slurm job" in status(work) and ": running" in status(work)
    (job,) = jobs(work)
    cluster.ask("scancel", "--batch", "--signal", "USR1", job)  # as before its time limit
    cluster.until(lambda: "Restarts=1" in cluster.show(job))
    assert len(cluster.queue()) == 2  # its job goes on
    cluster.until(
        lambda: "jobs are in the queue, from an earlier run" in (work / "exp/run.log").read_text(), 60
    )
    (work / "go").touch()
    cluster.until(lambda: not cluster.queue(), 60)
    text = (work / "exp/run.log").read_text()
    assert "pipeline ends\n" in text and text.rstrip().splitlines()[-1].startswith("# Ended (code 0)"), text
    assert (work / "begun").read_text() == "once\n"
    assert "finished" in status(work)


def test_a_cancelled_controller_takes_its_jobs_along(work, cluster):
    assert detach(work, "bash", "-c", PIPELINE).returncode == 0
    cluster.until(lambda: (work / "begun").exists())
    (job,) = jobs(work)
    record = json.loads((work / "exp/log/work.jobs.json").read_text())
    (work / "exp/log/another.jobs.json").write_text("{")
    cluster.ask("scancel", job)
    cluster.until(lambda: not cluster.queue(), 60)
    assert "Restarts=0" in cluster.show(job) and "JobState=CANCELLED" in cluster.show(
        record["jobs"][0]["job"]
    )
    assert json.loads((work / "exp/log/work.jobs.json").read_text())["jobs"][0]["cancelled"]


def test_a_controller_that_slurm_queues_again_leaves_its_jobs(work, cluster):
    """TERM, as a pre-emption sends it, to all processes of its job."""
    assert detach(work, "bash", "-c", PIPELINE).returncode == 0
    cluster.until(lambda: (work / "begun").exists())
    (job,) = jobs(work)
    cluster.ask("scontrol", "requeue", job)
    log = work / "exp/run.log"
    cluster.until(lambda: "jobs are in the queue, from an earlier run" in log.read_text(), 60)
    (work / "go").touch()
    cluster.until(lambda: not cluster.queue(), 60)
    assert (
        "goes on; the same command finds it again" in log.read_text()
        and "cancelled Slurm job" not in log.read_text()
    )
    assert log.read_text().rstrip().splitlines()[-1].startswith("# Ended (code 0)")
    assert (work / "begun").read_text() == "once\n" and "Restarts=1" in cluster.show(job)


def test_a_controller_whose_number_got_lost_is_found_by_its_script(work, cluster, monkeypatch):
    """sbatch says "Socket timed out", and the job was taken all the same."""
    real = shutil.which("sbatch", path=cluster.environment["PATH"])
    (work / "bin").mkdir()
    lost = "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1"
    (work / "bin/sbatch").write_text(f'#!/bin/sh\n{real} "$@" > /dev/null\n{lost}\n')
    (work / "bin/sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{work / 'bin'}{os.pathsep}{os.environ['PATH']}")
    done = detach(work, "sleep", "60")
    assert done.returncode == 0, done.stderr
    assert jobs(work) == cluster.queue()
    assert "is running in" in detach(work, "true").stderr


def test_a_chain_ends_where_a_stage_fails(work, cluster):
    program = work / "run.sh"
    program.write_text('#!/bin/sh\necho $PYDINO_BACKEND "$@" >> stages; [ $2 != 4 ]\n')
    program.chmod(0o755)
    options = [
        "--chain",
        "2 4 5",
        "--gpu-stages",
        "4",
        "--train-cmd",
        "run_slurm.sh --mem 1G",
        "--cuda-cmd",
        "run_slurm.sh",
        "--nj",
        "2",
    ]
    done = detach(work, program, "--detach", "--chain", options=[*options, "--ngpu", "1"])
    assert done.returncode == 0, done.stderr
    cluster.until(lambda: not cluster.queue(), 60)
    assert (work / "stages").read_text().splitlines() == [
        "local --stage 2 --stop-stage 2 --nj 2 --ngpu 0",
        "local --stage 4 --stop-stage 4 --nj 2 --ngpu 1",
    ]
    two, four, five = jobs(work)
    assert "gres:gpu:1" in cluster.show(four).replace(
        "gres/gpu:1", "gres:gpu:1"
    ) and "gpu" not in cluster.show(two)
    assert "JobState=CANCELLED" in cluster.show(five)
    text = status(work)
    assert "stage 2, Slurm job" in text and "ended with code 1" in text and "did not begin" in text


def test_a_chain_of_which_a_stage_is_refused_is_taken_back(work, cluster):
    options = [
        "--chain",
        "2 4",
        "--gpu-stages",
        "4",
        "--train-cmd",
        "run_slurm.sh --mem 1G",
        "--cuda-cmd",
        "run_slurm.sh",
    ]
    done = detach(work, "sleep", "60", "--detach", "--chain", options=[*options, "--nj", "1", "--ngpu", "99"])
    assert (
        done.returncode == 1
        and "sbatch refused" in done.stderr
        and "cancelled what was submitted so far" in done.stderr
    )
    cluster.until(lambda: not cluster.queue(), 60)
    assert "cancelled, as not all could be submitted" in status(work) and "stage 4" not in status(work)
    assert detach(work, "true").returncode == 0
