"""Queries to Slurm, as few as possible: one ``squeue`` for all tasks of all jobs that are waited for, and
once some have left the queue, one ``scontrol``, or ``sacct`` for what the controller has forgotten, for how
they ended.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pydino.base import UserError

from ..signals import send_to_group

FINAL = set(
    "COMPLETED FAILED CANCELLED TIMEOUT NODE_FAIL PREEMPTED OUT_OF_MEMORY BOOT_FAIL DEADLINE REVOKED".split()
)
# What sbatch says where it has submitted nothing and may do so later ...
_LATER = re.compile(
    "Unable to contact slurm controller|Connection refused|System not yet initialized|"
    "Slurm controller is in standby|temporarily un(able|available)|queue full"
)
# ... where nobody knows whether the job was taken ...
_LOST = re.compile(
    "Socket timed out|Connection timed out|Zero Bytes were transmitted|Unexpected message received|"
    "Communication connection failure|Transport endpoint"
)
# ... where the jobs that one has in the queue may fill a limit, or this one exceed it alone ...
LIMIT = re.compile(r"(Max|Grp)Submit|job submit limit")
# ... and what it says before it tries by itself for two minutes.
RETRYING = "sleeping and retrying"
_ACCOUNTING_PATIENCE = 15.0  # seconds; a database that hangs is one that does not answer
# Variables by which users change the output of their own commands.
_OF_THE_USER = ("SQUEUE_", "SACCT_", "SCONTROL_", "SCANCEL_")
_OF_THE_SITE = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS")
# Not for jobs submitted from here: what concerns this step or its GPUs, or makes sbatch wait or any job an
# array.
_OF_THIS_JOB = ("CUDA_VISIBLE_DEVICES", "PYDINO_MADE_FROM", "SBATCH_WAIT", "SBATCH_ARRAY_INX")


class Unreachable(Exception):
    """The controller does not answer; it may later."""


class Missing(UserError):
    """A command of Slurm cannot be run here."""


class NotTaken(Unreachable):
    """sbatch has submitted nothing; it may later."""


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
        """Submit and return the job, or "" where sbatch succeeds and says no number, or several.

        Raises:
            NotTaken: the controller is away, or a limit is reached that passes: that of the controller, or
                one that the user's other jobs may fill.
            Unreachable: the answer is lost.
            UserError: sbatch refused.
        """
        done = self._run(command, submitting=True)
        if done.returncode == 0:
            found = re.findall(
                r"^(?:Submitted batch job )?(\d+(?:;\S+)?)\s*$", done.stdout, flags=re.MULTILINE
            )
            return found[0] if len(found) == 1 else ""
        said = _said(done)
        limit = re.search(r"(QOS|Assoc)\w+", said)  # some versions say which one
        fills = LIMIT.search(limit[0] if limit else said)
        if _LATER.search(said) or (fills and self._has_jobs("" if "Grp" in fills[0] else str(os.getuid()))):
            raise NotTaken(said)
        if _LOST.search(said):
            raise Unreachable(said)
        raise UserError(said)

    def _has_jobs(self, user: str) -> bool:
        users = ["-u", user] if user else []
        return bool(self._run(["squeue", "-h", *users, "-o", "%F"]).stdout.strip())

    def hides_jobs(self) -> bool:
        """Return whether users see no jobs of others."""
        done = self._run(["scontrol", "show", "config"])
        return bool(re.search(r"^PrivateData\s*=.*\b(jobs|all)\b", done.stdout, flags=re.MULTILINE))

    def listed(self, cluster: str, *options: str) -> list[tuple[str, str, str, str]]:
        """Return job, state and user of the jobs that squeue lists, and a text ``|COMMENT|FOLDER|SCRIPT``."""
        where = ["-M", cluster] if cluster else []
        done = self._run(["squeue", *where, *options, "-h", "-o", "%F|%T|%u|%k|%Z|%o"])
        if done.returncode != 0:
            raise Unreachable(_said(done))
        rows = (line.split("|", 3) for line in done.stdout.splitlines())
        name = f";{cluster}" if cluster else ""
        return [(row[0] + name, row[1], row[2], f"|{row[3]}") for row in rows if len(row) == 4]

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

    def jobs_in_queue(self, jobs: list[str]) -> list[str]:
        """Return those of the jobs that have a task which waits, runs or is being ended."""
        return list(dict.fromkeys(job for job, _ in self.live(jobs))) if jobs else []

    def endings(self, tasks: list[Task]) -> dict[Task, Ending]:
        """Return how tasks that are not in the queue ended, as far as Slurm remembers; a state need not be
        final.
        """
        found, wanted = {}, set(tasks)
        for cluster, names in _by_cluster([job for job, _ in tasks]).items():
            found |= self._controller(cluster, names)
            # the controller forgets after some minutes
            forgotten = {job for job, index in tasks if (job, index) not in found}
            names = {number: job for number, job in names.items() if job in forgotten}
            if names and self.has_accounting:
                found = self._accounting(cluster, names) | found
        return {task: ending for task, ending in found.items() if task in wanted}

    def _accounting(self, cluster, names) -> dict[Task, Ending]:
        fields = ["-o", "JobID,State,ExitCode"]
        try:
            done = self._run(["sacct", *cluster, "-n", "-P", "-X", "-j", ",".join(names), *fields])
        except Unreachable:
            self.has_accounting = False
            return {}
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
            said = _said(done)
            if _LATER.search(said) or _LOST.search(said):
                raise Unreachable(said)

    def _run(self, command: list[str], submitting: bool = False) -> subprocess.CompletedProcess:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_OF_THE_USER) and not (submitting and _is_of_a_job(name))
        }
        environment |= {"SLURM_BITSTR_LEN": "0", "SLURM_TIME_FORMAT": "standard"}
        end = time.monotonic() + (_ACCOUNTING_PATIENCE if command[0] == "sacct" else self.patience)
        try:
            # In a group of its own: Ctrl-C is for this process, to be acted on when the answer is there.
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=environment,
                process_group=0,
                pass_fds=self.inherited if submitting else (),
            )
        except OSError as error:
            if command[0] == "sacct":
                return subprocess.CompletedProcess(command, 127, "", "")
            raise Missing(
                f"cannot run {command[0]} ({error.strerror}): is this machine one from which Slurm jobs are "
                "submitted? With backend=local in cmd.sh, jobs run here"
            ) from error
        with process:
            try:
                while True:
                    try:
                        answer = process.communicate(timeout=max(0.1, min(2.0, end - time.monotonic())))
                        return subprocess.CompletedProcess(command, process.returncode, *answer)
                    except subprocess.TimeoutExpired as error:
                        if RETRYING in (error.stderr or b"").decode(errors="replace"):
                            raise Unreachable(f"{command[0]}: the queue is full, {RETRYING}") from error
                        if time.monotonic() > end:
                            raise Unreachable(f"{command[0]} gave no answer in time") from error
            except BaseException:
                send_to_group(process.pid, signal.SIGKILL)
                raise


def doubled(first: float, last: float) -> Iterator[float]:
    """Yield pauses in seconds, each twice the one before, up to the last."""
    while True:
        yield min(first, last)
        first *= 2


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
