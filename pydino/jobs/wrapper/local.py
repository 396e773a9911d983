"""The local back-end: jobs on this machine, as many at once as it has room for."""

import os
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass

from pydino.base import UserError

from ..machine import available_memory, num_bytes, num_cores
from ..processes import living_groups
from ..signals import Interrupted, ignore_signals, signals_held, signals_raised, unblock_signals
from ..slurm.scheduler import Slurm
from .attempt import Attempt
from .gpus import GpuSlots
from .log import check_log, close_log, open_log
from .report import report_failures, say
from .request import JobRequest

_GRACE_SECONDS = 20.0  # between SIGTERM and SIGKILL: training saves first
_POLL_SECONDS = 0.5  # for GPUs or memory that others hold
_QUIET_SECONDS, _REMIND_SECONDS = 10.0, 1800.0  # of waiting for GPUs, before the first message and the next

# Kills the process groups of the jobs when the wrapper has gone without doing so itself (kill -9). It reads
# "+GROUP" and "-GROUP" from a pipe that only the wrapper writes to; groups left at its end are killed.
_REAPER = """
declare -A groups
while read -r line; do
  if [[ $line == +* ]]; then groups[${line#+}]=1; else unset "groups[${line#-}]"; fi
done
for group in "${!groups[@]}"; do kill -KILL -- "-$group" 2>/dev/null; done
"""


@dataclass
class _Running:
    number: int
    process: subprocess.Popen
    descriptor: int
    started: float
    gpus: dict[str, int]


def run_local(request: JobRequest, program: str = "run_local.sh") -> int:
    """Run the jobs and wait for all of them, also when some have failed.

    At most ``max_jobs_run`` run at once; by default as many as the CPU cores, divided by ``num_threads``,
    and the GPUs allow. The ``mem`` of all that run at once stays below what was free at the start, and a
    further job waits while less than its own is free; one that asks for more than there is runs alone, with
    a warning. Every job is a ``bash`` with ``pipefail``, standard input from /dev/null, output and errors
    in its log, ``OMP_NUM_THREADS=num_threads`` and, with ``gpu``, its own ``CUDA_VISIBLE_DEVICES``. Where a
    step passes on what its output is made from, only the jobs that failed or are missing run again
    (:mod:`.attempt`).

    Returns:
        0 if all succeeded; 1 if not, after naming the failed jobs and showing the end of the first one's log;
        128 + signal after an interruption, when all jobs have been ended.
    """
    with Attempt(request) as attempt:
        return _run_attempt(attempt, request, program)


def _run_attempt(attempt: Attempt, request: JobRequest, program: str) -> int:
    _refuse_if_in_slurm(attempt)
    numbers = attempt.todo()
    for number in numbers:  # not when others run already
        check_log(request.log_of(number))
    if len(numbers) < len(request.numbers):
        done, all_jobs = len(request.numbers) - len(numbers), len(request.numbers)
        say(program, f"{done} of {all_jobs} jobs are done by an earlier run; {request.logs}")
    elif attempt.known_inputs:
        attempt.start()
    try:
        with signals_raised(), _Pool(request, program) as pool:
            failed = pool.run(numbers)
    except Interrupted as interrupted:
        say(program, f"{interrupted.name} received: ended all jobs of {request.log}")
        return 128 + interrupted.number
    if failed:
        report_failures(request, list(failed), program, _remarks(failed))
        return 1
    if attempt.known_inputs:
        attempt.close()
    return 0


def _refuse_if_in_slurm(attempt: Attempt) -> None:
    """Raise where a run through Slurm has left jobs in its queue, which write what these would write."""
    live = Slurm().left_by([entry["job"] for entry in attempt.jobs if entry.get("job")], attempt.path)
    if live:
        names = " ".join(job.partition(";")[0] for job in live)
        raise UserError(
            f"Slurm job {names} of an earlier run is doing the same: PYDINO_BACKEND=slurm waits for it, "
            f"'scancel {names}' ends it"
        )


def _remarks(failed: dict[int, int]) -> list[str]:
    killed = [str(number) for number, code in failed.items() if code in (-signal.SIGKILL, 137)]
    reason = "killed (signal 9): often the machine was short of memory"
    advice = "fewer at once with --max-jobs-run, or a larger --mem"
    return [f"jobs {' '.join(killed)}: {reason}; {advice}"] if killed else []


class _Pool:
    """The jobs of one request. Leaving the ``with`` block by an exception ends every process that they
    started and that still runs.
    """

    def __init__(self, request: JobRequest, program: str):
        self.request, self.program = request, program
        self.slots = GpuSlots(request.gpu) if request.gpu else None
        self.max_jobs = request.max_jobs_run or max(1, num_cores() // request.num_threads)
        if self.slots:
            self.max_jobs = min(request.max_jobs_run or self.max_jobs, self.slots.max_jobs)
        self.memory = num_bytes(request.mem) if request.mem else 0
        free = available_memory() if self.memory else None
        if free is not None:
            self.max_jobs = min(self.max_jobs, max(1, free // self.memory))
            if self.memory > free:
                found = f"--mem {request.mem} asked for, {free / 2**30:.1f}G free"
                say(program, f"warning: {found}: one job at a time, which may fail")
        self.running: dict[int, _Running] = {}  # by process id
        self.groups: set[int] = set()  # of the jobs that run, and of those that left processes behind
        self.exit_codes: dict[int, int] = {}  # by job number
        self.remind_at: float | None = None  # when to say that jobs wait for GPUs

    def __enter__(self):
        self.reaper = subprocess.Popen(
            ["bash", "-c", _REAPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self._forget(self.groups)  # what a finished job has left behind may run on
        else:
            self._end_all()
        self.reaper.stdin.close()
        self.reaper.wait()

    def _end_all(self) -> None:
        """End every process of the jobs: ``a | b`` is several, and the shell above them dies first.

        The shells are reaped last: until then their process ids, those of the groups, cannot be reused.
        """
        ignore_signals()
        self._forget_the_empty()
        self._signal_groups(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while self.groups & living_groups() and time.monotonic() < deadline:
            time.sleep(0.1)
        self._signal_groups(signal.SIGKILL)
        while self.running:
            self._collect(block=True)

    def run(self, numbers: list[int]) -> dict[int, int]:
        """Return the exit codes of the failed jobs by number.

        Raises:
            UserError: a job could not be started; those that ran were allowed to finish.
        """
        waiting, tries, refused = list(numbers), Counter(), None
        while waiting or self.running:
            short = False  # of GPUs or memory, which others hold
            while waiting and not short and len(self.running) < self.max_jobs:
                try:
                    gpus = self._take_room()
                    short = gpus is None
                    if not short:
                        self._start(waiting[0], gpus)
                        waiting.pop(0)
                except UserError as error:
                    if not self.running:
                        raise
                    say(self.program, f"job {waiting[0]} cannot start: {error}; those that run may finish")
                    refused = UserError(f"jobs {' '.join(map(str, sorted(waiting)))} have not run: {error}")
                    waiting.clear()
            if short:
                time.sleep(_POLL_SECONDS)
            for number in self._collect(block=bool(self.running) and not short):
                tries[number] += 1
                if self.exit_codes[number] != 0 and tries[number] <= self.request.retries:
                    code, log = self.exit_codes.pop(number), self.request.log_of(number)
                    again = f"again ({tries[number]} of {self.request.retries})"
                    say(self.program, f"job {number} failed (code {code}), {again}; {log}.1")
                    waiting.append(number)
        if refused:
            raise refused
        return {number: code for number, code in sorted(self.exit_codes.items()) if code != 0}

    def _take_room(self) -> dict[str, int] | None:
        """Return the GPUs of the next job, or None if it has to wait for GPUs or memory that others hold."""
        if self.memory and self.running:
            free = available_memory()
            if free is not None and free < self.memory:
                return None
        if not self.slots:
            return {}
        gpus = self.slots.take()
        now = time.monotonic()
        if gpus is not None or self.remind_at is None:
            self.remind_at = now + _QUIET_SECONDS
        elif now > self.remind_at:
            self.remind_at = now + _REMIND_SECONDS
            noun = "a GPU" if self.slots.per_job == 1 else f"{self.slots.per_job} GPUs"
            say(self.program, f"waiting for {noun}; {self.slots.lent()}")
        return gpus

    def _start(self, number: int, gpus: dict[str, int]) -> None:
        request = self.request
        command, log = request.command_of(number), request.log_of(number)
        try:
            descriptor = open_log(log, command)
        except UserError:
            if self.slots:
                self.slots.give_back(gpus)
            raise
        environment = {**os.environ, "OMP_NUM_THREADS": str(request.num_threads)}
        environment.pop(
            "PYDINO_MADE_FROM", None
        )  # holds for these jobs, not for those that one may run itself
        if self.slots:
            environment |= self.slots.environment(gpus)
        # A signal that arrives before the job is on both lists must not miss it.
        with signals_held():
            try:
                process = subprocess.Popen(
                    ["bash", "-o", "pipefail", "-c", command],
                    stdin=subprocess.DEVNULL,
                    stdout=descriptor,
                    stderr=descriptor,
                    env=environment,
                    process_group=0,
                    pass_fds=tuple(gpus.values()),
                    preexec_fn=unblock_signals,
                )
            except OSError as error:
                raise UserError(f"cannot start the command of {log}: {error.strerror}") from error
            self.running[process.pid] = _Running(number, process, descriptor, time.monotonic(), gpus)
            self.groups.add(process.pid)
            self._tell_reaper(f"+{process.pid}")

    def _collect(self, block: bool) -> list[int]:
        """Reap the jobs that have ended, and return their numbers; with ``block``, wait for one at least."""
        ended = []
        while self.running:
            try:
                pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            job = self.running.pop(pid, None)
            if job is None:
                continue
            block = False
            code = os.waitstatus_to_exitcode(status)
            job.process.returncode = self.exit_codes[job.number] = code
            close_log(job.descriptor, code, time.monotonic() - job.started, self.request.num_threads)
            if self.slots:
                self.slots.give_back(job.gpus)
            ended.append(job.number)
        if ended:
            self._forget_the_empty()
        return ended

    def _forget_the_empty(self) -> None:
        """Forget the groups that have no member any more, as their numbers may be reused."""
        left = self.groups - self.running.keys()
        self._forget({group for group in left if not self._signal(group, 0)})
        if self.groups - self.running.keys():  # members, or zombies that nobody collects
            self._forget(left - living_groups())

    def _forget(self, groups: set[int]) -> None:
        for group in groups:
            self._tell_reaper(f"-{group}")
        self.groups = self.groups - groups

    def _tell_reaper(self, line: str) -> None:
        try:
            self.reaper.stdin.write(line + "\n")
            self.reaper.stdin.flush()
        except OSError:
            pass  # somebody killed the reaper; the jobs do not need it

    def _signal_groups(self, number: int) -> None:
        for group in self.groups:
            self._signal(group, number)

    @staticmethod
    def _signal(group: int, number: int) -> bool:
        """Send a signal, and return whether the group has members."""
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True
