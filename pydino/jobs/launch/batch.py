"""Training as a Slurm job: a step on every node of it, and, when the job has to end before its work is
done, its way back into the queue.

Runs in the batch script of a job, whatever wrapper submitted it. ``SLURM_RESTART_COUNT`` is how often the
job has been queued again, by itself or by Slurm (a dead node, a pre-emption).
"""

import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from pydino.base import UserError, log, warn

from .addresses import address_towards, free_port
from .node import ASKED_TO_END, FAILED, supervise


def launch_job(command: list[str], processes: int, nodes: int, max_restarts: int) -> int:
    """Train on every node of this job: 0 when it is done, 1 when it failed, 128 and the signal's number
    when it was interrupted.

    An interrupted job goes back into the queue, unless it was cancelled or has been there ``max_restarts``
    times.

    Raises:
        UserError: the job does not have the nodes that were asked for, or was restarted too often.
    """
    job, restarts = os.environ["SLURM_JOB_ID"], num_restarts()
    if restarts > max_restarts:
        limit = f"--max-restarts is {max_restarts}; submit it again to go on"
        raise UserError(f"job {job} was started again {restarts} times, and {limit}")
    here = int(os.environ.get("SLURM_JOB_NUM_NODES", 1))
    if here != nodes:
        raise UserError(
            f"--num-nodes {nodes}, but job {job} has {here}; conf/slurm.conf should have the line\n"
            "  option num_nodes=* --nodes=$0 --ntasks-per-node=1"
        )
    if restarts:
        log(f"job {job}: start {restarts + 1} of at most {max_restarts + 1}")
    with tempfile.NamedTemporaryFile(mode="r", prefix=f"pydino-job{job}-") as signal_file:
        code, received = supervise(_step(command, processes, nodes, int(job), signal_file.name), "srun")
        number = int(Path(signal_file.name).read_text() or 0)
    if code == 0 and not number:
        return 0
    interrupted = code - 128 in ASKED_TO_END  # srun's exit status where tasks were asked to end
    if code == FAILED or not (interrupted or received):
        return 1
    number = number or received or code - 128
    if goes_back(fate(job), number == signal.SIGUSR1):
        queue_again(job, max_restarts)
    return 128 + number


def _step(command: list[str], processes: int, nodes: int, job: int, signal_file: str) -> list[str]:
    """Return srun's command line: one launcher a node, each with all that the job has there."""
    meet = f"127.0.0.1:{free_port(job)}"
    if nodes > 1:
        address = address_towards(addresses_of_others())
        meet = f"{f'[{address}]' if ':' in address else address}:{free_port(job)}"
        log(f"job {job}: {nodes} nodes ({os.environ.get('SLURM_JOB_NODELIST')}) meet at {meet}")
    srun = f"srun --nodes {nodes} --ntasks {nodes} --ntasks-per-node 1 --kill-on-bad-exit=1 --wait=0"
    srun += " --input=none --export=ALL --mpi=none"
    if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
        srun += f" --cpus-per-task {cpus}"  # srun does not inherit it from sbatch
    launcher = f"pydino launch --processes {processes} --num-nodes {nodes} --meet {meet} --signal-file"
    return [*srun.split(), *launcher.split(), signal_file, "--", *command]


def addresses_of_others() -> list[str]:
    """Return the addresses of the job's nodes except the first, this one, as Slurm itself reaches them."""
    names = _ask("scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]).split()
    found = []
    for name in names[1:]:
        match = re.search(r"\bNodeAddr=(\S+)", _ask("scontrol", "--oneliner", "show", "node", name))
        found += [match[1]] if match else []
        found += [name]
    return list(dict.fromkeys(found))


def _ask(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def fate(job: str) -> str:
    """Return why the job of this process was sent a signal: ``cancelled``; ``queued again``, by Slurm itself;
    ``ended early``, by the time limit, a pre-emption or its node; or ``unknown``.

    A job that is being ended is COMPLETING, for whatever reason. One that Slurm queues again has one
    restart more than its environment says.
    """
    fields = dict(re.findall(r"(\w+)=(\S+)", _ask("scontrol", "--oneliner", "show", "job", job)))
    state = fields.get("JobState", "")
    if int(fields.get("Restarts", 0)) > num_restarts():
        return "queued again"
    early = fields.get("Reason") in ("TimeLimit", "NodeDown") or fields.get("PreemptTime", "None") != "None"
    if early or state in ("TIMEOUT", "PREEMPTED", "NODE_FAIL"):
        return "ended early"
    return "cancelled" if state in ("CANCELLED", "COMPLETING") else "unknown"


def goes_back(what: str, warned: bool) -> bool:
    """Return whether a job of that :func:`fate` has to queue itself again; ``warned``: it got SIGUSR1, the
    warning before its end.
    """
    return what == "ended early" or (what == "unknown" and warned)


def num_restarts() -> int:
    """Return how often the job of this process was queued again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", 0))


def queue_again(job: str, max_restarts: int) -> None:
    """Put this process's job back into the queue and wait to be ended; return where that is not possible."""
    if (restarts := num_restarts()) >= max_restarts:
        limit = f"started again {restarts} times, as often as --max-restarts allows"
        warn(f"job {job} was {limit}; start the step again and it goes on")
        return
    log(f"job {job} goes back into the queue (restart {restarts + 1} of at most {max_restarts})")
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    if done.returncode == 0:
        time.sleep(60)  # Slurm ends this process; one that ended by itself might look like a failure
    else:
        reason = done.stderr.strip()
        warn(f"job {job} could not be queued again ({reason}); start the step again and it goes on")
