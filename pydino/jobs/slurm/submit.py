"""Submission that takes no job twice and loses none, though the controller, or an answer of sbatch, may be
lost.
"""

import time
from collections.abc import Callable

from ..signals import signals_held
from .scheduler import Slurm, Unreachable

_PATIENCE_SECONDS, _PAUSE_SECONDS = 300.0, 5.0


def submit(
    slurm: Slurm, command: list[str], script: str, say: Callable[[str], None], taken: Callable[[str], None]
) -> None:
    """Submit a job.

    Args:
        command: sbatch and all that follows, the script at the end.
        script: its absolute path. If an answer got lost, the job is found by it, even if it has ended
            meanwhile.
        say: is given a line when the controller has to be asked again.
        taken: is given the job, before any signal can come between.

    Raises:
        UserError: sbatch refused.
        Unreachable: the controller did not answer for five minutes.
    """
    known, silent, patience = None, False, time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            found = slurm.find(script, ended=True)
            known = set(found) if known is None else known
            with signals_held():
                taken(next((job for job in found if job not in known), None) or slurm.submit(command))
            return
        except Unreachable as error:
            if time.monotonic() > patience:
                raise
            if not silent:
                say(f"Slurm takes no jobs ({error}); trying again for {_PATIENCE_SECONDS / 60:.0f} minutes")
                silent = True
            time.sleep(_PAUSE_SECONDS)
