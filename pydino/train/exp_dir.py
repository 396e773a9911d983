"""The folder of a run (EXP): locked during training, marked with what the run depends on, never overwritten
by another run.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from pydino.base import Lock, UserError, is_forced, is_held, read_json, why_not_done, write_mark
from pydino.infer.model_folder import WEIGHTS

STARTED, DONE, OUTCOME = ".started", ".done.train", "outcome.json"
# What a run leaves beside its model folders.
MADE = (
    *("checkpoints", "snapshots", "tensorboard", "log.jsonl", "monitor", "monitor.jsonl", "head.safetensors"),
    *(OUTCOME, DONE, ".done.call", ".done.monitor"),
)


def lock(exp: Path) -> Lock:
    """Return a lock that keeps other processes out of EXP until it is released or the process ends.

    Raises:
        UserError: another process trains there.
    """
    held, who = Lock(exp / ".lock"), ""
    with suppress(OSError):  # what is written later fails with a message of its own
        who = held.acquire()
    if who:
        raise UserError(f"{who} trains in {exp}; wait for it, stop it, or give another EXP")
    return held


def is_at_work(exp: Path) -> bool:
    """Return whether a process trains in EXP, as far as the file system can tell: True where it cannot."""
    try:
        return is_held(exp / ".lock")
    except OSError:
        return True


def is_finished(exp: Path, wanted: dict[str, str]) -> bool:
    """Return True if this very run is finished in EXP, False if it may start or resume there.

    Args:
        exp: folder of the run.
        wanted: what the run depends on (:func:`pydino.base.ingredients`).

    Raises:
        UserError: another run is in EXP.
    """
    if not _made(exp):
        return False  # nothing would be lost
    if not (exp / STARTED).exists():
        raise UserError(f"{exp} holds an unknown run; give another EXP, or --force true to discard it")
    earlier = read_json(exp / STARTED)["ingredients"]
    changed = sorted(name for name in earlier.keys() | wanted.keys() if earlier.get(name) != wanted.get(name))
    if changed:
        name, back = changed[0], ""
        # Values of options are shown; of files there are only digests.
        how = (
            f"was {earlier.get(name)} and is {wanted.get(name)} now"
            if name.startswith("option ")
            else "is different now"
        )
        if all(name.startswith("what ") for name in changed):  # marks of earlier steps, no table of DATA
            how += (
                ", though the tables of the pre-training directory are the same: the paths in wav.scp change "
                "when a corpus or a work folder is moved or copied, and features are then computed again"
            )
            back = "To go on with the run, put the recordings back in their old place and run all stages. "
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise UserError(
            f"{exp} holds another run: {name} {how}{more}; nothing was touched. {back}Train beside it in "
            "another EXP (of run.sh: as conf/ANOTHER_NAME.yaml, or everything with another --tag), or "
            "discard it with --force true"
        )
    return why_not_done(exp / DONE, wanted) == ""


def is_to_be_discarded(exp: Path) -> bool:
    """Return whether ``--force`` of the calling program says that the run in EXP is to be discarded.

    A job that a scheduler starts again has the token under which it began the run, and discards nothing.
    """
    started = exp / STARTED
    return is_forced(read_json(started).get("forced") if started.exists() else None)


def claim(exp: Path, wanted: dict[str, str], discard: bool) -> None:
    """Make EXP the folder of a run; with ``discard``, or where nothing says whose it is, what an earlier run
    left there is removed.
    """
    if discard or not (exp / STARTED).exists():
        for path in _made(exp):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    write_mark(exp / STARTED, wanted)


def _made(exp: Path) -> list[Path]:
    """Return what a run left in EXP."""
    models = [path.parent for path in exp.glob(f"*/{WEIGHTS}")]
    return [path for path in (*(exp / name for name in MADE), *models) if path.exists()]
