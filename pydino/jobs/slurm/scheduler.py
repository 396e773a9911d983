"""Queries to Slurm, as few as possible: one ``squeue`` for all tasks of all jobs that are waited for, and
once some have left the queue, one ``sacct``, or without accounting one ``scontrol``, for how they ended.
"""

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydino.base import UserError

FINAL = set(
    "COMPLETED FAILED CANCELLED TIMEOUT NODE_FAIL PREEMPTED OUT_OF_MEMORY BOOT_FAIL DEADLINE REVOKED".split()
)
_TRANSIENT = re.compile(
    "Unable to contact slurm controller|Socket timed out|temporarily unable|Connection (refused|timed out)|"
    "Zero Bytes were transmitted|Unexpected message received|Communication connection failure|"
    "Transport endpoint|System not yet initialized|Slurm controller is in standby"
)
# Variables by which users change the output of their own commands.
_OF_THE_USER = ("SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_")
_OF_THE_SITE = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS")
# Not for jobs submitted from here: what concerns this step or its GPUs, or makes sbatch wait or any job an
# array.
_OF_THIS_JOB = ("CUDA_VISIBLE_DEVICES", "PYDINO_MADE_FROM", "SBATCH_WAIT", "SBATCH_ARRAY_INX")


class Unreachable(Exception):
    """The controller does not answer; it may later."""


@dataclass(frozen=True)
class Ending:
    """How a task ended: Slurm's name of its state, and the exit code of its script, 128 + signal if a signal
    ended it.
    """

    state: str
    code: int = 0


Task = tuple[str, int | None]  # job, index in the array; None for a job that is no array


class Slurm:
    """The scheduler, through its commands. A job is ``12``, or ``12;cluster`` as ``sbatch --parsable`` prints
    it. Every method raises :class:`Unreachable` where the controller does not answer.

    Args:
        patience: seconds for an answer.
        inherited: descriptors of locks, which sbatch holds too: this process may be killed before it answers.
    """

    def __init__(self, patience: float = 120.0, inherited: tuple[int, ...] = ()):
        self.patience, self.inherited = patience, inherited
        self.has_accounting = True  # until it says otherwise

    def submit(self, command: list[str]) -> str:
        """Submit and return the job. Raises UserError if sbatch refused; the job may have been taken even if
        the controller did not answer.
        """
        done = self._run(command, submitting=True)
        found = re.search(r"^(?:Submitted batch job )?(\d+)(;\S+)?\s*$", done.stdout, flags=re.MULTILINE)
        if done.returncode != 0 or not found:
            said = _said(done)
            if _TRANSIENT.search(said):
                raise Unreachable(said)
            raise UserError(said)
        return found[1] + (found[2] or "")

    def live(self, jobs: list[str]) -> dict[Task, tuple[str, str]]:
        """Return the state of every task that waits, runs or is being ended, and its reason, or its nodes."""
        found = {}
        for cluster, names in _by_cluster(jobs).items():
            done = self._run(["squeue", *cluster, "-h", "-r", "-j", ",".join(names), "-o", "%F|%K|%T|%R"])
            if done.returncode != 0 and "Invalid job id" not in done.stderr:
                raise Unreachable(_said(done))
            for line in done.stdout.splitlines():
                job, index, state, reason = (*line.split("|", 3), "", "", "")[:4]
                if job in names:
                    reason = reason.removeprefix("(").removesuffix(")") if state == "PENDING" else reason
                    found[names[job], int(index) if index.isdigit() else None] = (state, reason)
        return found

    def left_by(self, entries: list[dict], record: Path) -> list[str]:
        """Return those jobs of a record's entries that have not ended.

        Raises:
            UserError: that cannot be found out; the record may be removed by hand.
        """
        try:
            self.find_lost(entries)
            return self.jobs_in_queue([entry["job"] for entry in entries if entry["job"]])
        except (UserError, Unreachable) as error:
            jobs = " ".join(str(entry["job"] or "(not known)") for entry in entries)
            raise UserError(
                f"an earlier run left Slurm job {jobs}, whose state cannot be found out here "
                f"({error}): make sure that it has ended (squeue --me), then remove {record}"
            ) from error

    def find_lost(self, entries: list[dict]) -> None:
        """Complete those entries that have a script and no job: the process that submitted it was killed
        before the answer came.
        """
        for entry in entries:
            if not entry["job"] and "script" in entry and (found := self.find(entry["script"])):
                entry["job"] = found[-1]

    def jobs_in_queue(self, jobs: list[str]) -> list[str]:
        """Return those of the jobs that have a task which waits, runs or is being ended."""
        return list(dict.fromkeys(job for job, _ in self.live(jobs))) if jobs else []

    def endings(self, tasks: list[Task]) -> dict[Task, Ending]:
        """Return how tasks that are not in the queue ended, as far as Slurm remembers; a state need not be
        final.
        """
        found = {}
        for cluster, names in _by_cluster([job for job, _ in tasks]).items():
            found |= self._accounting(cluster, names) if self.has_accounting else {}
            # Accounting may lag: what it does not know, or calls a failure, is asked of the controller, which
            # forgets after some minutes.
            asked = [task for task in tasks if task[0] in names.values()]
            if any(task not in found or found[task].state != "COMPLETED" for task in asked):
                found |= self._controller(cluster, names)
        return {task: ending for task, ending in found.items() if task in tasks}

    def _accounting(self, cluster, names) -> dict[Task, Ending]:
        fields = ["-o", "JobID,State,ExitCode"]
        done = self._run(["sacct", *cluster, "-n", "-P", "-X", "-j", ",".join(names), *fields])
        if done.returncode != 0:
            disabled = "accounting storage is disabled" in done.stderr or done.returncode == 127
            self.has_accounting = not disabled
            return {}
        found = {}
        for line in done.stdout.splitlines():
            name, state, code = (*line.split("|"), "", "")[:3]
            match = re.fullmatch(r"(\d+)(?:_\[?([\d,:%-]+)\]?)?", name)
            if match and match[1] in names:
                ending = Ending(state.split(" ")[0].rstrip("+"), _code(code))
                found |= {(names[match[1]], index): ending for index in expand(match[2])}
        return found

    def _controller(self, cluster, names) -> dict[Task, Ending]:
        found = {}
        for name in names:  # scontrol takes one job at a time, and answers for its whole array
            done = self._run(["scontrol", *cluster, "-o", "show", "job", name])
            if done.returncode != 0 and "Invalid job id" not in done.stderr + done.stdout:
                raise Unreachable(_said(done))
            # "JobId=2 ArrayJobId=1 ArrayTaskId=1 JobName=..."; one that is no array has the first
            for line in done.stdout.splitlines():
                state, code = re.search(r" JobState=(\S+)", line), re.search(r" ExitCode=(\S+)", line)
                array = re.match(r"JobId=\d+ ArrayJobId=\d+ ArrayTaskId=([\d,:%-]+)", line)
                if state:
                    ending = Ending(state[1], _code(code[1] if code else ""))
                    found |= {(names[name], index): ending for index in expand(array and array[1])}
        return found

    def cancel(self, jobs: list[str]) -> None:
        """Cancel what is left of the jobs; some may have ended."""
        for cluster, names in _by_cluster(jobs).items():
            done = self._run(["scancel", *cluster, *names])
            if _TRANSIENT.search(_said(done)):
                raise Unreachable(_said(done))

    def find(self, script: str, ended: bool = False) -> list[str]:
        """Return the user's jobs in the queue that were submitted with a script at this path; with ``ended``
        also those no longer there, as far as the controller remembers (minutes).
        """
        states = ["-t", "all"] if ended else []
        done = self._run(["squeue", "-h", *states, "-u", str(os.getuid()), "-o", "%F|%o"])
        if done.returncode != 0:
            raise Unreachable(_said(done))
        lines = (line.partition("|") for line in done.stdout.splitlines())
        return list(dict.fromkeys(job for job, _, command in lines if command == script))

    def _run(self, command: list[str], submitting: bool = False) -> subprocess.CompletedProcess:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_OF_THE_USER) and not (submitting and _is_of_a_job(name))
        }
        environment |= {"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard"}
        try:
            # In a group of its own: Ctrl-C is for this process, to be acted on when the answer is there.
            return subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=self.patience,
                env=environment,
                process_group=0,
                pass_fds=self.inherited if submitting else (),
            )
        except subprocess.TimeoutExpired as error:
            raise Unreachable(f"{command[0]} gave no answer in {self.patience:.0f} s") from error
        except OSError as error:
            if command[0] == "sacct":
                return subprocess.CompletedProcess(command, 127, "", "")
            raise UserError(
                f"cannot run {command[0]} ({error.strerror}): is this machine one from which Slurm jobs are "
                "submitted? With backend=local in cmd.sh, jobs run here"
            ) from error


def expand(indices: str | None) -> list[int | None]:
    """Return the indices that ``1,4-8:2%3`` stands for; of a job that is no array, the index None."""
    if indices is None:
        return [None]
    found = []
    for part in filter(None, indices.partition("%")[0].split(",")):
        ends, _, step = part.partition(":")
        first, _, last = ends.partition("-")
        if first.isdigit():
            found += range(int(first), int(last or first) + 1, int(step or 1))
    return found


def compress(numbers: list[int]) -> str:
    """Return ascending numbers as sbatch's ``--array`` takes them: ``1-4,7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _by_cluster(jobs: list[str]) -> dict[tuple[str, ...], dict[str, str]]:
    """Return the options that name a cluster, with its jobs' numbers and what we call them."""
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for job in jobs:
        number, _, cluster = job.partition(";")
        found.setdefault(("-M", cluster) if cluster else (), {})[number] = job
    return found


def _code(text: str) -> int:
    """``7:0`` is exit code 7, ``0:9`` signal 9."""
    code, _, number = text.partition(":")
    if number.isdigit() and int(number):
        return 128 + int(number)
    return int(code) if code.isdigit() else 0


def _is_of_a_job(name: str) -> bool:
    """Return whether a variable belongs to a job that this process may itself be in."""
    return name.startswith("SLURM_") and name not in _OF_THE_SITE or name in _OF_THIS_JOB


def short_name(job: str) -> str:
    """``12;cluster`` without the cluster."""
    return job.partition(";")[0]


def short_names(jobs: Iterable[str]) -> str:
    """Several of them, each once, as ``scancel`` takes them."""
    return " ".join(dict.fromkeys(map(short_name, jobs)))


def _said(done: subprocess.CompletedProcess) -> str:
    said = done.stderr.strip() or done.stdout.strip() or f"{done.args[0]} ended with {done.returncode}"
    return said.replace("\n", "; ")
