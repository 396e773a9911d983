"""Signals: temporary handlers, an exception in place of a signal, and forwarding to other processes."""

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress

from .processes import ignores, living

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Interrupted(BaseException):
    """One of :data:`SIGNALS` has arrived."""

    def __init__(self, number: int):
        self.number = number
        self.name = signal.Signals(number).name


@contextmanager
def handling(numbers, handler: Callable):
    """Install a handler for signals until the end of the block. A signal that the caller ignores stays
    ignored (nohup); outside the main thread, where Python allows no handlers, nothing happens. Yields the
    handlers that are to be restored.
    """
    main = threading.current_thread() is threading.main_thread()
    wanted = [number for number in numbers if main and signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in wanted}
    try:
        yield before
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def signals_raised():
    """Turn the first of the signals into :class:`Interrupted`; from then on, until this process ends, all are
    ignored.

    Signals come in pairs: one to the process group, and one that the step in front forwards. The second must
    not interrupt the ending of jobs that the first started.
    """

    def handler(number, _frame):
        before.clear()
        ignore_signals()
        raise Interrupted(number)

    with handling(SIGNALS, handler) as before:
        yield


@contextmanager
def signals_held():
    """Block the signals until the end of the block: for what must not be left half done."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        unblock_signals()


def unblock_signals() -> None:
    """End :func:`signals_held`; also in a child, which inherits it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def ignore_signals() -> None:
    """Ignore the signals, so that a second Ctrl-C does not leave half of the jobs alive."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def run_forwarding(
    command: list[str],
    signals: Mapping[int, int | None],
    while_it_runs: Callable[[], None] | None = None,
    **options,
) -> tuple[int, int]:
    """Run a command to its end, and forward signals to it. Return its exit status, 128 + signal where a
    signal ended it, and the first signal that arrived, or 0.

    Args:
        signals: the signals to handle, and what the command is sent for each (None: nothing).
        while_it_runs: called five times a second, and once at the end.
        options: of :class:`subprocess.Popen`.
    """
    received, started = [], []

    def forward(numbers: list[int]) -> None:
        for number in filter(None, map(signals.get, numbers)):
            for process in started:
                process.send_signal(number)  # unless it has ended

    def handler(number, _frame):
        received.append(number)
        forward([number])

    with handling(signals, handler):
        process = subprocess.Popen(command, **options)
        early = list(received)
        started.append(process)
        forward(early)
        while while_it_runs:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
            while_it_runs()
            if process.returncode is not None:
                break
        code = process.wait()
    return (code if code >= 0 else 128 - code), (received[0] if received else 0)


def send(pid: int, number: int) -> None:
    """Send a signal to a process, if it is still there and ours."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def send_to_group(group: int, number: int) -> bool:
    """Send a signal to a process group, and return whether it has members."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def signal_when_parent_dies() -> None:
    """Ask the kernel for a SIGHUP when the parent of this process dies, or a SIGTERM where SIGHUP is ignored
    (nohup).
    """
    number = signal.SIGTERM if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else signal.SIGHUP
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def forward_to_relatives(number: int, ancestor: int | None = None) -> None:
    """Send a signal to all processes of this group that descend from an ancestor (default: the parent), and
    return when all have ended.

    Jobs have groups of their own: the wrapper that started them gets the signal, and ends them. A process
    that the parent has just started may still ignore Ctrl-C, and gets SIGTERM instead.
    """
    ancestor = ancestor or os.getppid()
    group, parents, found_at = os.getpgrp(), [ancestor], {}
    while parents:
        parent = parents.pop()
        for pid in [found.pid for found in living() if found.parent == parent and found.group == group]:
            if pid != os.getpid():
                send(pid, signal.SIGSTOP)  # or it might start others meanwhile
                parents.append(pid)
                found_at[pid] = signal.SIGTERM if parent == ancestor and ignores(pid, number) else number
    for pid, wanted in found_at.items():
        send(pid, wanted)
        send(pid, signal.SIGCONT)
    while {found.pid for found in living()} & found_at.keys():
        time.sleep(0.1)
