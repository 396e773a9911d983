"""The detached pipeline of a recipe folder: whether it runs, and its last message.

``exp/run.json`` says how it was started. On one machine its controller, and what that started, hold a lock
on ``exp/.run.lock``; on Slurm the queue knows. A job that is in the record without a number was being
submitted; it is found by its script.
"""

import os
import re
import shlex
import socket
import time
from pathlib import Path

from pydino.base import UserError, read_json

from ..processes import find_process, open_files, try_lock
from ..slurm.lookup import left_by, look_up
from ..slurm.scheduler import Slurm, Unreachable, short_name
from ..wrapper.log import last_bytes, read_log
from .status import PATIENCE, queue

RECORD, LOG, _LOCK = "run.json", "run.log", ".run.lock"


def new_record(kind: str, command: list[str]) -> dict:
    """Return what ``exp/run.json`` says about any pipeline; ``kind`` is local, slurm or chain."""
    start = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"kind": kind, "command": shlex.join(command), "host": socket.gethostname(), "began": start}


def read_record(exp: Path) -> dict | None:
    """Return ``exp/run.json``, or None where no pipeline was detached.

    Raises:
        UserError: it cannot be read, or is invalid.
    """
    path = exp / RECORD
    if not os.path.lexists(path):
        return None
    try:
        record = read_json(path)
        if record["kind"] == "local":
            valid = isinstance(record["host"], str) and isinstance(record["pid"], int) and "since" in record
        else:
            entries = [entry["name"] and (entry["job"] or entry["script"]) for entry in record["jobs"]]
            valid = record["kind"] in ("slurm", "chain") and all(isinstance(entry, str) for entry in entries)
    except (UserError, KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise UserError(
            f"{path}, the record of a detached pipeline, cannot be read: make sure that none runs in "
            f"{_folder(exp)} (squeue --me; ps -fu {os.getuid()}), then remove it"
        )
    return record


def claim(exp: Path) -> int:
    """Return the descriptor of the folder's lock, taken.

    Raises:
        UserError: a pipeline runs there, or the folder cannot be written.
    """
    try:
        exp.mkdir(parents=True, exist_ok=True)
        lock = os.open(exp / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename} ({error.strerror}): a pipeline needs a folder of its own user; "
            "choose another with --work-dir, or have its owner give it to you (chown)"
        ) from error
    _refuse(exp, try_lock(lock))
    return lock


def refuse_if_running(exp: Path) -> None:
    """Raise UserError where a detached pipeline runs in this folder. Changes nothing."""
    try:
        with open(exp / _LOCK) as lock:
            free = try_lock(lock.fileno(), shared=True)
    except OSError:
        free = True
    _refuse(exp, free)


def _refuse(exp: Path, free: bool) -> None:
    """Raise UserError if the folder is not free, or its record says so (on a filesystem without locks)."""
    record = {} if not free else read_record(exp) or {}
    if not free or (record.get("kind") == "local" and _alive(record)) or _in_queue(exp, record):
        described = "\n".join(describe_controller(exp)) or f"a process holds {exp / _LOCK}"
        where = f"is running in {_folder(exp)}; ./run.sh --status shows more"
        raise UserError(f"a detached pipeline {where}:\n{described}")


def _in_queue(exp: Path, record: dict) -> list[str]:
    """Return the jobs of a record that have not ended."""
    entries = record.get("jobs", [])
    try:
        return left_by(Slurm(), entries, exp / RECORD)
    except UserError:
        codes = [_code(log_of(exp, entry["name"])) for entry in entries]
        if all(code is not None and code < 100 for code in codes):
            return []  # all have ended; one that is to go on ends with 128 and a signal's number
        raise


def describe_controller(exp: Path) -> list[str]:
    """Return lines about the controller of this folder, if there was one: whether it runs, and its last
    message.
    """
    try:
        record = read_record(exp)
    except UserError as error:
        return [f"note     {error}"]
    if record is None:
        return []
    if record["kind"] == "local":
        return [f"detached {exp / LOG}   {_describe_process(exp, record)}", *_last_message(exp / LOG)]
    try:
        if any(not entry["job"] for entry in record["jobs"]):
            look_up(Slurm(PATIENCE), record["jobs"], exp / RECORD)
    except (UserError, Unreachable):
        pass  # the query below, for those that have a number, reports why
    live, remarks = queue([entry["job"] for entry in record["jobs"] if entry["job"]])
    lines = [f"note     {remark}" for remark in remarks]
    for entry in record["jobs"]:
        path = log_of(exp, entry["name"])
        if not entry["job"]:
            lines.append(f"detached {path}   {entry['name']}: not submitted (yet)")
            continue
        state, reason = live.get(short_name(entry["job"]), ("", ""))
        if state:
            state = f"{state.lower()} ({reason})"
        elif remarks:
            state = "state unknown"
        else:
            state = "cancelled, as not all could be submitted" if entry.get("cancelled") else _ending(path)
        lines.append(f"detached {path}   {entry['name']}, Slurm job {entry['job']}: {state}")
        lines += _last_message(path) if state.startswith("running") else []
    return lines


def _describe_process(exp: Path, record: dict) -> str:
    pid, host = record["pid"], record["host"]
    if _alive(record):
        return f"running, process {pid} on {host} (kill {pid} ends it and its jobs)"
    if host != socket.gethostname():
        return f"process {pid} on {host}: look there whether it runs"
    if groups := _left_behind(exp):
        line = f"kill -- {' '.join(f'-{group}' for group in groups)}"
        left = f"what the controller started still runs ({line} ends it)"
        return f"{left}; the controller itself {_ending(exp / LOG)}"
    return _ending(exp / LOG)


def _left_behind(exp: Path) -> list[int]:
    """Return the process groups of this machine that hold the folder's lock, of those processes that the
    user may inspect.
    """
    lock = os.path.realpath(exp / _LOCK)
    holders = {pid for pid, path in open_files() if path == lock}
    groups = {found.group for found in map(find_process, holders) if found}
    return sorted(groups - {os.getpgid(0)})


def _folder(exp: Path) -> Path:
    return exp.absolute().parent


def log_of(exp: Path, name: str) -> Path:
    """Return the log of the ``controller``, or of a job of a chain: ``stage 4`` has ``run.stage4.log``."""
    return exp / (LOG if name == "controller" else f"run.{name.replace(' ', '')}.log")


def _alive(record: dict) -> bool:
    found = find_process(record["pid"]) if record["host"] == socket.gethostname() else None
    return found is not None and not found.ended and found.birth == record["since"]


def _code(log: Path) -> int | None:
    try:
        return read_log(log).code
    except OSError:
        return None


def _ending(log: Path) -> str:
    try:
        state = read_log(log)
    except OSError as error:
        gone = isinstance(error, FileNotFoundError)
        return "did not start" if gone else f"has a log that cannot be read ({error.strerror})"
    if state.code is None:
        return "is gone without an end in its log: killed?"
    when = time.strftime(", %Y-%m-%d %H:%M:%S", time.localtime(state.ended)) if state.ended else ""
    return f"{f'ended with code {state.code}' if state.code else 'finished'}{when}"


def _last_message(log: Path) -> list[str]:
    """Return run.sh's last line in a log, without its date and program."""
    try:
        text = last_bytes(log, 20000).decode("utf-8", "replace")
    except OSError:
        return []
    lines = re.findall(r"^\d\S+ (\S+) run\.sh: (.+)$", text, flags=re.MULTILINE)
    return [f"         {lines[-1][0]} {lines[-1][1]}"] if lines else []
