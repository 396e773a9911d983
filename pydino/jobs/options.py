"""The command line of a job wrapper, as Kaldi users write it for ``run.pl``, ``queue.pl`` and ``slurm.pl``."""

import re
from dataclasses import dataclass, field

from pydino.base import UserError, nearest

from .script import substitute

_SHAPES = {  # option -> (pattern of a right value, how to say it)
    "mem": (r"\d+(\.\d+)?[KMGTkmgt]?", "a size such as 4G"),
    "time": (r"\d+|(\d+-)?\d+(:\d+){0,2}", "minutes, or hours:minutes:seconds, or days-hours"),
    "num-threads": (r"[1-9]\d*", "a positive whole number"),
    "gpu": (r"\d+", "a whole number"),
    "max-jobs-run": (r"[1-9]\d*", "a positive whole number"),
    "config": (r"(?s:.+)", "a file name"),
}


@dataclass
class JobRequest:
    """What is to be run, and what it needs.

    ``mem`` and ``time`` are limits a queueing system sets; ``config`` is its configuration. On one machine they have no effect.
    """

    log: str  # path of the log; holds the variable's name when there are several jobs
    command: list[str]
    variable: str | None = None  # name of the placeholder, usually JOB; None for a single job without one
    first: int = 1
    last: int = 1
    mem: str | None = None
    time: str | None = None
    num_threads: int = 1
    gpu: int = 0  # GPUs for each job
    max_jobs_run: int | None = None
    config: str | None = None
    numbers: range = field(init=False)

    def __post_init__(self):
        self.numbers = range(self.first, self.last + 1)


def parse_request(arguments: list[str]) -> JobRequest:
    """Read ``[options] [JOB=1:N] [options] LOG COMMAND [argument ...]``.

    Options may stand before or after ``JOB=1:N``; any name may take the place of JOB, and ``JOB=3`` means ``JOB=3:3``.

    Raises:
        UserError: an unknown option, a missing or impossible value, a bad range, no log or command, or one log for several jobs.
    """
    rest = list(arguments)
    given = _take_options(rest)
    if rest and (match := re.fullmatch(r"([A-Za-z_]\w*)=(\S*)", rest[0])):
        given["variable"] = match[1]
        given["first"], given["last"] = _job_range(rest.pop(0), match[2])
        given |= _take_options(rest)
    if len(rest) < 2:
        missing = "there is no command" if rest else "there is neither log nor command"
        raise UserError(f"expected [options] [JOB=1:N] LOG COMMAND ..., but {missing}")
    request = JobRequest(log=rest[0], command=rest[1:], **given)
    if request.variable and len(request.numbers) > 1:
        if substitute(request.log, request.variable, 1) == substitute(request.log, request.variable, 2):
            raise UserError(
                f"you are trying to run a parallel job but you are putting the output into just one log file ({request.log}); "
                f"write {request.variable} into its name, as in make.{request.variable}.log"
            )
    return request


def _take_options(rest: list[str]) -> dict:
    """Remove the options at the head of ``rest`` and return them by field name."""
    given = {}
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        name, equals, value = option.lstrip("-").partition("=")
        name = name.replace("_", "-")
        if not option.startswith("--") or name not in _SHAPES:
            known = [f"--{known}" for known in _SHAPES]
            raise UserError(f"unknown option {option.partition('=')[0]}{nearest(f'--{name}', known)}; the options are {', '.join(known)}")
        if not equals:
            if not rest:
                raise UserError(f"option --{name} needs a value")
            value = rest.pop(0)
        pattern, meaning = _SHAPES[name]
        if not re.fullmatch(pattern, value):
            raise UserError(f"--{name} '{value}' should be {meaning}")
        given[name.replace("-", "_")] = int(value) if name in ("num-threads", "gpu", "max-jobs-run") else value
    return given


def _job_range(whole: str, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    if not match:
        raise UserError(f"invalid job range {whole}: it should be like JOB=1:4")
    first, last = int(match[1]), int(match[2] or match[1])
    if first < 1:
        raise UserError(f"invalid job range {whole}: the start must be strictly positive (some queues need it)")
    if last < first:
        raise UserError(f"invalid job range {whole}: the end is before the start")
    return first, last
