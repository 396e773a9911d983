"""Ctrl-C, TERM, HUP and USR1 as an exception, so that jobs are ended, or left, in one place; and handed on to
who may not have heard.
"""

import os
import signal
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
    """Turn the first of the signals into :class:`Interrupted`, and be deaf to others from then on; else
    restore the handlers.

    Signals come in twos: one to the group of processes, and one that the step in front of us hands on. The
        second must not interrupt
    the ending of jobs that the first began.
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
    """Let the signals wait until the block has ended: for what must not be done by half."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def unblock_signals() -> None:
    """Undo :func:`signals_held` in a child, which inherits it."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def ignore_signals() -> None:
    """Once ending, a second Ctrl-C must not leave half of the jobs alive."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def hand_on(number: int) -> None:
    """Send a signal to all that our parent has started in our group of processes, and return when all of it
    has ended.

    Jobs have groups of their own: the wrapper that started them hears it, and ends them. What our parent has
        just started may not hear
    Ctrl-C yet, and gets SIGTERM instead.
    """
    group, told, parents, deaf = os.getpgrp(), [], [os.getppid()], set()
    while parents:
        parent = parents.pop()
        for pid in [found.pid for found in living() if found.parent == parent and found.group == group]:
            if pid != os.getpid():
                _tell(pid, signal.SIGSTOP)  # or it might start something while we look
                told.append(pid)
                parents.append(pid)
                if parent == os.getppid() and ignores(pid, number):
                    deaf.add(pid)
    for pid in told:
        _tell(pid, signal.SIGTERM if pid in deaf else number)
        _tell(pid, signal.SIGCONT)
    while {found.pid for found in living()}.intersection(told):
        time.sleep(0.1)


def _tell(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass
