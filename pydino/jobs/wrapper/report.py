"""What a wrapper says about failed jobs, in the words of ``run.pl``."""

import os
import sys

from .log import is_device, tail
from .request import JobRequest

_WIDTH = 400  # characters of a line that are shown


def say(program: str, text: str) -> None:
    """Write one line to standard error."""
    _print(f"{program}: {text}")


def _print(text: str) -> None:
    """Write to standard error. Where its reader has gone (``2>&1 | tee``), the jobs go on all the same."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        # or Python fails once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 2)


def report_failures(request: JobRequest, failed: list[int], program: str, remarks: list[str]) -> None:
    """Name the failed jobs and their logs, give the reasons that are known, and show the end of the first
    one's log.
    """
    log = request.log_of(failed[0])
    if len(request.numbers) == 1:
        say(program, f"job failed, log is in {log}")
    else:
        say(program, f"{len(failed)} / {len(request.numbers)} failed, log is in {request.logs}")
        say(program, f"failed jobs: {' '.join(map(str, failed))}")
    for remark in remarks:
        say(program, remark)
    if is_device(log):
        return
    try:
        lines = tail(log)
    except OSError:
        say(program, f"there is no {log}: the job ended before it wrote one, or it is on another disk")
        return
    say(program, f"the end of {log}:")
    for line in lines:
        _print("    " + (line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"))
