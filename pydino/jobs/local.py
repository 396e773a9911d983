"""The local back-end: jobs on this machine, as many at once as it has room for."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass

from pydino.base import UserError

from .gpus import GpuSlots
from .log import close_log, open_log, tail
from .options import JobRequest
from .script import shell_command, substitute

_GRACE_SECONDS = 20.0  # between asking the jobs to end and making them: training saves first

# Ends the process groups of the jobs when this process has gone without doing so itself (kill -9): it reads "+GROUP" and "-GROUP"
# from a pipe whose other end only we hold, and what is left at the end of the file is killed.
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


class _Interrupted(BaseException):
    def __init__(self, number: int):
        self.number = number


def run_local(request: JobRequest, program: str = "run_local.sh") -> int:
    """Run the jobs and wait for all of them, also when some have failed.

    At most ``max_jobs_run`` run at once; by default as many as the CPU cores, shared out by ``num_threads``, and the GPUs allow.
    Every job is a ``bash`` with ``pipefail``, standard input from /dev/null, output and errors in its log,
    ``OMP_NUM_THREADS=num_threads`` and, with ``gpu``, its own ``CUDA_VISIBLE_DEVICES``.

    Returns:
        0 if all went well; 1 if not, after naming the failed jobs and the first one's last words on standard error;
        128 + signal after an interruption, when all jobs have been ended.
    """
    try:
        with _signals_raised(), _Pool(request) as pool:
            failed = pool.run()
    except _Interrupted as interrupted:
        name = signal.Signals(interrupted.number).name
        print(f"{program}: {name} received: ended all jobs of {request.log}", file=sys.stderr)
        return 128 + interrupted.number
    if failed:
        _report(request, failed, program)
    return 1 if failed else 0


class _Pool:
    """The jobs of one request. Leaving the ``with`` block ends whatever still runs."""

    def __init__(self, request: JobRequest):
        self.request = request
        self.slots = GpuSlots(request.gpu) if request.gpu else None
        self.max_jobs = request.max_jobs_run or max(1, len(os.sched_getaffinity(0)) // request.num_threads)
        if self.slots:
            self.max_jobs = min(request.max_jobs_run or self.max_jobs, self.slots.max_jobs)
        self.running: dict[int, _Running] = {}  # by process id
        self.exit_codes: dict[int, int] = {}  # by job number

    def __enter__(self):
        self.reaper = subprocess.Popen(
            ["bash", "-c", _REAPER], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, text=True
        )
        return self

    def __exit__(self, *_):
        # Once ending, a second Ctrl-C must not leave half of the jobs alive.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._signal_groups(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_SECONDS
        while self.running and time.monotonic() < deadline:
            self._collect(block=False)
            time.sleep(0.02)
        self._signal_groups(signal.SIGKILL)
        while self.running:
            self._collect(block=True)
        self.reaper.stdin.close()
        self.reaper.wait()

    def run(self) -> dict[int, int]:
        """Return the exit codes of the failed jobs by number."""
        waiting = list(self.request.numbers)
        while waiting or self.running:
            short_of_gpus = False
            while waiting and len(self.running) < self.max_jobs:
                gpus = self.slots.take() if self.slots else {}
                if gpus is None:
                    short_of_gpus = True
                    break
                self._start(waiting.pop(0), gpus)
            if short_of_gpus:  # other runs hold them: look again now and then
                time.sleep(0.5)
            self._collect(block=bool(self.running) and not short_of_gpus)
        return {number: code for number, code in sorted(self.exit_codes.items()) if code != 0}

    def _start(self, number: int, gpus: dict[str, int]) -> None:
        request = self.request
        arguments, log = request.command, request.log
        if request.variable:
            arguments = [substitute(a, request.variable, number) for a in arguments]
            log = substitute(log, request.variable, number)
        command = shell_command(arguments)
        descriptor = open_log(log, command)
        environment = {**os.environ, "OMP_NUM_THREADS": str(request.num_threads)}
        if self.slots:
            environment |= self.slots.environment(gpus)
        # Signals are held back until the job is on both lists: one that arrives in between must not miss it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process = subprocess.Popen(
                ["bash", "-c", f"set -o pipefail\n{command}"], stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor,
                env=environment, process_group=0, pass_fds=tuple(gpus.values()), preexec_fn=_unblock_signals,
            )
            self.running[process.pid] = _Running(number, process, descriptor, time.monotonic(), gpus)
            self._tell_reaper(f"+{process.pid}")
        except OSError as error:
            raise UserError(f"cannot start the command of {log}: {error.strerror}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def _collect(self, block: bool) -> None:
        """Take note of the jobs that have ended; with ``block``, wait for one at least."""
        while self.running:
            try:
                pid, status = os.waitpid(-1, 0 if block else os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            job = self.running.pop(pid, None)
            if job is None:
                continue
            block = False
            code = os.waitstatus_to_exitcode(status)
            job.process.returncode = self.exit_codes[job.number] = code
            close_log(job.descriptor, code, time.monotonic() - job.started, self.request.num_threads)
            if self.slots:
                self.slots.give_back(job.gpus)
            self._tell_reaper(f"-{pid}")

    def _tell_reaper(self, line: str) -> None:
        try:
            self.reaper.stdin.write(line + "\n")
            self.reaper.stdin.flush()
        except OSError:
            pass  # somebody killed the reaper; the jobs are none the worse

    def _signal_groups(self, number: int) -> None:
        for pid in self.running:
            try:
                os.killpg(pid, number)
            except ProcessLookupError:
                pass


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


@contextmanager
def _signals_raised():
    """Turn Ctrl-C, TERM and HUP into an exception, once; restore the handlers afterwards."""

    def handler(number, _frame):
        raise _Interrupted(number)

    # A signal that the caller ignores stays ignored (nohup).
    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _report(request: JobRequest, failed: dict[int, int], program: str) -> None:
    number, code = next(iter(failed.items()))
    log = substitute(request.log, request.variable, number) if request.variable else request.log
    if len(request.numbers) == 1:
        lines = [f"{program}: job failed, log is in {log}"]
    else:
        pattern = request.log if request.variable is None else substitute(request.log, request.variable, "*")
        lines = [
            f"{program}: {len(failed)} / {len(request.numbers)} failed, log is in {pattern}",
            f"{program}: failed jobs: {' '.join(map(str, failed))}",
        ]
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        lines.append(f"{program}: job {number} was killed (code {code}): often the machine was short of memory")
    lines += [f"{program}: the end of {log}:", *("    " + line for line in tail(log).splitlines())]
    print("\n".join(lines), file=sys.stderr)
