"""The state of a recipe folder's jobs, from their logs, the records beside these, and the scheduler. Only
reads.

A log without a foot is still being written if Slurm has its job or a process of this machine has it open;
else its job died.
"""

import json
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydino.base import UserError

from ..processes import open_files
from ..slurm.scheduler import Slurm, Unreachable, short_name
from ..wrapper.log import LogState, read_log

_SKIPPED = {"checkpoints", "tensorboard", "snapshots", "teacher", "student", "model", "q"}  # hold no logs
_CONTROLLERS = re.compile(r"run(\.stage\d+)?\.log")  # at the top; pipeline/record.py describes them
PATIENCE = 20.0  # seconds for an answer of Slurm


@dataclass
class Log:
    """One job's log. ``state`` is running, waiting, failed, died or done; ``reason`` why Slurm has it wait,
    or on which nodes it runs.
    """

    path: Path
    said: LogState
    state: str = ""
    reason: str = ""


@dataclass
class Group:
    """The logs ``x.*.log`` of the jobs of one call."""

    name: str
    logs: list[Log] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)  # job of Slurm -> why it waits

    def of(self, state: str) -> list[Log]:
        """Return the logs in a state."""
        return [log for log in self.logs if log.state == state]


def read_groups(exp: Path) -> tuple[list[Group], list[str]]:
    """Return the jobs under ``exp``, in the order of their starts, and remarks about what is unknown."""
    logs: list[Log] = []
    records: dict[str, list[str]] = {}  # group -> jobs of Slurm
    unreadable: list[str] = []
    for path in _files(str(exp), unreadable):
        try:
            if path.endswith(".log"):
                logs.append(Log(Path(path), read_log(path)))
            else:
                records[path.removesuffix(".jobs.json")] = _jobs_of(path)
        except FileNotFoundError:
            continue
        except OSError:
            unreadable.append(path)
    unfinished = [log for log in logs if log.said.code is None]
    # by number: a record has the cluster as well, where there are several
    named = {log.said.slurm_job: log.said.slurm_job for log in unfinished if log.said.slurm_job}
    wanted = {*(named | {short_name(job): job for jobs in records.values() for job in jobs}).values()}
    live, remarks = queue(sorted(wanted)) if wanted else ({}, [])
    held = {path for _, path in open_files() if path.endswith(".log")} if unfinished else set()
    groups: dict[str, Group] = {}
    for log in logs:
        log.state = _state(log, live, held, unknown=bool(remarks))
        log.reason = live.get(log.said.slurm_job or "", ("", ""))[1]
        groups.setdefault(group_name(log.path), Group(group_name(log.path))).logs.append(log)
    for stem, jobs in records.items():
        numbers = map(short_name, jobs)
        if waiting := {n: live[n][1] for n in numbers if live.get(n, ("",))[0] == "PENDING"}:
            name = next((n for n in groups if n in (f"{stem}.log", f"{stem}.*.log")), f"{stem}.*.log")
            groups.setdefault(name, Group(name)).waiting |= waiting
    if unreadable:
        more = f" and {len(unreadable) - 3} more" if len(unreadable) > 3 else ""
        remarks.append(f"unreadable: {', '.join(unreadable[:3])}{more}")
    return sorted(groups.values(), key=_start), remarks


def _start(group: Group) -> float:
    return max((log.said.started or 0 for log in group.logs), default=time.time())


def group_name(path: Path) -> str:
    """``x.3.log`` is of the group ``x.*.log``."""
    return str(path.parent / re.sub(r"(?<=\.)\d+(?=\.log$)", "*", path.name))


def job_records(exp: Path) -> list[str]:
    """Return the records of unfinished jobs below ``exp``."""
    return [path for path in _files(str(exp), []) if path.endswith(".jobs.json")]


def _files(top: str, unreadable: list[str]):
    """Yield logs and records, but not those of the controller. What disappears meanwhile is skipped."""
    folders = [top] if os.path.isdir(top) else []
    while folders:
        folder = folders.pop()
        try:
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False):
                    folders += [] if entry.name in _SKIPPED else [entry.path]
                elif entry.name.endswith((".log", ".jobs.json")) and os.path.isfile(entry.path):
                    if folder != top or not _CONTROLLERS.fullmatch(entry.name):
                        yield entry.path
        except FileNotFoundError:
            continue
        except OSError:
            unreadable.append(folder)


def _jobs_of(path: str) -> list[str]:
    with open(path, "rb") as stream, suppress(ValueError, KeyError, TypeError, AttributeError):
        return [str(entry["job"]) for entry in json.load(stream)["jobs"] if entry["job"]]
    return []


def _state(log: Log, live: dict, held: set[str], unknown: bool) -> str:
    if log.said.code is not None:
        return "failed" if log.said.code else "done"
    job = log.said.slurm_job
    if job in live:
        return "waiting" if live[job][0] in ("PENDING", "REQUEUED", "REQUEUE_HOLD") else "running"
    return "running" if os.path.realpath(log.path) in held or (unknown and job) else "died"


def queue(jobs: list[str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return state and reason (or nodes) of those jobs that are in Slurm's queue, by number, and remarks if
    it gave no answer.
    """
    try:
        live = Slurm(PATIENCE).live(jobs)
    except UserError:
        return {}, ["there are records of Slurm jobs, but no Slurm here: their state is unknown"]
    except Unreachable as error:
        return {}, [f"Slurm does not answer ({error}): the state of its jobs is taken from their logs"]
    found: dict[str, tuple[str, str]] = {}
    for (job, _), (state, reason) in live.items():
        if found.get(short_name(job), ("PENDING",))[0] == "PENDING":  # of an array, a task that runs counts
            found[short_name(job)] = (state, reason)
    return found, []
