"""The controller of ``./run.sh --detach``: the pipeline of a recipe folder, which goes on after logout.

On this machine it is a process with a session of its own. On Slurm it is one small job that runs
``run.sh``, which submits the rest; or, where jobs may not submit jobs, a chain: one job a stage, each of
which waits for the one before and does all of its work itself. Its output is ``exp/run.log``;
:mod:`.record` reads what it records.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

from pydino.base import UserError, read_json, warn, write_json, write_text

from ..launch.batch import fate, goes_back, queue_again
from ..processes import find_process
from ..signals import send_to_group, signals_raised
from ..slurm.backend import site_names
from ..slurm.config import find_config, read_slurm_config
from ..slurm.lookup import look_up, marked, new_entry
from ..slurm.scheduler import Slurm, Unreachable, short_names
from ..slurm.script import exports
from ..slurm.submit import submit
from ..wrapper.log import cannot_write, foot, head, put_aside
from ..wrapper.request import parse_request
from .record import LOG, RECORD, claim, log_of, new_record
from .status import job_records

MAX_RESTARTS = 100  # of a controller's job: it only waits, so each of its time limits is one restart
OWN_FOLDER = "PYDINO_DETACHED"  # variable with the folder exp of the controller, for its pipeline
_END_SECONDS = 120.0  # for a pipeline that was asked to end: training saves first
_LEAVE_SECONDS = 10.0  # for one that leaves its jobs; Slurm may kill after 30


class SlurmJob(NamedTuple):
    """What to submit: ``controller``, or ``stage N`` of a chain, which does the whole stage itself."""

    name: str
    command: list[str]
    options: list[str]  # of run_slurm.sh


def detach_here(exp: Path, command: list[str]) -> int:
    """Start the controller on this machine and return its process id. Raises UserError where one runs in this
    folder already, or it cannot be started.
    """
    lock = claim(exp)
    put_aside(str(exp / LOG))
    try:
        with open(exp / LOG, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pydino", "detach", "--control", "local", exp, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(lock,),
                # what it starts ignores it too
                preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
            )
    except OSError as error:
        raise cannot_write(str(exp / LOG), error) from error
    try:
        of_process = {"pid": process.pid, "since": find_process(process.pid).birth}
        write_json(exp / RECORD, new_record("local", command) | of_process)
    except BaseException:
        process.kill()
        raise
    return process.pid


def detach_to_slurm(exp: Path, command: list[str], jobs: list[SlurmJob], chain: bool = False) -> list[str]:
    """Submit the controller, or the jobs of a chain, each to start when the one before has succeeded; return
    their numbers. Each is in the record before it is submitted, so that none is lost whatever happens.

    Raises:
        UserError: a pipeline runs in this folder already, or sbatch refused.
        Interrupted: by a signal. In each case no job is left.
    """
    slurm = Slurm(inherited=(claim(exp),))
    entries: list[dict] = []
    record = {**new_record("chain" if chain else "slurm", command), "jobs": entries}
    place = SimpleNamespace(jobs=entries, path=exp / RECORD, write=lambda: write_json(exp / RECORD, record))
    try:
        with signals_raised():
            for job in jobs:
                log = log_of(exp, job.name).absolute()
                put_aside(str(log))
                script = str(log.with_suffix(".slurm.sh"))
                write_text(script, _script(exp, job, chain))
                ours = ["--parsable", "--requeue", "--signal=B:USR1@120", "--open-mode=append"]
                ours += [f"--job-name={log.stem}", f"--output={str(log).replace('%', '%%')}"]
                if entries:
                    ours += [f"--dependency=afterok:{entries[-1]['job']}", "--kill-on-invalid-dep=yes"]
                given = parse_request([*job.options, "LOG", "COMMAND"], site_names).given
                config = read_slurm_config(find_config(given.get("config")))
                entries.append(new_entry(script, name=job.name))
                place.write()
                sbatch = marked(entries[-1], [*config.command, *config.sbatch_options(given), *ours])
                submit(slurm, config, sbatch, place, warn)
    except BaseException:
        _take_back(exp, record)
        raise
    return [entry["job"] for entry in entries]


def _script(exp: Path, job: SlurmJob, chain: bool) -> str:
    role, backend = ("stage", "export PYDINO_BACKEND=local\n") if chain else ("slurm", "")
    words = shlex.join(["pydino", "detach", "--control", role, str(exp.absolute()), "--", *job.command])
    folder = shlex.quote(os.getcwd())
    return f"#!/usr/bin/env bash\n{exports()}{backend}cd {folder} || exit 1\nexec {words}\n"


def _take_back(exp: Path, record: dict) -> None:
    """Cancel the jobs of a pipeline that was not submitted completely. The record keeps them, as they may
    take a while to end.
    """
    slurm, entries = Slurm(), record["jobs"]
    try:
        if any(not entry["job"] for entry in entries):
            look_up(slurm, entries, exp / RECORD, ended=True)
        entries[:] = [entry | {"cancelled": True} for entry in entries if entry["job"]]
        jobs = [entry["job"] for entry in entries]
        if jobs:
            slurm.cancel(jobs)
            write_json(exp / RECORD, record)
            warn(f"cancelled what was submitted so far: Slurm job {short_names(jobs)}")
        else:
            (exp / RECORD).unlink(missing_ok=True)
    except (Unreachable, UserError) as error:
        known = short_names(entry["job"] for entry in entries if entry["job"]) or "(squeue --me shows it)"
        warn(f"what was submitted so far could not be cancelled ({error}); do so yourself: scancel {known}")


def control(exp: Path, command: list[str], kind: str) -> int:
    """Run the pipeline to its end, with the head and the foot of a log around its output; return its exit
    status.

    INT and TERM end it with all its jobs (``kind`` local), or save and end it (stage). On Slurm, where TERM
    comes with a cancellation as well as with a pre-emption or ``scontrol requeue``, and SIGUSR1 before the
    time limit, the pipeline gets HUP, by which it leaves its jobs to be found again; if the controller's
    own job was cancelled, its jobs then are too. (Slurm sends TERM to all processes of a job; wrappers in
    it ignore that.) A job that is to go on, and that Slurm does not queue again, goes back into the queue.
    """
    received: list[int] = []
    job, start = os.environ.get("SLURM_JOB_ID"), time.monotonic()
    leaves = kind == "slurm"
    where = socket.gethostname() + (f", Slurm job {job}" if job else "")
    print(head(shlex.join(command), where), end="", flush=True)

    def handler(number, _):
        received.append(number)
        send_to_group(process.pid, signal.SIGHUP if leaves else signal.SIGTERM)

    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            close_fds=False,  # the lock of the folder
            preexec_fn=(lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)) if kind != "local" else None,
            env={**os.environ, OWN_FOLDER: str(exp.absolute())},
        )
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}")
        code = 127
    else:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, handler)
        code = process.wait()
    code = 128 - code if code < 0 else code
    if code > 128 and job and not received:
        time.sleep(2)  # Slurm signals all processes of a job in any order: our own signal may come last
    reason = fate(job) if received and job and kind != "local" else ""
    if received:
        _wait_for_group(process.pid, _LEAVE_SECONDS if leaves else _END_SECONDS)
        code = code or 128 + received[0]
    if reason == "cancelled" and leaves:
        _cancel_jobs_of(exp)
    print(foot(code, time.monotonic() - start), end="", flush=True)
    if goes_back(reason, signal.SIGUSR1 in received):
        queue_again(job, MAX_RESTARTS)
    return code


def _cancel_jobs_of(exp: Path) -> None:
    """Cancel all jobs in the records below ``exp``, and mark them as cancelled."""
    slurm, jobs = Slurm(), []
    try:
        for path in job_records(exp):
            try:
                record = read_json(path)
                entries = record["jobs"]
                for entry in entries:
                    entry["cancelled"] = True
            except (UserError, KeyError, TypeError) as error:
                entries, record = [], None
                print(f"cannot mark the jobs of {path} as cancelled ({error})")
            script = os.path.abspath(path.removesuffix(".jobs.json") + ".slurm.sh")
            jobs += look_up(slurm, entries, path, script)
            if record:
                write_json(path, record)
        slurm.cancel(jobs)
        print(f"cancelled Slurm job {short_names(jobs)}" if jobs else "cancelled; no job was in the queue")
    except (UserError, Unreachable) as error:
        print(f"could not cancel all jobs ({error}); do so yourself: squeue --me, scancel JOB")


def _wait_for_group(group: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not send_to_group(group, 0):
            return
        time.sleep(0.1)
    print("not all processes that were asked to end have ended; they are left behind", file=sys.stderr)
