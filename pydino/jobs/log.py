"""The head and the foot of a job's log, in the words of ``run.pl``, so that ``grep 'Ended (code'`` keeps
working.
"""

import os
import re
import stat
import time

from pydino.base import UserError

_DATE = "%a %b %e %H:%M:%S %Z %Y"  # as `date` prints it


def open_log(path: str, command: str) -> int:
    """Keep an earlier log as ``path.1``, write the head of a new one, and return a descriptor that appends to
    it.
    """
    put_aside(path)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        _write(descriptor, f"# {command}\n# Started at {time.strftime(_DATE)}\n#\n")
    except OSError as error:
        raise UserError(
            f"cannot write the log {path}: {error.strerror}; free some space or choose another place"
        ) from error
    return descriptor


def check_log(path: str) -> None:
    """Raise UserError where a folder lies in a log's place, or in that of the one that it is kept as."""
    for place in (path, path + ".1"):
        if os.path.isdir(place):
            raise UserError(
                f"cannot write the log {path}: {place} is a folder; move it away, or give the log another "
                "name"
            )


def is_device(path: str) -> bool:
    """Tell whether a log is none that can be kept, looked at or moved: /dev/null, say."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def put_aside(path: str) -> None:
    """Make the folder of a log, and keep an earlier log as ``path.1``. A device, such as /dev/null, stays
    where it is.
    """
    check_log(path)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if os.path.isfile(path):
            os.replace(path, path + ".1")
    except OSError as error:
        raise UserError(
            f"cannot write the log {path}: {error.strerror}; free some space or choose another place"
        ) from error


def close_log(descriptor: int, exit_code: int, seconds: float, num_threads: int) -> None:
    """Write the foot and close. ``exit_code`` is negative for a job that a signal ended, as in
    :mod:`subprocess`.
    """
    code = f"code {exit_code}" if exit_code >= 0 else f"code 0; signal {-exit_code}"
    log = os.fstat(descriptor)
    newline = (
        "\n"
        if stat.S_ISREG(log.st_mode) and os.pread(descriptor, 1, max(log.st_size - 1, 0)) != b"\n"
        else ""
    )
    try:
        _write(
            descriptor,
            f"{newline}# Accounting: time={seconds:.0f} threads={num_threads}\n"
            f"# Ended ({code}) at {time.strftime(_DATE)}, elapsed time {seconds:.0f} seconds\n",
        )
    except OSError:
        # a full disk has failed the job already, and there is nowhere to say so but the wrapper's own message
        pass
    finally:
        os.close(descriptor)


def _write(descriptor: int, text: str) -> None:
    os.write(descriptor, text.encode("utf-8", "surrogateescape"))


def tail(path: str, num_lines: int = 20) -> str:
    """Return the last lines of a log, however long it is and whatever bytes it holds."""
    with open(path, "rb") as stream:
        stream.seek(max(0, os.fstat(stream.fileno()).st_size - 500 * num_lines))
        lines = stream.read().decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-num_lines:])


def ended_with(path: str) -> int | None:
    """Return the exit code that the foot of a log tells, 128 + signal for one that a signal ended; None where
    there is no foot (yet).

    The foot is the last line: the job's own output may hold one that looks like it (of jobs that it ran
        itself), and a requeued job
    goes on after it. Only Slurm may have a word after it.
    """
    if not os.path.isfile(path):
        return None
    try:
        lines = tail(path).splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        if not line.strip() or line.startswith(("slurmstepd", "srun")):
            continue
        match = re.match(r"# Ended \(code (\d+)(?:; signal (\d+))?\) at ", line)
        if not match:
            return None
        return 128 + int(match[2]) if match[2] else int(match[1])
    return None


def ended_well(path: str) -> bool:
    """Tell whether a log says at its end that its job succeeded."""
    return ended_with(path) == 0
