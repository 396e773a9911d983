"""Run a step for each row of a recipe: each system, each set, each trial list.

pydino for-each --context JSON --stage 6 --cmd run_local.sh -- \\
    plda steps/train_plda.sh {options} {labels} {embeddings} {plda} \\
    -- scoring steps/score.sh {options} {trials} {enroll} {test} {scores}

The first word is the kind of rows (pydino/recipe/rows.py); in the others, {placeholders} stand for a row's
values, of which some are lists that may be empty. What is up to date is not run. The steps of one system
that submit no jobs themselves (without --cmd) are run by one process, one after another, and the processes
of all systems at once as the jobs of one array; everything else is run here, row by row. The first failure
ends it.
"""

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from pydino.base import (
    Lock,
    UserError,
    config_from_dict,
    force_token,
    lock_path,
    log,
    program_name,
    set_program,
    write_json,
)
from pydino.jobs.signals import Interrupted, forward_to_relatives, handling, signal_when_parent_dies
from pydino.jobs.submit import submit
from pydino.recipe import STAGES, Call, Run, calls_of, groups_of

from ._arguments import option, remainder
from ._steps import NO_INPUT, job_command, pending, run_step

_EXPECTED = ("not done yet", "its script decides", NO_INPUT)  # reasons to run a step that need no line


class Failed(UserError):
    """Commands have failed; they have reported why."""

    def __init__(self, commands: list[list[str]]):
        lines = "".join(f"\n  {shlex.join(words)}" for words in commands)
        what = "command" if len(commands) == 1 else f"{len(commands)} commands"
        super().__init__(f"The {what}, in {os.getcwd()}, {'was' if len(commands) == 1 else 'were'}:{lines}")


def add_arguments(parser):
    text = "what pydino recipe made of the options"
    parser.add_argument("--context", required=True, metavar="JSON", help=text)
    parser.add_argument("--stage", type=int, required=True, choices=STAGES, help="stage whose rows are meant")
    option(parser, "--round", "", "round of stage 8 whose rows are meant")
    option(parser, "--cmd", "run_local.sh", "how the jobs of the systems are run")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and run none")
    text = "several are separated by --"
    parser.add_argument("calls", nargs="...", metavar="-- ROWS COMMAND...", help=text)


def run(args):
    set_program("run.sh")
    words = remainder(args.calls)
    if not words:
        raise UserError("expected ROWS COMMAND... after the options")
    try:
        context = config_from_dict(Run, json.loads(args.context) | {"round": args.round}, "--context")
        sections = calls_of(context, args.stage, words)
    except ValueError as error:
        raise UserError(str(error)) from None
    if args.dry_run:
        for call in (call for section in sections for call in section):
            print(f"  {shlex.join(call.words)}")
        return 0
    try:
        with signals_passed_on() as received:
            log_stem = ".".join(part for part in (f"exp/log/{STAGES[args.stage]}", args.round) if part)
            run_calls(sections, args.cmd, log_stem, received)
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        return 128 + interrupted.number
    return 0


@contextmanager
def signals_passed_on():
    """Leave a signal to the program that is running, which run.sh or the terminal has sent it too, and wait
    until it has ended; without one raise Interrupted. Yields the list of the signals that have arrived.

    Where run.sh is killed, it sends nothing: the kernel signals this process, which passes it on.
    """
    received: list[int] = []
    parent = os.getppid()

    def handler(number, _frame):
        received.append(number)
        if os.getppid() != parent:
            forward_to_relatives(number, os.getpid())
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            raise Interrupted(number) from None

    with handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), handler):
        signal_when_parent_dies()
        yield received


def run_calls(sections: list[list[Call]], cmd: str, log_stem: str, received: list[int], options=()) -> None:
    """Run the calls that are not up to date, section by section.

    Args:
        sections: calls without a group are run here, one by one; groups as the jobs of an array, once
            there is a call without a group, or no further one.
        cmd: the wrapper of the array, with ``options``.
        log_stem: of its logs, STEM.N.log.
        received: of :func:`signals_passed_on`.

    Raises:
        Failed, Interrupted: a command has failed; a signal has arrived.
    """
    grouped: list[Call] = []
    for section in sections:
        here = [call for call in section if call.group is None]
        if here and grouped:
            _run_groups(grouped, cmd, log_stem, options)
            grouped = []
        done = [call for call in here if not _run_here(call.words, received)]
        if done:
            log(f"{done[0].words[0]}: {len(done)} of {len(here)} up to date")
        grouped += [call for call in section if call.group is not None]
    if grouped:
        _run_groups(grouped, cmd, log_stem, options)


def _run_here(words: list[str], received: list[int]) -> bool:
    """Run a command; return False if it was up to date."""
    if words[0].startswith("steps/"):
        reasons = pending(words)
        if not reasons:
            return False
        _say_why([(words[0], reasons)])
        name = program_name()
        status = run_step(words)
        set_program(name)
    else:
        program = [os.path.join(os.environ["PYDINO_ROOT"], words[0]), *words[1:]]
        status = subprocess.Popen([sys.executable, *program] if words[0].endswith(".py") else program).wait()
    if received:
        raise Interrupted(received[0])
    if status:
        raise Failed([words])
    return True


def _run_groups(calls: list[Call], cmd: str, log_stem: str, options=()) -> None:
    """Run the groups that are not up to date, as the jobs of one array."""
    held = Lock(lock_path(log_stem))
    if any(pending(call.words) for call in calls):
        held.wait(f"{log_stem}.N.log")  # by another run.sh, which may leave nothing to do
    wanted: list[list[list[str]]] = []
    reasons: list[tuple[str, dict[str, str]]] = []
    for group in groups_of(calls):
        found = [(call.words[0], why) for call in group if (why := pending(call.words))]
        reasons += found
        if found:
            wanted.append([call.words for call in group])
    _say_why(reasons)
    if len(reasons) < len(calls):
        steps = ", ".join(dict.fromkeys(call.words[0] for call in calls))
        log(f"{steps}: {len(calls) - len(reasons)} of {len(calls)} up to date")
    if not wanted:
        return
    # Named by its content: jobs of an earlier call that are still running must not be taken for these.
    digest = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]
    groups = Path(f"{log_stem}.{digest}.json")
    write_json(groups, wanted)
    error = None
    try:
        command = job_command("run-steps", groups, "JOB")
        submit(cmd, f"{log_stem}.JOB.log", command, jobs=len(wanted), options=options)
    except UserError as raised:
        error = raised
    # A group ends at its first step that fails, which like all that follow is still out of date.
    checked = force_token() != "true"  # with which every step is pending, also when it is done
    failed = [next((words for words in group if checked and pending(words)), None) for group in wanted]
    if any(failed) and not error:
        error = UserError(
            f"'{cmd}' reported success, but steps are not done; check that this wrapper runs the command "
            f"that follows the log file; logs: {log_stem}.N.log"
        )
    for number, words in enumerate(failed, 1):
        if words is None:
            _show(Path(f"{log_stem}.{number}.log"))
    if error and not any(failed):
        raise error
    if error:
        print(f"{program_name()}: {error}", file=sys.stderr)
        raise Failed([words for words in failed if words])
    groups.unlink(missing_ok=True)


def _say_why(pending_steps: list[tuple[str, dict[str, str]]]) -> None:
    """Log why steps are run again, a line for each reason."""
    outputs: dict[tuple[str, str], list[str]] = {}
    for step, reasons in pending_steps:
        for output, reason in reasons.items():
            if reason not in _EXPECTED:
                outputs.setdefault((step, reason), []).append(output)
    for (step, reason), found in outputs.items():
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        log(f"{step}: {found[0]}{more} to be made again: {reason}")


def _show(path: Path) -> None:
    """Show what a job has logged."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for line in lines:
        if not line.startswith("#"):
            print(line, file=sys.stderr)
