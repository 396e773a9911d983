"""How jobs of Slurm ended, in words, with what to do about it."""

from .scheduler import Ending, Task, compress, short_name

MEANING = {
    "OUT_OF_MEMORY": "it needs more memory: --mem",
    "TIMEOUT": "it needs more time: --time",
    "NODE_FAIL": "the node died: run it again",
    "BOOT_FAIL": "the node did not start: run it again",
    "PREEMPTED": "another job took its place: run it again, or let Slurm do so (--requeue, conf/slurm.conf)",
    "CANCELLED": "somebody cancelled it, or the site did",
    "GONE": "it left the queue before it started: somebody cancelled it, or the controller lost it",
    "DEADLINE": "it could not have ended before its deadline",
    "REVOKED": "another cluster of the federation took it",
    "UNKNOWN": "it left the queue, and neither Slurm nor its log says how; the node may have died",
}

_OF_CODES = {
    137: " (killed: often short of memory; --mem asks for more)",
    # Slurm's 0:53, a signal that no program gets: the node could not open the output
    181: ": its node could not open the log, whose folder has to be on a disk that all nodes share: clone "
    "there, or give run.sh a --work-dir there",
}


def remarks(failed: dict[int, Ending], task_of: dict[int, Task]) -> list[str]:
    """Return a line for each way in which jobs failed. Both arguments are by job number."""
    kinds: dict[Ending, list[int]] = {}
    for number, ending in sorted(failed.items()):  # an exit code matters only where the state is FAILED
        kind = Ending(ending.state, ending.code if ending.state == "FAILED" else 0)
        kinds.setdefault(kind, []).append(number)
    lines = []
    for ending, numbers in sorted(kinds.items(), key=lambda kind: (kind[0].state, kind[0].code)):
        job, index = task_of[numbers[0]]
        which = f"{len(numbers)} of Slurm job {short_name(job)}"
        if len(numbers) == 1:
            which = f"Slurm job {short_name(job)}{f'_{index}' if index is not None else ''}"
        how = f"{ending.state}: {MEANING.get(ending.state, '')}"
        if ending.state == "FAILED":
            how = f"FAILED with exit code {ending.code}{_OF_CODES.get(ending.code, '')}"
        lines.append(f"job{'s' if len(numbers) > 1 else ''} {compress(numbers)} ({which}): {how}")
    return lines
