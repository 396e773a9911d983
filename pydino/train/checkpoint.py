"""Checkpoints: written aside and renamed, the last two kept, read with weights only, so that reading one runs
no code. Weights that are never trained are stored beside them (:mod:`.frozen_weights`).
"""

import time
from collections.abc import Sequence
from pathlib import Path

import torch

from pydino.base import UserError, atomic_open, warn

from .distributed import DistributedContext
from .frozen_weights import put_back, set_aside

KEPT = 2
_PATIENCE_SECONDS = 60  # network file systems show one machine's files to the others with a delay


def save_checkpoint(folder, state: dict, frozen: Sequence[str] = ()) -> None:
    """Write ``folder``/step<N>.pt and remove all but the last two.

    Args:
        folder: made if needed.
        state: tensors, numbers, text and containers of them; ``state["step"]`` is the number of steps done.
        frozen: names of tensors in ``state["method"]`` that are never trained.
    """
    folder = Path(folder)
    for left in folder.glob(".step*.tmp"):  # by a kill
        left.unlink(missing_ok=True)
    with atomic_open(folder / f"step{state['step']:09d}.pt", "wb") as stream:
        torch.save(set_aside(folder, state, frozen), stream)
    for old in sorted(folder.glob("step*.pt"))[:-KEPT]:
        old.unlink()


def load_checkpoint(folder, device) -> dict | None:
    """Return the newest checkpoint that can be read, or None where there is none.

    A damaged one (the disk was full, the machine died) is skipped for the one before, with a warning.

    Raises:
        UserError: there are checkpoints, and none can be read.
    """
    paths = sorted(Path(folder).glob("step*.pt"), reverse=True)
    for path in paths:
        try:
            return put_back(path.parent, torch.load(path, map_location=device, weights_only=True), device)
        except (torch.OutOfMemoryError, MemoryError):
            raise  # the checkpoint is not damaged
        # torch has no error of its own for a damaged file
        except Exception as error:
            warn(f"{path} cannot be read ({type(error).__name__}); falling back to the checkpoint before it")
    if paths:
        raise UserError(f"no checkpoint in {folder} can be read; start again with --force true")
    return None


def load_agreed(folder, distributed: DistributedContext) -> dict | None:
    """Return on every process the checkpoint that :func:`load_checkpoint` returns on the first, whatever the
    others' machines see yet.

    Raises:
        UserError: there are checkpoints, and none can be read, or this machine does not see what the first
            one does.
    """
    folder = Path(folder)
    state = load_checkpoint(folder, distributed.device) if distributed.first else None
    step = distributed.gather_objects(state["step"] if state else None)[0]
    if distributed.first or step is None:
        return state
    path, deadline = folder / f"step{step:09d}.pt", time.monotonic() + _PATIENCE_SECONDS
    while not any(folder.glob(path.name)):  # listing a folder refreshes a network file system
        if time.monotonic() > deadline:
            raise UserError(
                f"{path} is not here; the folder of a run has to lie where all its machines see it"
            )
        time.sleep(0.5)
    state = torch.load(path, map_location=distributed.device, weights_only=True)
    return put_back(folder, state, distributed.device)


def random_states(distributed: DistributedContext) -> list[dict]:
    """Return the states of the generators that draws inside the model come from, of every process."""
    state = {"cpu": torch.get_rng_state()}
    if distributed.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(distributed.device)
    return distributed.gather_objects(state)


def set_random_state(states: list[dict], distributed: DistributedContext) -> None:
    """Restore what :func:`random_states` returned; a process that was not there keeps its own."""
    if distributed.rank >= len(states):
        return
    state = states[distributed.rank]
    torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and distributed.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), distributed.device)
