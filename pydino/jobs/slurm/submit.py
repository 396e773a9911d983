"""Submission that takes no job twice and loses none, though the controller, or an answer of sbatch, may be
lost.
"""

import os
import shlex
import time
from collections.abc import Callable
from itertools import islice

from pydino.base import UserError

from ..signals import signals_held
from .config import BUILT_IN, SlurmConfig
from .lookup import look_up
from .scheduler import LIMIT, NotTaken, Slurm, Unreachable, doubled, short_name

_LOOKS = 4  # for a job whose answer is lost: at once, and after 2, 4 and 8 seconds more


class Refused(UserError):
    """sbatch refused a job; nothing was submitted."""


def submit(slurm: Slurm, config: SlurmConfig, command: list[str], record, say: Callable[[str], None]) -> None:
    """Submit a job, and write its number into the last entry of a record. Waits for as long as the controller
    is away, or a limit is reached that passes.

    Args:
        config: its place is named in the message where sbatch refuses.
        command: :func:`.lookup.marked`, with that entry.
        record: has ``jobs``, ``path`` and ``write()``, as an :class:`..wrapper.attempt.Attempt`.
        say: is given a line when the submission has to wait.

    Raises:
        Refused: nothing was submitted; the entry is removed.
        UserError: it is not known whether the job was submitted.
    """
    entry, silent, pauses = record.jobs[-1], False, doubled(min(5.0, config.poll), 10 * config.poll)
    while True:
        why = None
        try:
            with signals_held():  # between the answer and the record
                entry["job"] = slurm.submit(command) or None
                entry |= {} if entry["job"] else {"taken": True}
                _write(record, entry, say)
        except Unreachable as error:
            why = error
        except UserError as error:
            record.jobs.remove(entry)
            advice = f"{_advice(str(error), config, command[-1])}. The command was: {shlex.join(command)}"
            raise Refused(f"sbatch refused: {error}\n{advice}") from error
        if entry["job"] or (not isinstance(why, NotTaken) and _find(slurm, record, entry, say)):
            return
        if not silent:
            say(f"Slurm takes no jobs for now ({why}); waiting until it does")
        silent = True
        time.sleep(next(pauses))


def _write(record, entry: dict, say: Callable[[str], None]) -> None:
    try:
        record.write()
    except UserError as error:  # the entry without a number is on disk, and the job is found by its token
        say(f"warning: Slurm job {short_name(entry['job'] or '')} is in the queue, but {error}")


def _find(slurm: Slurm, record, entry: dict, say: Callable[[str], None]) -> bool:
    """Return whether the controller, once it answers, knows the job of an entry.

    Raises:
        UserError: it is not known whether it does.
    """
    away, looks = doubled(2.0, 60.0), islice(doubled(2.0, 60.0), _LOOKS - 1)
    while True:
        try:
            look_up(slurm, record.jobs, record.path, ended=True)
        except Unreachable:
            time.sleep(next(away))
            continue
        except UserError:
            pause = next(looks, None)  # a job may take a moment to be seen
            if pause is None:
                raise
        else:
            pause = None if entry["job"] else next(looks, None)
        if entry["job"]:
            _write(record, entry, say)
        if pause is None:
            return bool(entry["job"])
        time.sleep(pause)


def _advice(said: str, config: SlurmConfig, script: str) -> str:
    size = os.path.getsize(script)
    if LIMIT.search(said):
        limit = "no job of yours is in the queue, so this one alone exceeds a limit of your account or QOS"
        return f"As {limit}: try fewer jobs, with --nj, or less --time and --mem"
    if "array" in said.lower():
        limit = "their highest number too (scontrol show config | grep -i array)"
        return f"The site may limit arrays, {limit}: try fewer jobs, with --nj"
    if size > 4_000_000:
        limit = "sites take 4 at most (max_script_size): shorter commands, or fewer jobs"
        return f"{script} has {size / 1e6:.0f} MB, and {limit}"
    if config.place == BUILT_IN:
        return "Set the site's partition, account and limits in conf/slurm.conf (docs/slurm.md)"
    return f"The site's partition, account and limits are set in {config.place}"
