"""The command line of a job wrapper, as Kaldi users write it for ``run.pl``, ``queue.pl`` and
``slurm.pl``.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pydino.base import UserError, nearest, warn

from .script import shell_command, substitute

_SHAPES = {  # option -> (pattern of a right value, how to say it)
    "mem": (r"\d+(\.\d+)?[KMGTkmgt]?", "a size such as 4G"),
    "time": (r"\d+|(\d+-)?\d+(:\d+){0,2}", "minutes, or hours:minutes:seconds, or days-hours"),
    "num-threads": (r"[1-9]\d*", "a positive whole number"),
    "gpu": (r"\d+", "a whole number"),
    "max-jobs-run": (r"[1-9]\d*", "a positive whole number"),
    "retries": (r"\d+", "a whole number"),
    "config": (r"(?s:.+)", "a file name"),
}
_WHOLE_NUMBERS = ("num-threads", "gpu", "max-jobs-run", "retries")


@dataclass
class JobRequest:
    """What is to be run, and what it needs.

    ``time`` is a limit that a queueing system sets, ``config`` its configuration; on one machine they have no
    effect.
    """

    log: str  # path of the log; holds the variable's name when there are several jobs
    command: list[str]
    variable: str | None = None  # name of the placeholder, usually JOB; None for a single job without one
    first: int = 1
    last: int = 1
    # memory of each job: a number with K, M, G or T; M where there is no letter, as with Slurm
    mem: str | None = None
    time: str | None = None
    num_threads: int = 1
    gpu: int = 0  # GPUs for each job
    max_jobs_run: int | None = None
    retries: int = 0  # how often a failed job is run again
    config: str | None = None
    # the options as they were given, by name (num_threads), a site's own too
    given: dict[str, str] = field(default_factory=dict)
    numbers: range = field(init=False)

    def __post_init__(self):
        self.numbers = range(self.first, self.last + 1)

    def log_of(self, number: int) -> str:
        """Return the path of one job's log."""
        return substitute(self.log, self.variable, number) if self.variable else self.log

    def command_of(self, number: int) -> str:
        """Return the shell's command line of one job."""
        return shell_command(
            [substitute(a, self.variable, number) for a in self.command] if self.variable else self.command
        )

    @property
    def logs(self) -> str:
        """The logs in one word, for messages: ``log/x.*.log``."""
        return substitute(self.log, self.variable, "*") if self.variable else self.log


def parse_request(
    arguments: list[str], site_names: Callable[[str | None], Iterable[str]] | None = None
) -> JobRequest:
    """Read ``[options] [JOB=1:N] [options] LOG COMMAND [argument ...]``.

    Options may stand before or after ``JOB=1:N``; any name may take the place of JOB, and ``JOB=3`` means
    ``JOB=3:3``. Of an option that is given twice, the last counts. ``site_names`` returns the names of the
    options that a site has of its own, given the value of ``--config``.

    Raises:
        UserError: an unknown option, a missing or impossible value, a bad range, no log or command, or one
            log for several jobs.
    """
    rest = list(arguments)
    texts = _take_options(rest)
    given = {}
    if rest and (match := re.fullmatch(r"([A-Za-z_]\w*)=(\S*)", rest[0])):
        given["variable"] = match[1]
        given["first"], given["last"] = _job_range(rest.pop(0), match[2])
        texts |= _take_options(rest)
    site = set(site_names(texts.get("config")) if site_names else ()) - {
        name.replace("-", "_") for name in _SHAPES
    }
    given |= _checked(texts, site)
    if rest and not rest[0].strip():
        raise UserError("the name of the log is empty")
    if len(rest) < 2:
        missing = "there is no command" if rest else "there is neither log nor command"
        raise UserError(f"expected [options] [JOB=1:N] LOG COMMAND ..., but {missing}")
    request = JobRequest(log=rest[0], command=rest[1:], **given)
    if request.variable and len(request.numbers) > 1:
        if substitute(request.log, request.variable, 1) == substitute(request.log, request.variable, 2):
            raise UserError(
                "you are trying to run a parallel job but you are putting the output into just one log "
                f"file ({request.log}); "
                f"write {request.variable} into its name as a word of its own, as in "
                f"make.{request.variable}.log"
            )
        inside = next((argument for argument in request.command if request.variable in argument), None)
        if inside and request.command_of(1) == request.command_of(2):
            warn(
                f"all {len(request.numbers)} jobs run the very same command: the {request.variable} in "
                f"'{inside}' is no word of its own "
                f"and is not replaced by the job's number (in {request.variable}.ark and "
                f"x_{request.variable} it would be)"
            )
    return request


def _take_options(rest: list[str]) -> dict[str, str]:
    """Remove the options at the head of ``rest`` and return their texts by name (``num_threads``)."""
    texts = {}
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        name, equals, value = option.partition("=")
        if not equals:
            if not rest:
                _check_name(name, ())
                raise UserError(f"option {name} needs a value")
            value = rest.pop(0)
        key = name[2:].replace("-", "_") if name.startswith("--") else name
        texts.pop(key, None)
        texts[key] = value
    return texts


def _checked(texts: dict[str, str], site: Iterable[str]) -> dict:
    """Return the fields of a request that the options stand for."""
    fields = {"given": dict(texts)}
    for key, value in texts.items():
        name = key.replace("_", "-")
        _check_name(key if key.startswith("-") else f"--{name}", site)
        if key in site:
            continue
        pattern, meaning = _SHAPES[name]
        if not re.fullmatch(pattern, value):
            raise UserError(f"--{name} '{value}' should be {meaning}")
        fields[key] = int(value) if name in _WHOLE_NUMBERS else value
    return fields


def _check_name(option: str, site: Iterable[str]) -> None:
    known = [f"--{name}" for name in (*_SHAPES, *sorted(name.replace("_", "-") for name in site))]
    if option.replace("_", "-") not in known:
        raise UserError(
            f"unknown option {option}{nearest(option, known)}; the options are {', '.join(known)}"
        )


def _job_range(whole: str, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    if not match:
        raise UserError(f"invalid job range {whole}: it should be like JOB=1:4")
    first, last = int(match[1]), int(match[2] or match[1])
    if first < 1:
        raise UserError(
            f"invalid job range {whole}: the start must be strictly positive (some queues need it)"
        )
    if last < first:
        raise UserError(f"invalid job range {whole}: the end is before the start")
    return first, last
