"""Job logs: a head and a foot in the words of ``run.pl``, so that ``grep 'Ended (code'`` keeps working, and
the one reader of them.

::

    # COMMAND
    # Running on NODE, Slurm job 12       (where a queueing system ran it)
    # Started at DATE
    #
    (output and errors of the command)
    # Accounting: time=12 threads=1
    # Ended (code 0) at DATE, elapsed time 12 seconds

Kaldi's ``slurm.pl`` ends its logs with ``# Finished at DATE with status C``. A job that is queued again
appends to its log, so the last of these lines is the one that counts.
"""

import os
import re
import stat
import time
from contextlib import suppress
from dataclasses import dataclass

from pydino.base import UserError

_DATE = "%a %b %e %H:%M:%S %Z %Y"  # as `date` prints it
_EVENT = re.compile(
    rb"^# (?:Started at (?P<started>.+)"
    rb"|Ended \(code (?P<code>\d+)(?:; signal (?P<signal>\d+))?\) at (?P<ended>[^,\n]+).*"
    rb"|Finished at (?P<finished>.+) with status (?P<status>\d+))$",
    re.MULTILINE,
)
_SLURM_JOB = re.compile(rb"Slurm job (\d+)|SLURM_JOB_ID=(\d+)")
_HEAD_BYTES, _TAIL_BYTES = 4000, 8000


def head(command: str, where: str = "") -> str:
    """Return the first lines of a log."""
    place = f"# Running on {where}\n" if where else ""
    return f"# {command}\n{place}# Started at {time.strftime(_DATE)}\n#\n"


def foot(code: int, seconds: float, num_threads: int = 1) -> str:
    """Return the last lines of a log; ``code`` is negative for a job that a signal ended, as in
    :mod:`subprocess`.
    """
    ended = f"code {code}" if code >= 0 else f"code 0; signal {-code}"
    return (
        f"# Accounting: time={seconds:.0f} threads={num_threads}\n"
        f"# Ended ({ended}) at {time.strftime(_DATE)}, elapsed time {seconds:.0f} seconds\n"
    )


def open_log(path: str, command: str) -> int:
    """Keep an earlier log, write the head of a new one, and return a descriptor that appends to it."""
    put_aside(path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        os.write(descriptor, head(command).encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise cannot_write(path, error) from error
    return descriptor


def close_log(descriptor: int, code: int, seconds: float, num_threads: int) -> None:
    """Write the foot and close."""
    log = os.fstat(descriptor)
    unfinished = stat.S_ISREG(log.st_mode) and os.pread(descriptor, 1, max(log.st_size - 1, 0)) != b"\n"
    with suppress(OSError):  # a full disk has failed the job already; the wrapper's own message has to do
        os.write(descriptor, (("\n" if unfinished else "") + foot(code, seconds, num_threads)).encode())
    os.close(descriptor)


def cannot_write(path: str, error: OSError) -> UserError:
    """Return the error for a log that cannot be written."""
    return UserError(
        f"cannot write the log {path}: {error.strerror}; free some space or choose another place"
    )


def check_log(path: str) -> None:
    """Raise UserError where a folder is in the place of a log, or of the earlier log that is kept."""
    for place in (path, path + ".1"):
        if os.path.isdir(place):
            advice = "move it away, or give the log another name"
            raise UserError(f"cannot write the log {path}: {place} is a folder; {advice}")


def is_device(path: str) -> bool:
    """Return whether a log is a device or a pipe, such as /dev/null: nothing is kept beside it."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def put_aside(path: str) -> None:
    """Make the folder of a log, and keep an earlier log as ``path.1``; a device stays where it is."""
    check_log(path)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if os.path.isfile(path):
            os.replace(path, path + ".1")
    except OSError as error:
        raise cannot_write(path, error) from error


def last_bytes(path, size: int = _TAIL_BYTES) -> bytes:
    """Return the end of a file, however long it is."""
    with open(path, "rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - size))
        return stream.read()


def tail(path: str, num_lines: int = 20) -> list[str]:
    """Return the last lines of a log, however long it is and whatever bytes it holds."""
    return last_bytes(path, 500 * num_lines).decode("utf-8", "replace").splitlines()[-num_lines:]


@dataclass
class LogState:
    """What the head and the foot of a log say.

    Attributes:
        started, ended: seconds since 1970; None where unknown.
        code: exit code, 128 + signal for one that a signal ended; None while there is no foot.
        complete: nothing but what Slurm adds follows the foot. (The output of a job may hold a line like a
            foot, of jobs that it ran itself, and a job that was queued again goes on after one.)
    """

    started: float | None = None
    ended: float | None = None
    code: int | None = None
    slurm_job: str | None = None
    complete: bool = False


def read_log(path) -> LogState:
    """Read the head and the foot of a log.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as stream:
        first = stream.read(_HEAD_BYTES)
    last = last_bytes(path)
    state = LogState()
    if job := _SLURM_JOB.search(first):
        state.slurm_job = (job[1] or job[2]).decode()
    events = [*_EVENT.finditer(last)]
    starts = [event["started"] for event in (*_EVENT.finditer(first), *events) if event["started"]]
    state.started = _seconds(starts[-1]) if starts else None
    if events and not events[-1]["started"]:
        end = events[-1]
        state.code = 128 + int(end["signal"]) if end["signal"] else int(end["code"] or end["status"])
        state.ended = _seconds(end["ended"] or end["finished"])
        rest = last[end.end() :].splitlines()
        state.complete = all(not line.strip() or line.startswith((b"slurmstepd", b"srun")) for line in rest)
    return state


def ended_with(path: str) -> int | None:
    """Return the exit code in the foot of a log; None where there is none (yet) or something follows it."""
    with suppress(OSError):
        state = read_log(path) if os.path.isfile(path) else LogState()
        return state.code if state.complete else None


def _seconds(date: bytes) -> float | None:
    with suppress(ValueError, IndexError):
        # Mon Nov 23 03:08:46 UTC 2026; the zone is this machine's
        words = date.decode("ascii", "replace").split()
        return time.mktime(time.strptime(" ".join([*words[:4], words[-1]]), "%a %b %d %H:%M:%S %Y"))
