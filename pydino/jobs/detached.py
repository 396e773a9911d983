"""What is known of the detached pipeline of a recipe folder: whether it is at work, and what it said last.

``exp/run.json`` says how it was started. On one machine its controller, and what that started, hold a lock on
``exp/.run.lock``; on Slurm the queue tells. A job that stands in the record without a number was being
submitted; its script finds it.
"""

import fcntl
import os
import re
import shlex
import socket
import time
from pathlib import Path

from pydino.base import UserError, read_json

from .processes import find_process, open_files
from .slurm_queries import Slurm, Unreachable
from .status import PATIENCE, queue

RECORD, LOG, _LOCK = "run.json", "run.log", ".run.lock"


def new_record(kind: str, command: list[str]) -> dict:
    """Return what ``exp/run.json`` says of any pipeline; ``kind`` is local, slurm or chain."""
    return {
        "kind": kind,
        "command": shlex.join(command),
        "host": socket.gethostname(),
        "began": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def read_record(exp: Path) -> dict | None:
    """Return ``exp/run.json``, or None where no pipeline was detached.

    Raises:
        UserError: it cannot be read, or is not one of ours.
    """
    path = exp / RECORD
    if not os.path.lexists(path):
        return None
    try:
        record = read_json(path)
        if record["kind"] == "local":
            good = isinstance(record["host"], str) and isinstance(record["pid"], int) and "since" in record
        else:
            entries = [entry["name"] and (entry["job"] or entry["script"]) for entry in record["jobs"]]
            good = record["kind"] in ("slurm", "chain") and all(isinstance(entry, str) for entry in entries)
    except (UserError, KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise UserError(
            f"{path}, which tells of a detached pipeline, cannot be read: see that none is at work in "
            f"{_folder(exp)} "
            f"(squeue --me; ps -fu {os.getuid()}), then remove it"
        )
    return record


def claim(exp: Path) -> int:
    """Return the descriptor of the folder's lock, taken.

    Raises:
        UserError: a pipeline is at work, or the folder is not ours.
    """
    try:
        exp.mkdir(parents=True, exist_ok=True)
        lock = os.open(exp / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename} ({error.strerror}): a pipeline needs a folder of its own user; "
            "choose another with "
            "--work-dir, or have its owner give it to you (chown)"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(_at_work(exp)) from None
    except OSError:
        pass  # a filesystem without locks: the record has to do
    _refuse_recorded(exp)
    return lock


def refuse_if_at_work(exp: Path) -> None:
    """Raise UserError where a detached pipeline is at work in this folder. Leaves nothing behind."""
    try:
        lock = os.open(exp / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        lock = None
    if lock is not None:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(_at_work(exp)) from None
        except OSError:
            pass
        finally:
            os.close(lock)
    _refuse_recorded(exp)


def _refuse_recorded(exp: Path) -> None:
    record = read_record(exp) or {}
    if (record.get("kind") == "local" and _alive(record)) or _in_queue(exp, record):
        raise UserError(_at_work(exp))


def _in_queue(exp: Path, record: dict) -> list[str]:
    """Return the jobs of a record that have not ended."""
    entries, slurm = record.get("jobs", []), Slurm()
    try:
        find_lost(entries, slurm)
        return slurm.left_by([entry["job"] for entry in entries if entry["job"]], exp / RECORD)
    except (UserError, Unreachable) as error:
        if all(
            re.match(r"finished|ended with code \d{1,2},", _ending(_log_of(exp, record, entry)))
            for entry in entries
        ):
            return []  # one that is to go on ends with 128 and a signal's number
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"a pipeline was being handed to Slurm, of which nothing can be learnt here ({error}): see that "
            "none is at work "
            f"(squeue --me), then remove {exp / RECORD}"
        ) from error


def find_lost(entries: list[dict], slurm: Slurm) -> None:
    """Give those entries of a record their job that have none: whoever submitted it was killed before the
    answer came.

    Raises:
        UserError, Unreachable: Slurm could not be asked.
    """
    for entry in entries:
        if not entry["job"] and (found := slurm.find(entry["script"])):
            entry["job"] = found[-1]


def describe_controller(exp: Path) -> list[str]:
    """Return lines about the controller of this folder, if there was one: whether it is at work, and what it
    said last.
    """
    try:
        record = read_record(exp)
    except UserError as error:
        return [f"note     {error}"]
    if record is None:
        return []
    if record["kind"] == "local":
        return [f"detached {exp / LOG}   {_describe_process(exp, record)}", *_last_words(exp / LOG)]
    try:
        find_lost(record["jobs"], Slurm(PATIENCE))
    except (UserError, Unreachable):
        pass  # asked once more, for those that have a number, it says why
    live, remarks = queue([entry["job"] for entry in record["jobs"] if entry["job"]])
    lines = [f"note     {remark}" for remark in remarks]
    for entry in record["jobs"]:
        path = _log_of(exp, record, entry)
        if not entry["job"]:
            lines.append(f"detached {path}   {entry['name']}: not submitted (yet)")
            continue
        state, reason = live.get(entry["job"].partition(";")[0], ("", ""))
        ended = "cancelled, as not all could be submitted" if entry.get("cancelled") else _ending(path)
        state = f"{state.lower()} ({reason})" if state else ("state unknown" if remarks else ended)
        lines.append(f"detached {path}   {entry['name']}, Slurm job {entry['job']}: {state}")
        lines += _last_words(path) if state.startswith("running") else []
    return lines


def _describe_process(exp: Path, record: dict) -> str:
    if _alive(record):
        return (
            f"running, process {record['pid']} on {record['host']} (kill {record['pid']} ends it and its "
            "jobs)"
        )
    if record["host"] != socket.gethostname():
        return f"process {record['pid']} on {record['host']}: whether it runs is to be seen there"
    if groups := _left_behind(exp):
        line = f"kill -- {' '.join(f'-{group}' for group in groups)}"
        return (
            f"what the controller started is still at work ({line} ends it); the controller itself "
            f"{_ending(exp / LOG)}"
        )
    return _ending(exp / LOG)


def _left_behind(exp: Path) -> list[int]:
    """Return the process groups of this machine that hold the folder's lock, of those processes that one may
    look into.
    """
    lock = os.path.realpath(exp / _LOCK)
    holders = {pid for pid, path in open_files() if path == lock}
    groups = {found.group for found in map(find_process, holders) if found}
    return sorted(groups - {os.getpgid(0)})


def _at_work(exp: Path) -> str:
    described = "\n".join(describe_controller(exp)) or f"something holds {exp / _LOCK}"
    return f"a detached pipeline is at work in {_folder(exp)}; ./run.sh --status tells more:\n{described}"


def _folder(exp: Path) -> Path:
    return exp.absolute().parent


def _log_of(exp: Path, record: dict, entry: dict) -> Path:
    return exp / (
        f"run.stage{entry['name'].removeprefix('stage ')}.log" if record["kind"] == "chain" else LOG
    )


def _alive(record: dict) -> bool:
    found = find_process(record["pid"]) if record["host"] == socket.gethostname() else None
    return found is not None and not found.ended and found.birth == record["since"]


def _ending(log: Path) -> str:
    try:
        ends = re.findall(
            r"^# (?:Ended \(code (\d+)\) at (.+?),|Started at)",
            log.read_text(errors="replace"),
            flags=re.MULTILINE,
        )
    except FileNotFoundError:
        return "did not begin"
    except OSError as error:
        return f"its log cannot be read ({error.strerror})"
    if not ends or not ends[-1][1]:
        return "is gone, without a word: killed?"
    return f"{'finished' if ends[-1][0] == '0' else f'ended with code {ends[-1][0]}'}, {ends[-1][1]}"


def _last_words(log: Path) -> list[str]:
    try:
        with open(log, "rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 20000))
            lines = re.findall(
                r"^\d\S+ (\S+) run\.sh: (.+)$", stream.read().decode("utf-8", "replace"), flags=re.MULTILINE
            )
    except OSError:
        return []
    return [f"         {lines[-1][0]} {lines[-1][1]}"] if lines else []
