"""Training as a Slurm job: across nodes, and its way through signals, pre-emption and dead nodes back to the
same weights.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from test_train_distributed import CONFIG, data, outcome  # noqa: E402, F401   (data is a fixture)

from pydino.base import dump_config  # noqa: E402

pytestmark = pytest.mark.slurm
LONG = {
    **CONFIG,
    "epochs": 64,
    "checkpoint_steps": 1000000,
    "optimiser": {"name": "sgd", "lr": 0.005, "warmup_epochs": 1},
}


@pytest.fixture
def site(tmp_path, cluster, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    monkeypatch.setenv("PATH", cluster.environment["PATH"])
    for name in (
        "PYDINO_SLURM_CONF",
        "PYDINO_RECIPE_SLURM_CONF",
        "PYDINO_MADE_FROM",
        "PYDINO_FORCE",
        "SBATCH_SIGNAL",
    ):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "a b"
    folder.mkdir()
    yield folder
    cluster.ask("scancel", "--user", str(os.getuid()))
    cluster.until(lambda: not cluster.queue())


def start(data, exp, *options, config=CONFIG, cmd="run_slurm.sh"):
    dump_config(config, exp.with_suffix(".yaml"))
    command = [
        ROOT / "steps/train.sh",
        "--cmd",
        cmd,
        "--num-threads",
        "1",
        "--config",
        exp.with_suffix(".yaml"),
        *options,
        data,
        exp,
    ]
    return subprocess.Popen(
        [*map(str, command)],
        cwd=exp.parent,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def begun(process, exp, lines=1, seconds=60):
    """Wait until it trains; return its job."""
    log, end = exp / "log.jsonl", time.monotonic() + seconds
    while not log.exists() or len(log.read_text().splitlines()) < lines:
        assert time.monotonic() < end and process.poll() is None, (exp / "log/train.log").read_text()
        time.sleep(0.05)
    return re.search(r"Slurm job (\d+)", (exp / "log/train.log").read_text())[1]


def ended(process, exp, code=0):
    said = process.communicate(timeout=120)[1]
    text = (exp / "log/train.log").read_text()
    assert process.returncode == code, f"{said}\n{text}"
    return said, text


def same(one, other, tolerance=0.0):
    (a, a_lines), (b, b_lines) = outcome(one), outcome(other)
    for name in a:
        assert torch.allclose(a[name].float(), b[name].float(), rtol=0, atol=tolerance), name
    assert [line["step"] for line in a_lines] == [line["step"] for line in b_lines]
    if tolerance < 1e-4:
        assert [x["loss"] for x in a_lines] == pytest.approx([y["loss"] for y in b_lines], rel=1e-3)


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    exp = tmp_path_factory.mktemp("undisturbed") / "exp"
    ended(start(data, exp, config=LONG, cmd="run_local.sh"), exp)
    return exp


def test_two_nodes_train_as_one(data, site):
    ended(start(data, site / "one", cmd="run_local.sh"), site / "one")
    said, text = ended(start(data, site / "two", "--num-nodes", "2"), site / "two")
    assert "2 nodes (127.0.0.[2-3]) meet at 127.0.0.1:" in text and "on 2 x cpu" in said
    same(site / "one", site / "two", tolerance=2e-5)


def test_a_warned_job_of_two_nodes_saves_queues_itself_and_ends_as_if_nothing_had_been(
    data, site, cluster, undisturbed
):
    # which discards what was there once
    process = start(data, site / "cut", "--num-nodes", "2", "--force", "true", config=LONG)
    job = begun(process, site / "cut", lines=3)
    cluster.ask("scancel", "--signal", "USR1", job)
    warned = time.monotonic()
    cluster.until(
        lambda: (
            list((site / "cut/checkpoints").glob("*.pt"))
            and "stopped by" in (site / "cut/log/train.log").read_text()
        )
    )
    assert time.monotonic() - warned < 10
    said, text = ended(process, site / "cut")
    assert "goes back into the queue (restart 1 of at most 50)" in said and "resuming" in said
    assert "Restarts=1" in cluster.show(job)
    same(undisturbed, site / "cut", tolerance=5e-3)  # two processes against one


def test_preempted_and_resumed(data, site, cluster, undisturbed):
    process = start(data, site / "cut", config=LONG)
    job = begun(process, site / "cut", lines=3)
    other = cluster.ask(
        "sbatch", "--parsable", "-p", "hi", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 3"
    ).strip()
    cluster.until(lambda: "JobState=PENDING" in cluster.show(job), 60)
    said, text = ended(process, site / "cut")
    assert "stopped by" in text and "resuming" in text and "Restarts=" in cluster.show(job) and other
    same(undisturbed, site / "cut")


def test_a_dead_node_costs_what_was_not_saved(data, site, cluster, undisturbed):
    process = start(data, site / "cut", config={**LONG, "checkpoint_steps": 5})
    job = begun(process, site / "cut", lines=8)
    node = re.search(r" NodeList=(\S+)", cluster.show(job))[1]
    kill_node(cluster, node)
    cluster.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    cluster.until(lambda: "Restarts=1" in cluster.show(job), 60)
    cluster.start_node(node)
    said, text = ended(process, site / "cut")
    assert "resuming" in text and "start 2 of at most 51" in text
    same(undisturbed, site / "cut")


def kill_node(cluster, node):
    """As if the power had failed: the daemon, what watches over its jobs, and the jobs. (They are all on
    it.)
    """
    cluster.stop_daemon(node, signal.SIGKILL)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        ours = f"SLURM_CONF={cluster.conf}".encode() in environment
        of_a_job = any(variable.startswith(b"SLURM_JOB_ID=") for variable in environment)
        if ours and (command.startswith(b"slurmstepd:") or of_a_job):
            os.kill(int(pid), signal.SIGKILL)


def test_max_restarts_bounds_it_and_the_step_started_again_goes_on(data, site, cluster, undisturbed):
    process = start(data, site / "cut", "--max-restarts", "0", config=LONG)
    job = begun(process, site / "cut", lines=3)
    cluster.ask("scancel", "--signal", "USR1", job)
    said, text = ended(process, site / "cut", code=1)
    assert "as often as --max-restarts allows" in text and "Restarts=0" in cluster.show(job)
    ended(start(data, site / "cut", config=LONG), site / "cut")
    same(undisturbed, site / "cut")


def test_a_cancelled_job_is_saved_and_stays_away(data, site, cluster):
    process = start(data, site / "cut", config={**LONG, "epochs": 4000})
    job = begun(process, site / "cut", lines=3)
    cluster.ask("scancel", job)
    said, text = ended(process, site / "cut", code=1)
    assert "CANCELLED" in said and "Restarts=0" in cluster.show(job) and "saved" in text
    assert list((site / "cut/checkpoints").glob("*.pt"))


def test_a_failure_is_not_queued_again(data, site, cluster):
    process = start(data, site / "bad", "--num-nodes", "2", config={**CONFIG, "batch_size": 15})
    said, text = ended(process, site / "bad", code=1)
    assert "batch_size 15 cannot be divided" in said and "FAILED" in said and "goes back" not in text
    assert "Restarts=0" in cluster.show(re.search(r"Slurm job (\d+)", text)[1]) and "Traceback" not in text


def test_several_nodes_need_a_scheduler(data, site):
    said = start(data, site / "two", "--num-nodes", "2", cmd="run_local.sh").communicate(timeout=30)[1]
    assert "--num-nodes 2 needs a scheduler" in said
