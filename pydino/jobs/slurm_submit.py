"""Submitting so that no job is taken twice and none gets lost, though the controller may be away, and an
answer of sbatch's too.
"""

import time
from collections.abc import Callable

from .interruption import signals_held
from .slurm_queries import Slurm, Unreachable

_PATIENCE_SECONDS, _PAUSE_SECONDS = 300.0, 5.0


def submit_surely(
    slurm: Slurm,
    command: list[str],
    script: str,
    say: Callable[[str], None],
    taken: Callable[[str], None] = lambda job: None,
) -> str:
    """Submit and return the job.

    Args:
        command: sbatch and all that follows, the script at the end.
        script: its absolute path. If an answer got lost, the job is found by it, also when it has ended
            meanwhile.
        say: is given a line when the controller has to be asked again.
        taken: is told the job, before any signal can come between.

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
                job = next((job for job in found if job not in known), None) or slurm.submit(command)
                taken(job)
            return job
        except Unreachable as error:
            if time.monotonic() > patience:
                raise
            if not silent:
                say(f"Slurm takes no jobs ({error}); asking again for {_PATIENCE_SECONDS / 60:.0f} minutes")
                silent = True
            time.sleep(_PAUSE_SECONDS)
