"""What a run leaves: the model folders of its snapshots and of its end, and the mark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save

from pydino.base import atomic_open, log, write_json, write_mark
from pydino.infer.model_folder import CONFIG, WEIGHTS

from . import exp_dir
from .method import Method
from .model_folders import average_models, write_model

if TYPE_CHECKING:
    from .run import Run


def write_models(run: Run, method: Method, folder: Path, epochs: float) -> None:
    """Write a model folder for each role."""
    for role, encoder in method.encoders().items():
        description = run.describe(role, encoder)
        write_model(folder / role, encoder, description, epochs, method.reads_labels, run.command)


def finish(run: Run, method: Method, wanted: dict[str, str]) -> None:
    """Write the final models, their mean if configured, and the mark."""
    write_models(run, method, run.exp, run.config.epochs)
    written = [run.exp / role for role in method.roles]
    others = []
    if outcome := method.outcome():
        others.append(run.exp / exp_dir.OUTCOME)
        write_json(others[-1], outcome)
        said = [f"{name.replace('_', ' ')} {value}" for name, value in outcome.items() if value is not None]
        log(f"kept: {', '.join(said)}")
    for name, tensors in method.beside().items():
        others.append(run.exp / f"{name}.safetensors")
        with atomic_open(others[-1], "wb") as stream:
            stream.write(save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}))
    if run.config.average_snapshots:
        role = method.roles[0]
        # config.yaml is written last: a snapshot without one is incomplete.
        whole = sorted(path.parent for path in (run.exp / "snapshots").glob(f"epoch*/{role}/{CONFIG}"))
        written.append(run.exp / f"{role}_average")
        average_models(written[-1], whole[-run.config.average_snapshots :] or [run.exp / role])
    write_mark(run.exp / exp_dir.DONE, wanted, [*(folder / WEIGHTS for folder in written), *others])
    log(f"finished: {' and '.join(map(str, written))}")
