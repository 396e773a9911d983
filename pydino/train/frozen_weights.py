"""Weights that a training never changes, such as those of a transformer that was pre-trained elsewhere:
stored once beside the checkpoints, ``frozen.safetensors``, instead of in each of them, and once where student
and teacher have the same.

There a tensor has its SHA-256 for a name, and a checkpoint says which of its tensors are there, so that one
that does change after all is never replaced by what it was.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save

from pydino.base import UserError, atomic_open

from .method import Method

FILE = "frozen.safetensors"
LEAST_BYTES = 10_000_000  # less is not worth a file


def frozen_names(method: Method) -> list[str]:
    """Return the names, in the state dict of a method, of the weights of the student that are not trained,
    and of the teacher's that are averages of those; none where they are few.
    """
    trained = {id(p) for group in method.parameter_groups() for p in group.parameters}
    frozen = [name for name, p in method.student.named_parameters() if id(p) not in trained]
    state = method.state_dict()
    names = [f"{network}.{name}" for network in ("student", "teacher") for name in frozen]
    found = [name for name in names if name in state]
    return found if sum(state[name].nbytes for name in found) >= LEAST_BYTES else []


def set_aside(folder: Path, state: dict, names: Sequence[str]) -> dict:
    """Return the state of a run without those of the tensors ``names`` of its method that are stored in
    ``folder``; the first call stores them.
    """
    if not names:
        return state
    tensors = {name: state["method"][name].detach().cpu().contiguous() for name in names}
    digests = {name: _digest(tensor) for name, tensor in tensors.items()}
    if not (folder / FILE).is_file():
        with atomic_open(folder / FILE, "wb") as stream:
            stream.write(save({digests[name]: tensor.clone() for name, tensor in tensors.items()}))
    with safetensors.safe_open(folder / FILE, "pt") as stored:
        there = set(stored.keys())
    stored = {name: digest for name, digest in digests.items() if digest in there}
    rest = {name: tensor for name, tensor in state["method"].items() if name not in stored}
    return {**state, "method": rest, "frozen": stored}


def put_back(folder: Path, state: dict, device) -> dict:
    """Return the whole state of which :func:`set_aside` has left a part out.

    Raises:
        UserError: what is stored is not what was left out.
    """
    names = state.pop("frozen", {})
    if names:
        with safetensors.safe_open(folder / FILE, "pt") as stored:
            found = {digest: stored.get_tensor(digest) for digest in set(names.values())}
        if any(_digest(tensor) != digest for digest, tensor in found.items()):
            raise UserError(f"{folder / FILE} is damaged")
        state["method"] |= {name: found[digest].to(device) for name, digest in names.items()}
    return state


def _digest(tensor: torch.Tensor) -> str:
    """The SHA-256 of a tensor on the CPU: its type, shape and bytes."""
    found = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    found.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
