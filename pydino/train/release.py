"""``pydino release``: what a training has come to, as a folder that may be handed to anybody.

Model folders are handed on by themselves (:mod:`pydino.infer.model_folder`). A release has them, and what
else a training that goes on from it needs: head, teacher, centre, prototypes, queue (:mod:`.from_release`).
Every file is text, or tensors and numbers that hold no code. Of the speech it was trained on there are hashes
of the samples at most: what has a row for each utterance, speaker or cluster (:attr:`Method.of_data`) stays
behind, and so do all names of them, and the paths of this machine.
"""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from pydino.base import (
    UserError,
    atomic_open,
    config_to_dict,
    dump_config,
    read_text,
    read_yaml,
    write_json,
    write_text,
)
from pydino.base.release import FORMAT, OPTIMISER, RELEASE, STATE, SUMS
from pydino.infer import load, read_training_audio, save_model
from pydino.infer.model_folder import CONFIG, README, WEIGHTS, read_tensors
from pydino.infer.training_audio import write_training_audio

from . import exp_dir
from .checkpoint import load_checkpoint
from .from_release import belongs, digest_of_file
from .method import Method
from .methods import find_method
from .release_text import config_without_places, readme, result_without_places, text_without_places
from .snapshots import snapshots

RESULTS, LOG = "results.json", "log.jsonl"


@dataclass
class ReleaseOptions:
    """What goes into a release.

    Attributes:
        optimiser: the optimiser's moments too.
        unfinished: of a training that has not come to its end, the last checkpoint.
        training_audio: the hashes of the training recordings in the model folders.
        licence: of the weights, in words; empty: not stated.
        versions: name -> version, of what made it.
    """

    optimiser: bool = False
    unfinished: bool = False
    training_audio: bool = True
    licence: str = ""
    versions: dict[str, str] | None = None


def make_release(exp: Path, out: Path, results: list[dict], options: ReleaseOptions) -> dict:
    """Write a release of the training in ``exp`` to ``out``; return its record.

    Args:
        exp: folder of a run.
        out: is made; written aside and renamed.
        results: of its models, with the keys of docs/formats.md.
        options: what goes into it.

    Raises:
        UserError: ``out`` is there; ``exp`` holds no training, none that has come to its end, no checkpoint,
            or one of other weights than its models.
    """
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} is there already, and a release replaces nothing; give another OUT")
    if not (exp / CONFIG).is_file() or not (exp / exp_dir.STARTED).is_file():
        raise UserError(f"{exp} holds no training; give the folder of one, such as exp/dino-koleo_mini/seed0")
    finished = (exp / exp_dir.DONE).is_file()
    if not finished and not options.unfinished:
        raise UserError(
            f"the training in {exp} has not come to its end; run its command again to go on with it, or "
            "release its last checkpoint: --unfinished true"
        )
    config = read_yaml(exp / CONFIG)
    method = find_method(str(config.get("method", "")), str(exp / CONFIG))
    if method.of_task:
        raise UserError(
            f"{exp} is the training of a classifier for a task, which nobody trains on: hand on the folder "
            "fold_final/classifier of the task's results"
        )
    state = load_checkpoint(exp / "checkpoints", "cpu")
    if state is None:
        raise UserError(
            f"{exp}/checkpoints is empty, and holds head, centre and teacher; the model folders by "
            f"themselves ({', '.join(f'{exp}/{role}' for role in method.roles)}) may be handed on as they are"
        )
    aside = out.parent / f".{out.name[:60]}.{os.getpid()}.tmp"
    try:
        aside.mkdir(parents=True)
        record = _fill(aside, exp, method, config, state, results, options, finished)
        write_text(aside / README, readme(record, out.name))
        _write_sums(aside)
        os.rename(aside, out)
    except OSError as error:
        raise UserError(
            f"cannot write {out}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return record


def _fill(
    aside: Path,
    exp: Path,
    method: type[Method],
    config: dict,
    state: dict,
    results: list[dict],
    options: ReleaseOptions,
    finished: bool,
) -> dict:
    """Write everything but the README and the sums; return the record."""
    tensors = {name: x for name, x in state["method"].items() if not belongs(name, method.of_data)}
    if finished:
        sources = [exp / role for role in (*method.roles, f"{method.roles[0]}_average")]
        sources = [source for source in sources if (source / CONFIG).is_file()]
        for source in sources:
            _copy_model(source, aside / source.name)
    else:
        sources = _models_of_checkpoint(aside, exp, method, state)
    for role in method.roles:
        weights = tensors_of_encoder(state["method"], role)
        stored = read_tensors((exp if finished else aside) / role / WEIGHTS)  # a message names the original
        if any(not torch.equal(stored[name], weights.get(name, torch.empty(0))) for name in stored):
            raise UserError(
                f"{exp}/checkpoints is not of the end of the training: {role} has other weights; run its "
                "command again with --force true, or hand on the model folders by themselves"
            )
    _write_tensors(aside / STATE, tensors)
    if options.optimiser:
        moments = {
            f"{number}.{name}": torch.as_tensor(value)
            for number, found in state["optimiser"]["state"].items()
            for name, value in found.items()
            if value is not None
        }
        _write_tensors(aside / OPTIMISER, moments)
    for source in () if options.training_audio else sources:
        write_training_audio(aside / source.name, None)
    description = read_yaml(aside / method.roles[0] / CONFIG)
    name, seed = config.pop("name", config["method"]), config.pop("seed", 0)
    dump_config(config_without_places(config), aside / CONFIG)
    lines = read_text(exp / LOG) if (exp / LOG).is_file() else ""
    write_text(aside / LOG, lines)
    write_json(aside / RESULTS, [result_without_places(result) for result in results])
    record = {
        "format": FORMAT,
        "name": name,
        "method": config["method"],
        "roles": list(method.roles),
        "models": sorted({source.name for source in sources}),
        "encoder": description["encoder"]["name"],
        "train_set": description["train_set"],
        "labels": description["labels"],
        "seed": seed,
        "step": state["step"],
        "epochs": float(config["epochs"]) if finished else _epochs(lines, state["step"]),
        "finished": finished,
        "optimiser": config["optimiser"]["name"] if options.optimiser else None,
        "licence": options.licence,
        "versions": options.versions or {},
    }
    write_json(aside / RELEASE, record)
    return record


def tensors_of_encoder(state: dict[str, torch.Tensor], role: str) -> dict[str, torch.Tensor]:
    """Return the weights of a role's encoder in the state dict of a method; a method of one network calls it
    student.
    """
    prefix = f"{role}.encoder."
    if not any(name.startswith(prefix) for name in state):
        prefix = "student.encoder."
    return {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}


def _models_of_checkpoint(aside: Path, exp: Path, method: type[Method], state: dict) -> list[Path]:
    """Write model folders with the weights of a checkpoint; all else is that of the last snapshot."""
    found = [snapshot for snapshot in snapshots(exp, final=False) if _is_whole(snapshot.folder, method)]
    if not found:
        raise UserError(
            f"{exp}/snapshots holds no model, which says what the front end was; let the training go on to "
            "the end of its next epoch with --set snapshot_epochs=1, which changes no weight"
        )
    sources = [found[-1].folder / role for role in method.roles]
    for source in sources:
        model = load(source)
        model.encoder.load_state_dict(tensors_of_encoder(state["method"], source.name))
        text = re.sub(r"\([\d.]+ epochs", f"(step {state['step']}, not its end", read_text(source / README))
        description = config_to_dict(model.config)
        folder = aside / source.name
        save_model(folder, model.encoder, description, text_without_places(text), read_training_audio(source))
    return sources


def _is_whole(folder: Path, method: type[Method]) -> bool:
    return all((folder / role / CONFIG).is_file() for role in method.roles)


def _copy_model(source: Path, folder: Path) -> None:
    folder.mkdir()
    for name in (WEIGHTS, CONFIG):
        shutil.copyfile(source / name, folder / name)
    write_training_audio(folder, read_training_audio(source))
    write_text(folder / README, text_without_places(read_text(source / README)))


def _epochs(lines: str, step: int) -> float:
    """Return the epochs that were trained by a step, of the log's lines."""
    logged = [json.loads(line) for line in lines.splitlines() if line.strip()]
    return max((line["epoch"] for line in logged if line["step"] <= step), default=0.0)


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    # tensors that share storage (prototypes of student and teacher) would be refused: each is copied
    with atomic_open(path, "wb") as stream:
        stream.write(save({name: x.detach().cpu().clone().contiguous() for name, x in tensors.items()}))


def _write_sums(folder: Path) -> None:
    """Write SHA256SUMS, as ``sha256sum -c`` reads it."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    write_text(folder / SUMS, "".join(f"{digest_of_file(folder / name)}  {name}\n" for name in files))
