"""The controller of ``./run.sh --detach``: the pipeline of a recipe folder, going on after the person who
began it has logged out.

On this machine it is a process of its own session. On Slurm it is one small job that runs ``run.sh``, which
submits the rest; or, where jobs may not submit jobs, a chain: one job a stage, each of which waits for the
one before and does all of its work by itself. What it says is in ``exp/run.log``; what others can know of it
is told by :mod:`.detached`.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pydino.base import UserError, read_json, warn, write_json, write_text

from .detached import LOG, RECORD, claim, find_lost, new_record
from .interruption import signals_raised
from .log import put_aside
from .options import parse_request
from .processes import find_process
from .slurm import site_names
from .slurm_config import find_config, read_slurm_config
from .slurm_endings import short_name
from .slurm_launch import fate, goes_back, queue_again
from .slurm_queries import Slurm, Unreachable
from .slurm_script import exports
from .slurm_submit import submit_surely
from .status import job_records

MAX_RESTARTS = 100  # of a job of the controller; it only waits, so that each of its time limits is one
# names, to the pipeline of a controller, the folder exp in which it is the one at work
OWN_FOLDER = "PYDINO_DETACHED"
_DATE = "%a %b %e %H:%M:%S %Z %Y"
_LAST_WORDS_SECONDS = 120.0  # until all of a pipeline that was asked to end has ended: training saves first
_LEAVING_SECONDS = 10.0  # until all of one that leaves its jobs has; Slurm may kill after 30


def detach_here(exp: Path, command: list[str]) -> int:
    """Start the controller on this machine and return its process id.

    Raises:
        UserError: one is at work in this folder already, or cannot be started.
    """
    lock = claim(exp)
    put_aside(str(exp / LOG))
    told, tell = os.pipe()
    if child := os.fork():
        os.close(tell)
        with os.fdopen(told, "r") as stream:  # until the controller has settled in
            said = stream.read()
        os.waitpid(child, 0)
        if not said.isdigit():
            raise UserError(f"the controller could not be started: {said}")
        return int(said)
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what it starts ignores it too
        descriptors = (
            os.open(os.devnull, os.O_RDONLY),
            os.open(exp / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666),
        )
        write_json(
            exp / RECORD,
            {**new_record("local", command), "pid": os.getpid(), "since": find_process(os.getpid()).birth},
        )
        for target, source in enumerate((descriptors[0], descriptors[1], descriptors[1])):
            os.dup2(source, target)
    except BaseException as error:
        os.write(
            tell,
            (
                f"cannot write {error.filename} ({error.strerror})"
                if isinstance(error, OSError)
                else str(error)
            ).encode(),
        )
        os._exit(1)
    try:
        os.write(tell, str(os.getpid()).encode())
        os.close(tell)
        code = control(exp, command, "local", lock)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    os._exit(code)


def detach_to_slurm(exp: Path, command: list[str], wrapper: str) -> str:
    """Submit the controller and return its job.

    Args:
        wrapper: ``run_slurm.sh`` with the options that the controller's job gets.

    Raises:
        UserError: one is at work in this folder already, or sbatch refused.
        Interrupted: by a signal, when nothing is left of it.
    """
    lock = claim(exp)
    job = {"name": "controller", "stem": "run", "command": command, "options": wrapper.split()[1:]}
    return _submit_all(exp, "slurm", command, [job], lock)[0]


def detach_as_chain(
    exp: Path, command_of: Callable[[str], list[str]], stages: dict[str, list[str]]
) -> list[str]:
    """Submit a job a stage, each to begin when the one before has ended well, and return them.

    Args:
        command_of: the command of a stage.
        stages: by number, the wrapper's options for a job that does the whole stage.

    Raises:
        UserError: something is at work in this folder already, or sbatch refused; then no job is left.
        Interrupted: by a signal; then no job is left either.
    """
    lock = claim(exp)
    jobs = [
        {
            "name": f"stage {stage}",
            "stem": f"run.stage{stage}",
            "command": command_of(stage),
            "options": options,
        }
        for stage, options in stages.items()
    ]
    return _submit_all(exp, "chain", command_of("N"), jobs, lock)


def _submit_all(exp: Path, kind: str, command: list[str], jobs: list[dict], lock: int) -> list[str]:
    """Submit jobs, each after the one before; the record tells of them before, so that none is forgotten
    whatever happens.
    """
    entries: list[dict] = []
    record = {**new_record(kind, command), "jobs": entries}
    try:
        with signals_raised():
            for job in jobs:
                put_aside(str(exp / f"{job['stem']}.log"))
                after = (
                    [f"--dependency=afterok:{entries[-1]['job']}", "--kill-on-invalid-dep=yes"]
                    if entries
                    else []
                )
                script = (exp / f"{job['stem']}.slurm.sh").absolute()
                entry = {"name": job["name"], "script": str(script), "job": None}
                entries.append(entry)
                write_json(exp / RECORD, record)

                def taken(number: str, entry=entry) -> None:
                    entry["job"] = number
                    write_json(exp / RECORD, record)

                _submit(exp, job, "stage" if kind == "chain" else kind, script, after, taken, lock)
    except BaseException:
        _take_back(exp, record)
        raise
    return [entry["job"] for entry in entries]


def _take_back(exp: Path, record: dict) -> None:
    """Cancel what was submitted of a pipeline that is not to be. It stays in the record, as it may live on a
    while.
    """
    slurm, entries = Slurm(), record["jobs"]
    try:
        find_lost(entries, slurm)
        entries[:] = [entry | {"cancelled": True} for entry in entries if entry["job"]]
        jobs = [entry["job"] for entry in entries]
        if jobs:
            slurm.cancel(jobs)
            write_json(exp / RECORD, record)
            warn(f"cancelled what was submitted so far: Slurm job {' '.join(map(short_name, jobs))}")
        else:
            (exp / RECORD).unlink(missing_ok=True)
    except (Unreachable, UserError) as error:
        known = (
            " ".join(short_name(entry["job"]) for entry in entries if entry["job"])
            or "(squeue --me names it)"
        )
        warn(f"what was submitted so far could not be cancelled ({error}); do so yourself: scancel {known}")


def control(exp: Path, command: list[str], kind: str, lock: int | None = None) -> int:
    """Run the pipeline to its end, with the head and the foot of a log around what it says; return its exit
    status.

    INT and TERM end it with all its jobs (``kind`` local), or save and end it (stage). On Slurm, where TERM
    comes with a cancellation as with a pre-emption or ``scontrol requeue``, and SIGUSR1 before the time
    limit, the pipeline is told by HUP to leave its jobs, to be found again; if the controller's own job was
    cancelled, theirs are then. (Slurm sends TERM to all processes of a job; its wrappers know that it is not
    for them.) What is to go on, and is not by Slurm, goes back into the queue.
    """
    asked: list[int] = []
    job, began = os.environ.get("SLURM_JOB_ID"), time.monotonic()
    where = f"{socket.gethostname()}{f', Slurm job {job}' if job else ''}"
    _say(f"# {shlex.join(command)}\n# Running on {where}\n# Started at {time.strftime(_DATE)}\n#")
    leaves = kind == "slurm"

    def hear(number, _):
        asked.append(number)
        _signal_group(process.pid, signal.SIGHUP if leaves else signal.SIGTERM)

    def settle():
        signal.signal(signal.SIGHUP, signal.SIG_IGN if kind == "local" else signal.SIG_DFL)

    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            pass_fds=() if lock is None else (lock,),
            restore_signals=True,
            preexec_fn=settle,
            env={**os.environ, OWN_FOLDER: str(exp.absolute())},
        )
    except OSError as error:
        _say(f"cannot run {command[0]}: {error.strerror}")
        code = 127
    else:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, hear)
        code = process.wait()
    code = 128 - code if code < 0 else code
    what = fate(job) if asked and job and kind != "local" else ""
    if asked:
        _wait_for_group(process.pid, _LEAVING_SECONDS if leaves else _LAST_WORDS_SECONDS)
        code = code or 128 + asked[0]
    if what == "cancelled" and leaves:
        _cancel_jobs_of(exp)
    _say(
        f"# Accounting: time={time.monotonic() - began:.0f} threads=1\n# Ended (code {code}) at "
        f"{time.strftime(_DATE)}, "
        f"elapsed time {time.monotonic() - began:.0f} seconds"
    )
    if goes_back(what, signal.SIGUSR1 in asked):
        queue_again(job, int(os.environ.get("SLURM_RESTART_COUNT", 0)), MAX_RESTARTS)
    return code


def _cancel_jobs_of(exp: Path) -> None:
    """Cancel all jobs that stand in the records below ``exp``, and mark them as given up."""
    slurm, jobs = Slurm(), []
    try:
        for path in job_records(exp):
            jobs += slurm.find(os.path.abspath(path.removesuffix(".jobs.json") + ".slurm.sh"))
            try:
                record = read_json(path)
                for entry in record["jobs"]:
                    jobs += [entry["job"]] if entry["job"] and ";" in entry["job"] else []
                    entry["cancelled"] = True
                write_json(path, record)
            except (UserError, KeyError, TypeError) as error:
                _say(f"the record {path} cannot be read, or not be marked ({error})")
        if jobs:
            slurm.cancel(jobs)
    except (UserError, Unreachable) as error:
        _say(f"could not cancel all jobs ({error}); do so yourself: squeue --me, scancel JOB")
        return
    _say(
        f"cancelled Slurm job {' '.join(map(short_name, jobs))}"
        if jobs
        else "cancelled; no job was in the queue"
    )


def _submit(
    exp: Path, job: dict, kind: str, script: Path, more: list[str], taken: Callable[[str], None], lock: int
) -> None:
    config = read_slurm_config(find_config(None))
    given = parse_request([*job["options"], "LOG", "COMMAND"], site_names).given
    log = str((exp / f"{job['stem']}.log").absolute()).replace("%", "%%")
    words = shlex.join(["pydino", "detach", "--control", kind, str(exp.absolute()), "--", *job["command"]])
    backend = "export PYDINO_BACKEND=local\n" if kind == "stage" else ""  # the job does all by itself
    write_text(
        script,
        f"#!/usr/bin/env bash\n{exports()}{backend}cd {shlex.quote(os.getcwd())} || exit 1\nexec {words}\n",
    )
    sbatch = [
        *config.command,
        *config.sbatch_options(given),
        f"--job-name={job['stem']}",
        "--parsable",
        "--requeue",
        "--signal=B:USR1@120",
        "--open-mode=append",
        f"--output={log}",
        *more,
        str(script),
    ]
    try:
        submit_surely(Slurm(inherited=(lock,)), sbatch, str(script), warn, taken)
    except Unreachable as error:
        raise UserError(f"Slurm takes no jobs ({error}); the same command tries again") from error
    except UserError as error:
        raise UserError(
            f"sbatch refused: {error}\n{config.place} tells how it is asked. The command was: "
            f"{shlex.join(sbatch)}"
        ) from error


def _say(text: str) -> None:
    print(text, flush=True)


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def _wait_for_group(group: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    print("what was asked to end has not; it is left behind", file=sys.stderr)
