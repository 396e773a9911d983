"""The local back-end: jobs on this machine, as many at once as it has room for."""

import os
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass

from pydino.base import UserError

from ..machine import available_memory, num_bytes, num_cores
from ..processes import living
from ..signals import (
    Interrupted,
    ignore_signals,
    send_to_group,
    signals_held,
    signals_raised,
    unblock_signals,
)
from ..slurm.lookup import left_by
from ..slurm.scheduler import Slurm, short_names
from ..slurm.script import script_path
from ..submit import environment
from .attempt import Attempt
from .gpus import GpuSlots
from .log import check_log, close_log, open_log
from .report import report_failures, say
from .request import JobRequest

_GRACE_SECONDS = 20.0  # between SIGTERM and SIGKILL: training saves first
_POLL_SECONDS = 0.5  # for GPUs or memory that others hold
_QUIET_SECONDS, _REMIND_SECONDS = 10.0, 1800.0  # of waiting for GPUs, before the first message and the next

# Kills the process groups of the jobs when the wrapper has gone without doing so itself (kill -9). It reads
# all groups, as "-12 -34", whenever there are others, from a pipe that only the wrapper writes to.
_REAPER = 'while read -r groups; do last=$groups; done; [ -z "$last" ] || kill -KILL -- $last 2>/dev/null'


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
        # they write what these would write
        if live := left_by(Slurm(), attempt.jobs, attempt.path, script_path(request)):
            raise UserError(
                f"Slurm job {short_names(live)} of an earlier run is doing the same: PYDINO_BACKEND=slurm "
                f"waits for it, 'scancel {short_names(live)}' ends it"
            )
        numbers, num_all = attempt.todo(), len(request.numbers)
        for number in numbers:  # not when others run already
            check_log(request.log_of(number))
        if len(numbers) < num_all:
            say(
                program,
                f"{num_all - len(numbers)} of {num_all} jobs are done by an earlier run; {request.logs}",
            )
        elif attempt.known_inputs:
            attempt.start()
        try:
            with signals_raised(), _Pool(request, program) as pool:
                failed = pool.run(numbers)
        except Interrupted as interrupted:
            say(program, f"{interrupted.name} received: ended all jobs of {request.log}")
            return 128 + interrupted.number
        if failed:
            killed = [n for n, code in failed.items() if code in (-signal.SIGKILL, 128 + signal.SIGKILL)]
            report_failures(request, list(failed), program, _remarks(killed))
            return 1
        if attempt.known_inputs:
            attempt.close()
    return 0


def _remarks(killed: list[int]) -> list[str]:
    reason = "killed (signal 9): often the machine was short of memory"
    advice = "fewer at once with --max-jobs-run, or a larger --mem"
    return [f"jobs {' '.join(map(str, killed))}: {reason}; {advice}"] if killed else []


class _Pool:
    """The jobs of one request. Leaving the ``with`` block by an exception ends every process that they
    started and that still runs.
    """

    def __init__(self, request: JobRequest, program: str):
        self.request, self.program = request, program
        self.slots = GpuSlots(request.gpu) if request.gpu else None
        self.max_jobs = request.max_jobs_run or max(1, num_cores() // request.num_threads)
        if self.slots:
            self.max_jobs = min(self.max_jobs, self.slots.max_jobs)
        self.memory = num_bytes(request.mem) if request.mem else 0
        free = available_memory() if self.memory else None
        if free is not None:
            self.max_jobs = min(self.max_jobs, max(1, free // self.memory))
            if self.memory > free:
                found = f"--mem {request.mem} asked for, {free / 2**30:.1f}G free"
                say(program, f"warning: {found}: one job at a time, which may fail")
        self.running: dict[int, _Running] = {}  # by process id, which is that of the process group
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
        if kind is not None:
            self._end_all()
        self._keep_groups(set())  # what a finished job has left behind may run on
        self.reaper.stdin.close()
        self.reaper.wait()

    def _end_all(self) -> None:
        """End every process of the jobs: ``a | b`` is several, and the shell above them dies first.

        The shells are reaped last: until then their process ids, those of the groups, cannot be reused.
        """
        ignore_signals()
        self._forget_the_empty()
        for group in self.groups:
            send_to_group(group, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while self.groups & _living_groups() and time.monotonic() < deadline:
            time.sleep(0.1)
        for group in self.groups:
            send_to_group(group, signal.SIGKILL)
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
        gpus, now = self.slots.take(), time.monotonic()
        if gpus is not None or self.remind_at is None:
            self.remind_at = now + _QUIET_SECONDS
        elif now > self.remind_at:
            self.remind_at = now + _REMIND_SECONDS
            noun = "a GPU" if self.slots.per_job == 1 else f"{self.slots.per_job} GPUs"
            say(self.program, f"waiting for {noun}; {self.slots.held()}")
        return gpus

    def _start(self, number: int, gpus: dict[str, int]) -> None:
        command, log = self.request.command_of(number), self.request.log_of(number)
        try:
            descriptor = open_log(log, command)
        except UserError:
            if self.slots:
                self.slots.give_back(gpus)
            raise
        # what the output is made from holds for these jobs, not for those that one may run itself
        variables = environment("") | {"OMP_NUM_THREADS": str(self.request.num_threads)}
        if self.slots:
            variables |= self.slots.environment(gpus)
        # A signal that arrives before the job is on both lists must not miss it.
        with signals_held():
            try:
                process = subprocess.Popen(
                    ["bash", "-o", "pipefail", "-c", command],
                    stdin=subprocess.DEVNULL,
                    stdout=descriptor,
                    stderr=descriptor,
                    env=variables,
                    process_group=0,
                    pass_fds=tuple(gpus.values()),
                    preexec_fn=unblock_signals,
                )
            except OSError as error:
                os.close(descriptor)
                if self.slots:
                    self.slots.give_back(gpus)
                raise UserError(f"cannot start the command of {log}: {error.strerror}") from error
            self.running[process.pid] = _Running(number, process, descriptor, time.monotonic(), gpus)
            self._keep_groups(self.groups | {process.pid})

    def _collect(self, block: bool) -> list[int]:
        """Reap the jobs that have ended, and return their numbers; with ``block``, wait for one at least."""
        ended = []
        while self.running:
            pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
            if pid == 0:
                break
            job = self.running.pop(pid, None)
            if job is None:
                continue  # the reaper, which somebody has killed
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
        left = {group for group in self.groups - self.running.keys() if send_to_group(group, 0)}
        if left:  # members, or zombies that nobody collects
            left &= _living_groups()
        self._keep_groups(left | self.running.keys())

    def _keep_groups(self, groups: set[int]) -> None:
        if groups != self.groups:
            self.groups = groups
            with suppress(OSError):  # somebody killed the reaper; the jobs do not need it
                self.reaper.stdin.write(" ".join(f"-{group}" for group in groups) + "\n")
                self.reaper.stdin.flush()


def _living_groups() -> set[int]:
    return {found.group for found in living()}
