"""Submission that takes no job twice and loses none, though the controller, or an answer of sbatch, may be
lost.
"""

import os
import shlex
import time
from collections.abc import Callable

from pydino.base import UserError

from ..signals import signals_held
from .config import BUILT_IN, SlurmConfig
from .scheduler import Slurm, Unreachable

_PATIENCE_SECONDS, _PAUSE_SECONDS = 300.0, 5.0


class Refused(UserError):
    """sbatch refused a job; nothing was submitted."""


def submit(
    slurm: Slurm,
    config: SlurmConfig,
    command: list[str],
    say: Callable[[str], None],
    taken: Callable[[str], None],
) -> None:
    """Submit a job. Raises UserError where the controller does not answer for five minutes.

    Args:
        config: named in the message where sbatch refuses.
        command: sbatch and all that follows, the absolute path of the script at the end. If an answer got
            lost, the job is found by it, even if it has ended meanwhile.
        say: is given a line when the controller has to be asked again.
        taken: is given the job, before any signal can come between.
    """
    known, silent, patience = None, False, time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            found = slurm.find(command[-1], ended=True)
            known = set(found) if known is None else known
            with signals_held():
                taken(next((job for job in found if job not in known), None) or _ask(slurm, config, command))
            return
        except Unreachable as error:
            if time.monotonic() > patience:
                raise UserError(f"Slurm takes no jobs ({error}); the same command tries again") from error
            if not silent:
                say(f"Slurm takes no jobs ({error}); trying again for {_PATIENCE_SECONDS / 60:.0f} minutes")
                silent = True
            time.sleep(_PAUSE_SECONDS)


def _ask(slurm: Slurm, config: SlurmConfig, command: list[str]) -> str:
    try:
        return slurm.submit(command)
    except UserError as error:
        advice = _advice(str(error), config, command[-1])
        raise Refused(f"sbatch refused: {error}\n{advice}. The command was: {shlex.join(command)}") from error


def _advice(said: str, config: SlurmConfig, script: str) -> str:
    size = os.path.getsize(script)
    if "array" in said.lower():
        limit = "their highest number too (scontrol show config | grep -i array)"
        return f"The site may limit arrays, {limit}: try fewer jobs, with --nj"
    if size > 4_000_000:
        limit = "sites take 4 at most (max_script_size): shorter commands, or fewer jobs"
        return f"{script} has {size / 1e6:.0f} MB, and {limit}"
    place = "conf/slurm.conf (docs/slurm.md)" if config.place == BUILT_IN else config.place
    return f"The site's partition, account and limits are set in {place}{config.of_environment()}"
