"""Ctrl-C, TERM, HUP and USR1 as an exception, so that jobs are ended, or left, in one place; and forwarding
to processes that may have missed a signal.
"""

import os
import signal
import sys
import time
from contextlib import contextmanager

from .processes import ignores, living

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class Interrupted(BaseException):
    """One of :data:`SIGNALS` has arrived."""

    def __init__(self, number: int):
        self.number = number
        self.name = signal.Signals(number).name


@contextmanager
def signals_raised():
    """Turn the first of the signals into :class:`Interrupted` and ignore others from then on; without one,
    restore the handlers.

    Signals come in pairs: one to the process group, and one that the step in front forwards. The second must
    not interrupt the ending of jobs that the first started.
    """
    ending = False

    def handler(number, _frame):
        nonlocal ending
        ending = True
        ignore_signals()
        raise Interrupted(number)

    # A signal that the caller ignores stays ignored (nohup).
    handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, old in before.items() if not ending else ():
            signal.signal(number, old)


@contextmanager
def signals_held():
    """Block the signals until the end of the block: for what must not be left half done."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def unblock_signals() -> None:
    """Undo :func:`signals_held` in a child, which inherits it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def ignore_signals() -> None:
    """While jobs are ended, a second Ctrl-C must not leave half of them alive."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def forward(number: int) -> None:
    """Send a signal to all processes of this group that descend from the parent, and return when all have
    ended.

    Jobs have groups of their own: the wrapper that started them gets the signal, and ends them. A process
    that the parent has just started may still ignore Ctrl-C, and gets SIGTERM instead.
    """
    group, parents, found_at = os.getpgrp(), [os.getppid()], {}
    while parents:
        parent = parents.pop()
        for pid in [found.pid for found in living() if found.parent == parent and found.group == group]:
            if pid != os.getpid():
                _send(pid, signal.SIGSTOP)  # or it might start others meanwhile
                parents.append(pid)
                found_at[pid] = signal.SIGTERM if parent == os.getppid() and ignores(pid, number) else number
    for pid, wanted in found_at.items():
        _send(pid, wanted)
        _send(pid, signal.SIGCONT)
    while {found.pid for found in living()} & found_at.keys():
        time.sleep(0.1)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


if __name__ == "__main__":  # run.sh: python3 -P -m pydino.jobs.signals NUMBER
    forward(int(sys.argv[1]))
