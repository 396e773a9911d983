"""Run a command as one job or as an array of jobs, by whatever wrapper ``--cmd`` names."""

import os
import re
import signal
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

from pydino.base import UserError

OWN_WRAPPERS = ("run_local.sh", "run_slurm.sh")
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_UNSAFE = re.compile(rb"[^A-Za-z0-9_./:=,+@%-]")


def submit(cmd: str, log, argv: list[str], jobs: int = 1, options=(), made_from: str = "") -> None:
    """Run ``CMD OPTIONS [JOB=1:N] LOG ARGV`` and wait until it has ended.

    INT, TERM and HUP are forwarded to the wrapper, which ends its jobs; then this process ends in the same
    way.

    Args:
        cmd: the wrapper and its options, separated by blanks: ``run_slurm.sh --mem 4G``, or a site's
            ``queue.pl``.
        log: log file; ``JOB`` in its name stands for the number of the job.
        argv: the command and its arguments, in which ``JOB`` as a word of its own does too.
        jobs: number of jobs.
        options: further options of the wrapper.
        made_from: digest of all that the output is made from, by which our wrappers recognise the finished
            jobs of an interrupted run.

    Raises:
        UserError: the wrapper cannot be started, or reports a failure.
        KeyboardInterrupt, SystemExit: after a signal, when the wrapper has ended.
    """
    wrapper, *rest = cmd.split() or [""]
    array = [f"JOB=1:{jobs}"] if jobs > 1 or re.search(r"(?<![^\W_])JOB(?!\w)", Path(log).name) else []
    words = [str(word) for word in argv]
    if os.path.basename(wrapper) not in OWN_WRAPPERS:
        words = [quoted(word) for word in words]
    environment = {name: value for name, value in os.environ.items() if name != "PYDINO_MADE_FROM"}
    if made_from:
        environment["PYDINO_MADE_FROM"] = made_from
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with _forwarding() as forward:
        try:
            process = subprocess.Popen(
                [wrapper, *rest, *map(str, options), *array, str(log), *words], env=environment
            )
        except OSError as error:
            raise UserError(
                f"cannot run '{wrapper}', the wrapper that --cmd names: {error.strerror}; it must be on PATH"
            ) from error
        received = forward(process)
        status = process.wait()
    if received:
        if received[0] == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + received[0])
    if status:
        raise UserError(f"failed: {os.path.basename(wrapper)} ended with status {status}; log: {log}")


def quoted(word: str) -> str:
    """Return a word as bash reads it back, without a blank or a character that anything else would expand.

    Kaldi's ``run.pl`` and its relatives leave words without blanks to the shell as they are, and put others
    into double quotes; ``$'...'`` with every special byte as ``\\xHH`` passes through all of them.
    """
    data = os.fsencode(word)
    if data and not _UNSAFE.search(data):
        return word
    return "$'" + _UNSAFE.sub(lambda match: b"\\x%02x" % match[0][0], data).decode("ascii") + "'"


@contextmanager
def _forwarding():
    """Forward signals to a process: yields a function that takes the process and returns the list of the
    signals that arrive. What the caller ignores (nohup) stays ignored.
    """
    received, started = [], []

    def handler(number, _frame):
        received.append(number)
        for process in started:
            process.send_signal(number)

    def forward(process):
        for number in received:
            process.send_signal(number)
        started.append(process)
        return received

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, handler)
    try:
        yield forward
    finally:
        for number, old in before.items():
            signal.signal(number, old)
