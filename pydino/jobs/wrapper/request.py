"""The command line of a job wrapper, as for Kaldi's ``run.pl``, ``queue.pl`` and ``slurm.pl``."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pydino.base import UserError, nearest, warn

from .command import glued_redirection, shell_command, substitute

_POSITIVE, _COUNT = (r"[1-9]\d*", "a positive whole number"), (r"\d+", "a whole number")
_VALUES = {  # option -> pattern of a valid value, and its description
    "mem": (r"\d+(\.\d+)?[KMGTkmgt]?", "a size such as 4G"),
    "time": (r"\d+|(\d+-)?\d+(:\d+){0,2}", "minutes, or hours:minutes:seconds, or days-hours"),
    "num-threads": _POSITIVE,
    "gpu": _COUNT,
    "max-jobs-run": _POSITIVE,
    "retries": _COUNT,
    "config": (r"(?s:.+)", "a file name"),
}


@dataclass
class JobRequest:
    """What is to be run, and what it needs."""

    log: str  # path of the log; holds the variable's name when there are several jobs
    command: list[str]
    variable: str | None = None  # name of the placeholder, usually JOB; None for a single job without one
    first: int = 1
    last: int = 1
    mem: str | None = None  # memory of each job: a number with K, M, G or T; megabytes without a letter
    num_threads: int = 1
    gpu: int = 0  # GPUs of each job
    max_jobs_run: int | None = None
    retries: int = 0  # how often a failed job is run again
    # all options as given, also those for a queueing system alone (time, config, a site's own); names with _
    given: dict[str, str] = field(default_factory=dict)
    numbers: range = field(init=False)

    def __post_init__(self):
        self.numbers = range(self.first, self.last + 1)

    def log_of(self, number: int) -> str:
        """Return the path of one job's log."""
        return substitute(self.log, self.variable, number) if self.variable else self.log

    def command_of(self, number: int) -> str:
        """Return the shell's command line of one job."""
        if not self.variable:
            return shell_command(self.command)
        return shell_command([substitute(word, self.variable, number) for word in self.command])

    @property
    def logs(self) -> str:
        """The logs in one word, for messages: ``log/x.*.log``."""
        return substitute(self.log, self.variable, "*") if self.variable else self.log


def parse_request(
    arguments: list[str], site_names: Callable[[str | None], Iterable[str]] | None = None
) -> JobRequest:
    """Read ``[options] [JOB=1:N] [options] LOG [--] COMMAND [argument ...]``.

    After ``--`` no word of the command is an operator of the shell (:func:`.command.shell_command`). Any name
    may take the place of JOB, and ``JOB=3`` means ``JOB=3:3``. Of an option given twice, the last counts.
    ``site_names`` returns the names of a site's own options, given the value of ``--config``.

    Raises UserError for any mistake in it.
    """
    rest = list(arguments)
    given = _take_options(rest)
    job_range = {}
    if rest and (match := re.fullmatch(r"([A-Za-z_]\w*)=(\S*)", rest[0])):
        first, last = _job_range(rest.pop(0), match[2])
        job_range = {"variable": match[1], "first": first, "last": last}
        given |= _take_options(rest)
    fields = _checked(given, site_names(given.get("config")) if site_names else ())
    if rest and not rest[0].strip():
        raise UserError("the name of the log is empty")
    if rest[1:] in ([], ["--"]):
        missing = "there is no command" if rest else "there is neither log nor command"
        raise UserError(f"expected [options] [JOB=1:N] LOG COMMAND ..., but {missing}")
    request = JobRequest(log=rest[0], command=rest[1:], given=given, **job_range, **fields)
    _check_words(request)
    return request


def _check_words(request: JobRequest) -> None:
    name = request.variable
    if name and len(request.numbers) > 1:
        if request.log_of(request.first) == request.log_of(request.last):
            raise UserError(
                "you are trying to run a parallel job but you are putting the output into just one log "
                f"file ({request.log}); write {name} into its name as a word of its own: make.{name}.log"
            )
        inside = next((word for word in request.command if name in word), None)
        if inside and request.command_of(request.first) == request.command_of(request.last):
            warn(
                f"all {len(request.numbers)} jobs run the very same command: the {name} in '{inside}' is no "
                f"word of its own; write feats.{name}.ark or part_{name}"
            )
    if glued := glued_redirection(request.command):
        warn(f"'{glued}' is passed to the program as it is; to redirect, separate the operator: \\> FILE")


def _take_options(rest: list[str]) -> dict[str, str]:
    """Remove the options at the head of ``rest`` and return their values by name (``num_threads``)."""
    values = {}
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).partition("=")
        if not equals:
            if not rest:
                raise UserError(f"option {name} needs a value")
            value = rest.pop(0)
        key = name[2:].replace("-", "_") if name.startswith("--") else name
        values.pop(key, None)
        values[key] = value
    return values


def _checked(given: dict[str, str], site: Iterable[str]) -> dict:
    """Return the fields of a request that the options stand for."""
    fields = {}
    others = [f"--{name.replace('_', '-')}" for name in site]
    known = [f"--{name}" for name in _VALUES] + sorted(set(others) - {f"--{name}" for name in _VALUES})
    for key, value in given.items():
        name = key.replace("_", "-")
        option = name if key.startswith("-") else f"--{name}"
        if option not in known:
            raise UserError(
                f"unknown option {option}{nearest(option, known)}; the options are {', '.join(known)}"
            )
        if name not in _VALUES:
            continue
        pattern, meaning = _VALUES[name]
        if not re.fullmatch(pattern, value):
            raise UserError(f"{option} '{value}' should be {meaning}")
        if key in JobRequest.__dataclass_fields__:
            fields[key] = int(value) if _VALUES[name] in (_POSITIVE, _COUNT) else value
    return fields


def _job_range(whole: str, text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    wrong = (
        "it should be like JOB=1:4" if not match else "the end is before the start" if last < first else ""
    )
    wrong = wrong or ("" if first else "the start must be strictly positive (some queues need it)")
    if wrong:
        raise UserError(f"invalid job range {whole}: {wrong}")
    return first, last
