"""What the verbs behind ``steps/*.sh`` share. Each of ``STEPS`` has, besides ``add_arguments`` and ``run``,

    steps(args) -> list[Step]    what it makes and from what, declared once; imports nothing slow

so that a caller of many can ask which are out of date, and run those in one process.
"""

import importlib
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from pydino.base import Step, UserError, force_token, log, program_name
from pydino.jobs.submit import check_wrapper, submit

from . import main, parser_of
from ._arguments import PROJECT

STEPS = (
    "make-fbank",
    "make-mfcc",
    "compute-vad",
    "make-train-set",
    "train",
    "monitor",
    "make-baseline",
    "extract-embeddings",
    "train-wccn",
    "extract-crops",
    "join-embeddings",
    "cluster",
    "measure-clusters",
    "train-plda",
    "adapt-plda",
    "score",
    "make-crop-trials",
    "calibrate",
    "threshold",
    "make-task",
    "subset-task",
    "train-classifier",
    "finetune",
    "run-controls",
)

NO_INPUT = "its inputs are not there yet"


def pending(argv: list[str]) -> dict[str, str]:
    """Return what a call of a step has to make: output -> reason; empty if all is up to date.

    Args:
        argv: the step as a shell would call it: ``["steps/score.sh", "--backend", "plda", ...]``.

    A step whose inputs are not there yet has to run: an earlier one makes them. So does everything that comes
    after a step that has to run, since its marks are about to change.
    """
    verb = _verb(argv[0])
    if verb not in STEPS:
        return {argv[-1]: "its script decides"}
    module = importlib.import_module(f"pydino.cli.{verb.replace('-', '_')}")
    try:
        steps = module.steps(parser_of(verb, module).parse_args(argv[1:]))
        return {str(step.makes): reason for step in steps if (reason := step.reason())}
    except UserError:
        return {argv[-1]: NO_INPUT}  # if it is anything else, running the step says so


def run_step(argv: list[str]) -> int:
    """Run a step, in this process if it is one of ``STEPS``, and return its exit status; a mistake has been
    reported.
    """
    verb = _verb(argv[0])
    if verb not in STEPS:
        return subprocess.run([PROJECT / argv[0], *argv[1:]], check=False).returncode
    try:
        return main([verb, *argv[1:]])
    except SystemExit as end:  # of the parser, or after a signal
        return end.code if isinstance(end.code, int) else 1


def _verb(script: str) -> str:
    return Path(script).stem.replace("_", "-")


def check_files(*paths) -> None:
    """Raise UserError for the first of the files that does not exist."""
    for path in paths:
        if not Path(path).is_file():
            raise UserError(f"no such file: {path}")


def why_skipped(*folders) -> str:
    """Return the first reason, in a file ``skipped``, why a step could make nothing in a folder; an empty
    string if there is none.
    """
    paths = [path for folder in folders if (path := Path(folder, "skipped")).is_file()]
    return paths[0].read_text(encoding="utf-8").strip() if paths else ""


def job_command(*words, makes: Step | None = None) -> list[str]:
    """Return ``pydino WORDS`` as a job runs it: a site's wrapper may give its jobs none of our variables.

    Args:
        makes: the step that the job writes the mark of, whose lock this process has.
    """
    given = [f"PYDINO_FORCE={force_token()}"] if force_token() else []
    given += [f"PYDINO_LOCKED={makes.mark}"] if makes else []
    return [*(["env", *given] if given else []), "pydino", *map(str, words)]


def run_or_submit(verb: str, step: Step, args, make, log_file) -> None:
    """Bring ``step`` up to date: by ``make()`` in this process or, with ``--cmd``, by the same call as one
    job, which then writes the mark.
    """
    if step.is_done():
        return
    if not args.cmd:
        with step:
            make()
        return
    check_wrapper(args.cmd)
    step.begin()
    command = job_command(verb, *without_cmd(args.arguments), makes=step)
    submit(args.cmd, log_file, command, made_from=step.digest)
    if not step.mark.exists():
        raise UserError(
            f"the job left no {step.mark}, though its wrapper, --cmd '{args.cmd}', reported success; "
            f"see {log_file}: check that this wrapper runs the command that follows the log file, then run "
            "the step again"
        )
    log(last_message(log_file, verb))


def aside(check: Callable[[], object]) -> int:
    """Run a check that imports torch, in a child process: the one that waits for jobs, perhaps for days and
    beside others, stays without. Return the exit status; a mistake has been reported.
    """
    if "torch" in sys.modules:
        check()
        return 0
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status < 0:
            raise UserError(f"the check before any job was killed by signal {-status}; out of memory?")
        return status
    status = 1
    try:
        check()
        status = 0
    except UserError as error:
        print(f"{program_name()}: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        status = 130
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def without_cmd(arguments: list[str]) -> list[str]:
    """Return the words of a call without ``--cmd`` and its value."""
    kept, skip = [], False
    for word in arguments:
        if not skip and not word.startswith("--cmd="):
            skip = word == "--cmd"
            kept += [] if skip else [word]
        else:
            skip = False
    return kept


def last_message(log_file, verb: str) -> str:
    """Return the last line that a job of ``verb`` logged, to show it."""
    try:
        lines = Path(log_file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    said = [line.partition(f" pydino {verb}: ")[2] for line in lines if not line.startswith("#")]
    return next((text for text in reversed(said) if text), f"done; log: {log_file}")


def command_line(verb: str, args) -> str:
    """The call of a step as a person would type it."""
    return shlex.join([f"steps/{verb.replace('-', '_')}.sh", *without_cmd(args.arguments)])


def options_of(args, *names: str) -> dict:
    """Return some of the arguments, by name, for the mark of a step."""
    return {name: getattr(args, name) for name in names}


def marks_of(*folders) -> list[str]:
    """Return the marks that lie in folders, sorted."""
    return [str(path) for folder in folders for path in sorted(Path(folder).glob(".done*"))]


def real_name(folder) -> str:
    """The name of a data directory, also where it is given as ``.`` or through a link."""
    return os.path.basename(os.path.realpath(folder))
