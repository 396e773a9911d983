"""What a wrapper says of failed jobs, in the words of ``run.pl``."""

import sys

from .log import tail
from .options import JobRequest


def say(program: str, text: str) -> None:
    """Write one line to standard error."""
    print(f"{program}: {text}", file=sys.stderr, flush=True)


def report_failures(request: JobRequest, failed: list[int], program: str, remarks: list[str]) -> None:
    """Name the failed jobs and their logs, give the reasons that are known, and show the first one's last words."""
    log = request.log_of(failed[0])
    if len(request.numbers) == 1:
        say(program, f"job failed, log is in {log}")
    else:
        say(program, f"{len(failed)} / {len(request.numbers)} failed, log is in {request.logs}")
        say(program, f"failed jobs: {' '.join(map(str, failed))}")
    for remark in remarks:
        say(program, remark)
    try:
        lines = tail(log).splitlines()
    except OSError:
        say(program, f"there is no {log}: the job did not come to write one")
        return
    say(program, f"the end of {log}:")
    for line in lines:
        print("    " + line, file=sys.stderr)
    sys.stderr.flush()
