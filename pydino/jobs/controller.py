"""The controller of ``./run.sh --detach``: the pipeline of a recipe folder, going on after the person who began it has logged out.

On this machine it is a process of its own session, with a lock in ``exp/`` that also what it started holds. On Slurm it is one small job
that runs ``run.sh``, which submits the rest; or, where jobs may not submit jobs, a chain: one job a stage, each of which waits for the one
before and does all of its work by itself. ``exp/run.json`` says which, ``exp/run.log`` what it says.
"""

import fcntl
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pydino.base import UserError, read_json, write_json, write_text

from .log import put_aside
from .options import parse_request
from .slurm import site_names
from .slurm_config import find_config, read_slurm_config
from .slurm_launch import may_go_on, queue_again
from .slurm_queries import Slurm, Unreachable
from .slurm_script import exports
from .status import queue

RECORD, LOG = "run.json", "run.log"
MAX_RESTARTS = 100  # of a job of the controller; it only waits, so that each of its time limits is one
_DATE = "%a %b %e %H:%M:%S %Z %Y"
_LAST_WORDS_SECONDS = 120.0  # until all of a pipeline that was asked to end has ended: training saves first


def detach_here(exp: Path, command: list[str]) -> int:
    """Start the controller on this machine and return its process id.

    Raises:
        UserError: one is at work in this folder already.
    """
    lock = _claim(exp)
    put_aside(str(exp / LOG))
    told, tell = os.pipe()
    if child := os.fork():
        os.close(tell)
        with os.fdopen(told, "rb") as stream:  # until the controller has settled in
            pid = int(stream.read())
        os.waitpid(child, 0)
        return pid
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what it starts ignores it too
        descriptors = os.open(os.devnull, os.O_RDONLY), os.open(exp / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for target, source in enumerate((descriptors[0], descriptors[1], descriptors[1])):
            os.dup2(source, target)
        write_json(exp / RECORD, {**_record("local", command), "pid": os.getpid(), "since": _birth(os.getpid())})
        os.write(tell, str(os.getpid()).encode())
        os.close(tell)
        code = control(command, "local", lock)
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
    """
    _claim(exp)
    put_aside(str(exp / LOG))
    job = _submit(exp, "run", "slurm", command, wrapper.split()[1:], [])
    write_json(exp / RECORD, {**_record("slurm", command), "jobs": [{"name": "controller", "job": job}]})
    return job


def detach_as_chain(exp: Path, command_of: Callable[[str], list[str]], stages: dict[str, list[str]]) -> list[str]:
    """Submit a job a stage, each to begin when the one before has ended well, and return them.

    Args:
        command_of: the command of a stage.
        stages: by number, the wrapper's options for a job that does the whole stage.

    Raises:
        UserError: something is at work in this folder already, or sbatch refused; then no job is left.
    """
    _claim(exp)
    jobs: list[dict] = []
    try:
        for stage, options in stages.items():
            put_aside(str(exp / f"run.stage{stage}.log"))
            after = [f"--dependency=afterok:{jobs[-1]['job']}", "--kill-on-invalid-dep=yes"] if jobs else []
            job = _submit(exp, f"run.stage{stage}", "stage", command_of(stage), options, after)
            jobs.append({"name": f"stage {stage}", "job": job})
    except BaseException:
        if jobs:
            Slurm().cancel([entry["job"] for entry in jobs])
        raise
    write_json(exp / RECORD, {**_record("chain", command_of("N")), "jobs": jobs})
    return [entry["job"] for entry in jobs]


def control(command: list[str], kind: str, lock: int | None = None) -> int:
    """Run the pipeline to its end, with the head and the foot of a log around what it says; return its exit status.

    INT and TERM end it with all its jobs. SIGUSR1 is Slurm's warning: the pipeline is left (``kind`` slurm; its jobs go on, and are found
    again) or saved and ended (stage), and the job of the controller goes back into the queue.
    """
    asked: list[int] = []
    job, began = os.environ.get("SLURM_JOB_ID"), time.monotonic()
    where = f"{socket.gethostname()}{f', Slurm job {job}' if job else ''}"
    _say(f"# {shlex.join(command)}\n# Running on {where}\n# Started at {time.strftime(_DATE)}\n#")
    ignored = kind == "local"  # SIGHUP

    def hear(number, _):
        asked.append(number)
        _signal_group(process.pid, signal.SIGHUP if number == signal.SIGUSR1 and kind == "slurm" else signal.SIGTERM)

    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, process_group=0, pass_fds=() if lock is None else (lock,), restore_signals=True,
        preexec_fn=None if ignored else lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, hear)
    code = process.wait()
    code = 128 - code if code < 0 else code
    if asked:
        _wait_for_group(process.pid)
        code = code or 128 + asked[0]
    _say(f"# Accounting: time={time.monotonic() - began:.0f} threads=1\n# Ended (code {code}) at {time.strftime(_DATE)}, "
         f"elapsed time {time.monotonic() - began:.0f} seconds")  # fmt: skip
    if asked and job and kind != "local" and may_go_on(job, asked[0]):
        queue_again(job, int(os.environ.get("SLURM_RESTART_COUNT", 0)), MAX_RESTARTS)
    return code


def describe_controller(exp: Path) -> list[str]:
    """Return lines about the controller of this folder, if there was one: whether it is at work, and what it said last."""
    try:
        record = read_json(exp / RECORD)
        kind, jobs = record["kind"], record.get("jobs", [])
    except (UserError, KeyError, TypeError, FileNotFoundError):
        return []
    log = exp / LOG
    if kind == "local":
        if _alive(record):
            lines = [f"detached {log}   running, process {record['pid']} on {record['host']} (kill {record['pid']} ends it and its jobs)"]
        elif record["host"] != socket.gethostname():
            lines = [f"detached {log}   process {record['pid']} on {record['host']}: whether it runs is to be seen there"]
        else:
            lines = [f"detached {log}   {_ending(log)}"]
        return lines + _last_words(log)
    live, remarks = queue([entry["job"] for entry in jobs])
    lines = [f"note     {remark}" for remark in remarks]
    for entry in jobs:
        path = exp / f"run.stage{entry['name'].removeprefix('stage ')}.log" if kind == "chain" else log
        state, reason = live.get(entry["job"].partition(";")[0], ("", ""))
        state = f"{state.lower()} ({reason})" if state else ("state unknown" if remarks else _ending(path))
        lines.append(f"detached {path}   {entry['name']}, Slurm job {entry['job']}: {state}")
        lines += _last_words(path) if state.startswith("running") else []
    return lines


def _claim(exp: Path) -> int:
    """Return the descriptor of the folder's lock, taken.

    Raises:
        UserError: a controller is at work.
    """
    exp.mkdir(parents=True, exist_ok=True)
    lock = os.open(exp / ".run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(_at_work(exp)) from None
    except OSError:
        pass  # a filesystem without locks: the record has to do
    record = read_json(exp / RECORD) if (exp / RECORD).exists() else {}
    jobs = [entry["job"] for entry in record.get("jobs", [])]
    if (record.get("kind") == "local" and _alive(record)) or Slurm().left_by(jobs, exp / RECORD):
        raise UserError(_at_work(exp))
    return lock


def _at_work(exp: Path) -> str:
    described = "\n".join(describe_controller(exp)) or "a pipeline whose controller was killed"
    return f"a detached pipeline is at work in {exp.parent.resolve()}; ./run.sh --status tells more:\n{described}"


def _record(kind: str, command: list[str]) -> dict:
    return {"kind": kind, "command": shlex.join(command), "host": socket.gethostname(), "began": time.strftime("%Y-%m-%d %H:%M:%S")}


def _submit(exp: Path, name: str, kind: str, command: list[str], options: list[str], more: list[str]) -> str:
    config = read_slurm_config(find_config(None))
    given = parse_request([*options, "LOG", "COMMAND"], site_names).given
    script = (exp / f"{name}.slurm.sh").absolute()
    log = str((exp / f"{name}.log").absolute()).replace("%", "%%")
    words = shlex.join(["pydino", "detach", "--control", kind, str(exp.absolute()), "--", *command])
    backend = "export PYDINO_BACKEND=local\n" if kind == "stage" else ""  # the job does all by itself
    write_text(script, f"#!/usr/bin/env bash\n{exports()}{backend}cd {shlex.quote(os.getcwd())} || exit 1\nexec {words}\n")
    sbatch = [
        *config.command, *config.sbatch_options(given), f"--job-name={name}", "--parsable", "--requeue", "--signal=B:USR1@120",
        "--open-mode=append", f"--output={log}", *more, str(script),
    ]  # fmt: skip
    try:
        return Slurm().submit(sbatch)
    except (Unreachable, UserError) as error:
        raise UserError(f"sbatch refused: {error}\n{config.place} tells how it is asked. The command was: {shlex.join(sbatch)}") from error


def _alive(record: dict) -> bool:
    return record.get("host") == socket.gethostname() and record.get("since") is not None and _birth(record["pid"]) == record["since"]


def _birth(pid: int) -> int | None:
    """Return when a process began, in the kernel's ticks; a number that is given again belongs to one that began later."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] == b"Z" else int(fields[19])


def _ending(log: Path) -> str:
    try:
        ends = re.findall(r"^# (?:Ended \(code (\d+)\) at (.+?),|Started at)", log.read_text(errors="replace"), flags=re.MULTILINE)
    except OSError:
        return "did not begin"
    if not ends or not ends[-1][1]:
        return "is gone, without a word: killed?"
    return f"{'finished' if ends[-1][0] == '0' else f'ended with code {ends[-1][0]}'}, {ends[-1][1]}"


def _last_words(log: Path) -> list[str]:
    try:
        with open(log, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 20000))
            lines = re.findall(r"^\d\S+ (\S+) run\.sh: (.+)$", stream.read().decode("utf-8", "replace"), flags=re.MULTILINE)
    except OSError:
        return []
    return [f"         {lines[-1][0]} {lines[-1][1]}"] if lines else []


def _say(text: str) -> None:
    print(text, flush=True)


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def _wait_for_group(group: int) -> None:
    deadline = time.monotonic() + _LAST_WORDS_SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    print("what was asked to end has not; it is left behind", file=sys.stderr)
