"""What the logs of a recipe folder, the records beside them and the scheduler tell of its jobs. Only reads.

A log begins with ``# Started at DATE`` and ends with ``# Ended (code C) at DATE, ...`` (Kaldi's ``slurm.pl``:
``# Finished at DATE with status C``). One without an end is still written to, if Slurm has its job or a
process of this machine has it open; else its job died.
"""

import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from pydino.base import UserError

from .processes import open_files
from .slurm_queries import Slurm, Unreachable

# folders of exp/ without logs
_PASSED_OVER = {"checkpoints", "tensorboard", "snapshots", "teacher", "student", "model", "q"}
_STARTED = re.compile(rb"^# Started at (.+)$", re.MULTILINE)
_ENDED = re.compile(
    rb"^# (?:Ended \(code (\d+)(?:; signal (\d+))?\) at ([^,\n]+)|Finished at (.+) with status (\d+))",
    re.MULTILINE,
)
_CONTROLLERS = re.compile(r"run(\.stage\d+)?\.log")  # at the top: what is said of them is told elsewhere
_SLURM_JOB = re.compile(rb"Slurm job (\d+)|SLURM_JOB_ID=(\d+)")
PATIENCE = 20.0  # seconds for an answer of Slurm


@dataclass
class Log:
    """One job's log. ``state`` is running, waiting, failed, died or done; times are seconds since 1970, or
    None where unknown.
    """

    path: Path
    started: float | None
    ended: float | None
    code: int | None
    slurm_job: str | None
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
    """Return the jobs under ``exp``, those that began last at the end, and remarks about what could not be
    found out.
    """
    logs: list[Log] = []
    records: dict[str, list[str]] = {}  # group -> jobs of Slurm
    unreadable: list[str] = []
    for path in _files(str(exp), unreadable):
        try:
            if path.endswith(".log"):
                logs.append(_read_log(Path(path)))
            else:
                records[path.removesuffix(".jobs.json")] = _jobs_of(path)
        except FileNotFoundError:
            continue
        except OSError:
            unreadable.append(path)
    open_ended = [log for log in logs if log.ended is None]
    # with the cluster, where there are several
    named = {job.partition(";")[0]: job for jobs in records.values() for job in jobs}
    wanted = {*named.values()} | {
        named.get(log.slurm_job, log.slurm_job) for log in open_ended if log.slurm_job
    }
    live, remarks = queue(sorted(wanted)) if wanted else ({}, [])
    unknown = bool(remarks)
    if unreadable:
        more = f" and {len(unreadable) - 3} more" if len(unreadable) > 3 else ""
        remarks.append(f"unreadable: {', '.join(unreadable[:3])}{more}")
    held = {path for _, path in open_files() if path.endswith(".log")} if open_ended else set()
    groups: dict[str, Group] = {}
    for log in logs:
        log.state = _state(log, live, held, unknown)
        log.reason = live.get(log.slurm_job or "", ("", ""))[1]
        groups.setdefault(group_name(log.path), Group(group_name(log.path))).logs.append(log)
    for stem, jobs in records.items():
        name = next((name for name in groups if name in (f"{stem}.log", f"{stem}.*.log")), f"{stem}.*.log")
        numbers = [job.partition(";")[0] for job in jobs]
        waiting = {number: live[number][1] for number in numbers if live.get(number, ("",))[0] == "PENDING"}
        if waiting:
            groups.setdefault(name, Group(name)).waiting |= waiting
    return sorted(
        groups.values(), key=lambda group: max((log.started or 0 for log in group.logs), default=time.time())
    ), remarks


def group_name(path: Path) -> str:
    """``x.3.log`` is of the group ``x.*.log``."""
    return str(path.parent / re.sub(r"(?<=\.)\d+(?=\.log$)", "*", path.name))


def job_records(exp: Path) -> list[str]:
    """Return the records of unfinished jobs below ``exp``."""
    return [path for path in _files(str(exp), []) if path.endswith(".jobs.json")]


def _files(top: str, unreadable: list[str]):
    """Logs and records, without those of the controller. What goes away meanwhile is passed over."""
    folders = [top] if os.path.isdir(top) else []
    while folders:
        folder = folders.pop()
        try:
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False):
                    folders += [] if entry.name in _PASSED_OVER else [entry.path]
                elif entry.name.endswith((".log", ".jobs.json")) and os.path.isfile(entry.path):
                    if folder != top or not _CONTROLLERS.fullmatch(entry.name):
                        yield entry.path
        except FileNotFoundError:
            continue
        except OSError:
            unreadable.append(folder)


def _read_log(path: Path) -> Log:
    with open(path, "rb") as stream:
        head = stream.read(4000)
        size = os.fstat(stream.fileno()).st_size
        stream.seek(max(0, size - 8000))
        tail = stream.read()
    starts = [*_STARTED.finditer(tail)] or [*_STARTED.finditer(head)]
    ends = [*_ENDED.finditer(tail)]
    if ends and size <= 8000 and starts and ends[-1].start() < starts[-1].start():
        ends = []  # begun again after that: a job that was queued again appends
    job = _SLURM_JOB.search(head)
    started = _seconds(starts[-1][1]) if starts else None
    name = (job[1] or job[2]).decode() if job else None
    if not ends or (size > 8000 and _STARTED.search(tail, ends[-1].end())):
        return Log(path, started, None, None, name)
    code, number, at, finished, status = ends[-1].groups()
    return Log(
        path, started, _seconds(at or finished), 128 + int(number) if number else int(code or status), name
    )


def _seconds(date: bytes) -> float | None:
    try:  # as `date` prints it: Mon Nov 23 03:08:46 UTC 2026; the zone is this machine's
        words = date.decode("ascii", "replace").split()
        return time.mktime(time.strptime(" ".join([*words[:4], words[-1]]), "%a %b %d %H:%M:%S %Y"))
    except (ValueError, IndexError):
        return None


def _jobs_of(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as stream:
            return [str(entry["job"]) for entry in json.load(stream)["jobs"] if entry.get("job")]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _state(log: Log, live: dict, held: set[str], unknown: bool) -> str:
    if log.ended is not None or log.code is not None:
        return "failed" if log.code else "done"
    state = live.get(log.slurm_job or "", ("",))[0]
    if state:
        return "waiting" if state in ("PENDING", "REQUEUED", "REQUEUE_HOLD") else "running"
    if os.path.realpath(log.path) in held or (unknown and log.slurm_job):
        return "running"
    return "died"


def queue(jobs: list[str]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Return state and reason (or nodes) of those jobs that are in Slurm's queue, by number, and remarks if
    it could not be asked.
    """
    try:
        live = Slurm(PATIENCE).live(jobs)
    except UserError:
        return {}, ["there are records of Slurm jobs, but no Slurm here: what they do is not known"]
    except Unreachable as error:
        return {}, [f"Slurm does not answer ({error}): what its jobs do is taken from their logs"]
    found: dict[str, tuple[str, str]] = {}
    for (job, _), (state, reason) in live.items():
        number = job.partition(";")[0]
        if found.get(number, ("PENDING",))[0] == "PENDING":  # of an array: a task that runs speaks for it
            found[number] = (state, reason)
    return found, []
