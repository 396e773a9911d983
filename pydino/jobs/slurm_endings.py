"""How jobs of Slurm ended, in words, with what mends it."""

from .slurm_queries import Ending, Task, compress

MEANING = {
    "OUT_OF_MEMORY": "it needs more memory: --mem",
    "TIMEOUT": "it needs more time: --time",
    "NODE_FAIL": "the node died: run it again",
    "BOOT_FAIL": "the node did not start: run it again",
    "PREEMPTED": "another job took its place: run it again, or let Slurm do so (--requeue in "
    "conf/slurm.conf)",
    "CANCELLED": "somebody cancelled it, or the site did",
    "GONE": "it left the queue before it began: somebody cancelled it, or the controller lost it",
    "DEADLINE": "it could not have ended before its deadline",
    "REVOKED": "another cluster of the federation took it",
    "UNKNOWN": "it left the queue, and neither Slurm nor its log tells how; the node may have died",
}


def remarks(failed: dict[int, Ending], task_of: dict[int, Task]) -> list[str]:
    """Return a line for each way in which jobs failed.

    Args:
        failed: by the job's number.
        task_of: what each job's number is to Slurm.
    """
    lines = []
    kinds: dict[Ending, list[int]] = {}
    # an exit code matters where the state is no more than FAILED
    for number, ending in sorted(failed.items()):
        kinds.setdefault(Ending(ending.state, ending.code if ending.state == "FAILED" else 0), []).append(
            number
        )
    for ending, numbers in sorted(kinds.items(), key=lambda kind: (kind[0].state, kind[0].code)):
        job, index = task_of[numbers[0]]
        state = (
            f"FAILED with exit code {ending.code}"
            if ending.state == "FAILED"
            else f"{ending.state}: {MEANING[ending.state]}"
        )
        if ending.state == "FAILED" and ending.code == 137:
            state += " (killed: often short of memory; --mem asks for more)"
        one = f"_{index}" if index is not None else ""
        which = (
            f"Slurm job {short_name(job)}{one}"
            if len(numbers) == 1
            else f"{len(numbers)} of Slurm job {short_name(job)}"
        )
        lines.append(f"job{'s' if len(numbers) > 1 else ''} {compress(numbers)} ({which}): {state}")
    return lines


def short_name(job: str) -> str:
    """``12;cluster`` without the cluster."""
    return job.partition(";")[0]
