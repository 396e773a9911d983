"""Run a command as one job or as an array of jobs, by whatever wrapper ``--cmd`` names."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path

from pydino.base import UserError

from .resources import program_of
from .signals import run_forwarding

OWN_WRAPPERS = ("run_local.sh", "run_slurm.sh")
_UNSAFE = re.compile(rb"[^A-Za-z0-9_./:=,+@%-]")


def submit(
    cmd: str,
    log,
    argv: list[str],
    jobs: int = 1,
    options=(),
    made_from: str = "",
    shown: re.Pattern | None = None,
) -> None:
    """Run ``CMD OPTIONS [JOB=1:N] LOG ARGV`` and wait until it has ended.

    INT, TERM and HUP are forwarded to the wrapper, which ends its jobs; then this process ends in the same
    way.

    Args:
        cmd: the wrapper and its options: ``run_slurm.sh --mem 4G``, or a site's ``queue.pl``.
        log: log file; ``JOB`` in its name stands for the number of the job.
        argv: the command and its arguments, in which ``JOB`` as a word of its own does too. No word is read
            by a shell, whatever it holds.
        made_from: digest of all that the output is made from, by which our wrappers recognise the finished
            jobs of an interrupted run.
        shown: of a single job, which lines of its log are shown while it runs; None: none.

    Raises:
        UserError: the wrapper cannot be started, or reports a failure.
        KeyboardInterrupt, SystemExit: after a signal, when the wrapper has ended.
    """
    array = [f"JOB=1:{jobs}"] if jobs > 1 or re.search(r"(?<![^\W_])JOB(?!\w)", Path(log).name) else []
    status, received = run_wrapper(
        cmd,
        [*map(str, options), *array],
        log,
        argv,
        {number: number for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)},
        env=environment(made_from),
        while_it_runs=Follower(Path(log), shown).show if shown else None,
    )
    if received == signal.SIGINT:
        raise KeyboardInterrupt
    if received:
        raise SystemExit(128 + received)
    if status:
        raise UserError(f"failed: {program_of(cmd)} ended with status {status}; log: {log}")


def run_wrapper(cmd: str, options: list[str], log, argv: list[str], signals, **further) -> tuple[int, int]:
    """Run ``CMD OPTIONS LOG ARGV`` with every word of ``argv`` literal; the rest is as for
    :func:`~.signals.run_forwarding`.

    Raises:
        UserError: the wrapper cannot be started.
    """
    wrapper = check_wrapper(cmd)
    own = program_of(cmd) in OWN_WRAPPERS
    words = ["--", *map(str, argv)] if own else [quoted(str(word)) for word in argv]
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    try:
        return run_forwarding([*cmd.split(), *options, str(log), *words], signals, **further)
    except OSError as error:
        raise UserError(f"cannot run '{wrapper}', the wrapper that --cmd names: {error.strerror}") from error


def check_wrapper(cmd: str) -> str:
    """Return the program of a wrapper's command; a step calls this before it removes what it is to replace.

    Raises:
        UserError: it cannot be run.
    """
    wrapper = (cmd.split() or [""])[0]
    if not shutil.which(wrapper):
        raise UserError(
            f"cannot run '{wrapper}', the wrapper that --cmd names; it must be on PATH, and executable"
        )
    return wrapper


def environment(made_from: str) -> dict[str, str]:
    """Return the variables of a wrapper whose jobs make something from what has this digest."""
    kept = {name: value for name, value in os.environ.items() if name != "PYDINO_MADE_FROM"}
    return kept | ({"PYDINO_MADE_FROM": made_from} if made_from else {})


def quoted(word: str) -> str:
    """Return a word as bash reads it back, without a blank or a character that anything else would expand.

    Kaldi's ``run.pl`` and its relatives leave words without blanks to the shell as they are, and put others
    into double quotes; ``$'...'`` with every special byte as ``\\xHH`` passes through all of them.
    """
    data = os.fsencode(word)
    if data and not _UNSAFE.search(data):
        return word
    return "$'" + _UNSAFE.sub(lambda match: b"\\x%02x" % match[0][0], data).decode("ascii") + "'"


class Follower:
    """The lines that are added to a log, which may be replaced or cut short.

    Args:
        shown: matches the beginning of the lines that are shown.
    """

    def __init__(self, log: Path, shown: re.Pattern):
        self.log, self.shown, self.rest, self.stream = log, shown, "", None
        if self._reopen():
            self.stream.seek(0, os.SEEK_END)

    def _reopen(self) -> bool:
        """Go to the beginning of the log if it is another file than before, or was cut short; return whether
        it is.
        """
        try:
            found = os.stat(self.log)
            if self.stream and os.path.samestat(found, os.fstat(self.stream.fileno())):
                if found.st_size >= self.stream.tell():
                    return False
                self.stream.seek(0)
                return True
            self.stream = open(self.log, encoding="utf-8", errors="replace")
        except OSError:
            return False
        return True

    def show(self) -> None:
        """Print what is new."""
        text = self.rest + (self.stream.read() if self.stream else "")
        text += self.stream.read() if self._reopen() else ""
        *lines, self.rest = text.split("\n")
        for line in filter(self.shown.match, lines):
            print(line, file=sys.stderr, flush=True)
