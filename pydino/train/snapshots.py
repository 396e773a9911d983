"""The models that a run has written so far."""

import re
from dataclasses import dataclass
from pathlib import Path

from pydino.base import read_yaml

from .methods import find_method, method_names


@dataclass(frozen=True)
class Snapshot:
    """The models of one epoch, a folder each."""

    folder: Path
    epoch: int


def snapshots(exp: Path, final: bool) -> list[Snapshot]:
    """Return the snapshots of a run, earliest first; with ``final`` also the final models, unless a
    snapshot is of the same epoch.
    """
    found = []
    for folder in (exp / "snapshots").glob("epoch*"):
        number = re.fullmatch(r"epoch(\d+)", folder.name)
        if number:
            found.append(Snapshot(folder, int(number[1])))
    if final and model_folders(exp):
        config = exp / "config.yaml"
        end = round(read_yaml(config).get("epochs", 0)) if config.exists() else 0
        if all(snapshot.epoch < end for snapshot in found):
            found.append(Snapshot(exp, end))
    return sorted(found, key=lambda snapshot: snapshot.epoch)


def model_folders(folder: Path) -> list[Path]:
    """Return the model folders of one snapshot, complete or not, the model itself first, without averages."""
    exp = folder.parents[1] if folder.parent.name == "snapshots" else folder
    config = exp / "config.yaml"
    method = str(read_yaml(config).get("method", "")) if config.exists() else ""
    roles = find_method(method).roles if method in method_names() else ("teacher", "student", "model")
    return [folder / role for role in roles if (folder / role).is_dir()]
