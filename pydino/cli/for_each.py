"""Run a step for each row of a recipe: each system, each set, each trial list.

pydino for-each --context JSON --stage 6 --cmd run_local.sh -- \\
    plda steps/train_plda.sh {options} {labels} {embeddings} {plda} \\
    -- scoring steps/score.sh {options} {trials} {enroll} {test} {scores}

The first word is the kind of rows (pydino/recipe/rows.py); in the others, {placeholders} stand for a row's
values, of which some are lists that may be empty. What is up to date is not run. What follows -- is run when
all before it has ended well; what follows --and, at once with it.

The steps of one system that submit no jobs themselves (without --cmd) are run by one process, one after
another, and the processes of all systems at once as the jobs of one array. Steps whose jobs go to a cluster
are all started at once; everything else is run here, row by row, and the first failure ends it.
"""

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
from collections import Counter
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
from pydino.jobs.at_once import AtOnce
from pydino.jobs.resources import runs_here
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
        self.commands = commands
        super().__init__(f"The {what}, in {os.getcwd()}, {'was' if len(commands) == 1 else 'were'}:{lines}")


def add_arguments(parser):
    text = "what pydino recipe made of the options"
    parser.add_argument("--context", required=True, metavar="JSON", help=text)
    parser.add_argument("--stage", type=int, required=True, choices=STAGES, help="stage whose rows are meant")
    option(parser, "--round", "", "round of stage 8 whose rows are meant")
    option(parser, "--cmd", "run_local.sh", "how the jobs of the systems are run")
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and run none")
    text = "several are separated by -- or --and"
    parser.add_argument("calls", nargs="...", metavar="-- ROWS COMMAND...", help=text)


def run(args):
    set_program("run.sh")
    words = remainder(args.calls)
    if not words:
        raise UserError("expected ROWS COMMAND... after the options")
    try:
        context = config_from_dict(Run, json.loads(args.context) | {"round": args.round}, "--context")
        phases = calls_of(context, args.stage, words)
    except ValueError as error:
        raise UserError(str(error)) from None
    if args.dry_run:
        for call in (call for phase in phases for call in phase):
            print(f"  {shlex.join(call.words)}")
        return 0
    try:
        with signals_passed_on() as received:
            log_stem = ".".join(part for part in (f"exp/log/{STAGES[args.stage]}", args.round) if part)
            run_calls(phases, args.cmd, log_stem, received)
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


def run_calls(phases: list[list[Call]], cmd: str, log_stem: str, received: list[int], options=()) -> None:
    """Run the calls that are not up to date, phase by phase: those of a phase may be run at once.

    Args:
        phases: of :func:`pydino.recipe.calls_of`. Calls whose own jobs go to a cluster run at once, but those
            of a group in order; groups of others are the jobs of an array; all that is left runs here, one
            by one.
        cmd: the wrapper of the array, with ``options``.
        log_stem: of its logs, STEM.N.log.
        received: of :func:`signals_passed_on`.

    Raises:
        Failed, Interrupted: commands have failed; a signal has arrived.
    """
    for phase in phases:
        _run_phase(phase, cmd, log_stem, received, options)


def _run_phase(calls: list[Call], cmd: str, log_stem: str, received: list[int], options) -> None:
    apart = [call for call in calls if call.cmd and not runs_here(call.cmd)]
    chains = {label: todo for label, chain in _labelled(apart).items() if (todo := _not_done(chain))}
    _say_up_to_date(apart, len(apart) - sum(map(len, chains.values())))
    at_once = AtOnce({label: list(map(_program, chain)) for label, chain in chains.items()}, received)
    failed: list[list[str]] = []
    error: UserError | None = None
    try:
        if groups := [call for call in calls if call.in_array]:
            _run_groups(groups, cmd, log_stem, options)
        here = [call for call in calls if call not in apart and not call.in_array]
        _say_up_to_date(here, sum(not _run_here(call.words, received) for call in here))
    except Failed as raised:
        failed += raised.commands
    except UserError as raised:
        error = raised
    except BaseException:  # after a signal, which has reached them too; if it has not, their jobs go on
        at_once.send(signal.SIGHUP)
        at_once.wait()
        raise
    # The first that is still out of date has failed; with PYDINO_FORCE=true they all seem to be.
    failed += [next(filter(pending, chains[label]), chains[label][0]) for label in at_once.wait()]
    if received:
        raise Interrupted(received[0])
    if error and not failed:
        raise error
    if error:
        print(f"{program_name()}: {error}", file=sys.stderr)
    if failed:
        raise Failed(failed)


def _labelled(calls: list[Call]) -> dict[str, list[list[str]]]:
    """Return the commands of each group, and of each call that has none, by the shortest word that no other
    has, of its folders if it has any.
    """
    chains: dict[object, list[list[str]]] = {}
    for call in calls:
        chains.setdefault(call.group or id(call), []).append(call.words)
    count = Counter(word for chain in chains.values() for word in {word for words in chain for word in words})
    found = {}
    for chain in chains.values():
        own = [word for word in chain[-1] if count[word] == 1] or [shlex.join(chain[-1])]
        label = min(own, key=lambda word: (not word.startswith("exp/"), len(word)))
        found[label] = chain
    return found


def _not_done(chain: list[list[str]]) -> list[list[str]]:
    """Return the commands from the first that is not up to date."""
    for place, words in enumerate(chain):
        if reasons := pending(words):
            _say_why([(words[0], reasons)])
            return chain[place:]
    return []


def _program(words: list[str]) -> list[str]:
    program = [os.path.join(os.environ["PYDINO_ROOT"], words[0]), *words[1:]]
    return [sys.executable, *program] if words[0].endswith(".py") else program


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
        status = subprocess.Popen(_program(words)).wait()
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
    _say_up_to_date(calls, len(calls) - len(reasons))
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


def _say_up_to_date(calls: list[Call], count: int) -> None:
    if count:
        steps = ", ".join(dict.fromkeys(call.words[0] for call in calls))
        log(f"{steps}: {count} of {len(calls)} up to date")


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
