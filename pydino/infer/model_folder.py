"""A model is a folder: model.safetensors (weights), config.yaml (encoder and front end), README.md (how it
was made) and, where it is known, training_audio.npy (hashes of what it was trained on).

safetensors files contain names and numbers but no code; config.yaml is plain data checked against the
dataclasses below. So loading an untrusted folder executes nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch

from pydino.base import (
    ConfigError,
    UserError,
    atomic_open,
    config_from_dict,
    config_to_dict,
    dump_config,
    read_yaml,
    write_text,
)
from pydino.models import Encoder, build_encoder, resolve_encoder, weights_follow, without_folder

from .classifier_config import ClassifierConfig
from .front_end import FrontEnd, FrontEndConfig
from .model import Model
from .training_audio import write_training_audio

WEIGHTS, CONFIG, README = "model.safetensors", "config.yaml", "README.md"
CLASSIFIER = "classifier.safetensors"  # of folders with a classifier, see classifier.py


@dataclass
class ModelConfig:
    """config.yaml of a model folder."""

    encoder: dict[str, Any]  # name and options, as pydino.models.build_encoder takes them
    embedding_dim: int
    role: str  # of the training method, such as teacher, student or model; or untrained, statistics
    method: str  # dino, dino-koleo, xvector, untrained, fbank-stats, fbank-stats-cmn, ...
    seed: int
    train_set: str  # name of the training set; none for an untrained model
    front_end: FrontEndConfig
    # Labels that the weights were trained on, by this run or by one that they started from (--init); unknown:
    # of a folder made before this was recorded.
    labels: Literal["none", "pseudo", "train", "unknown"] = "unknown"
    classifier: ClassifierConfig | None = None  # of the classifier that the folder also holds

    def __post_init__(self):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.role):
            raise ValueError(f"role must be a name of lower-case letters, digits and _, got '{self.role}'")


def save_model(
    folder,
    encoder: torch.nn.Module,
    config: dict,
    readme: str,
    training_audio: np.ndarray | None = None,
) -> None:
    """Write a model folder; an earlier model there is replaced.

    ``config`` is the mapping of ModelConfig. config.yaml is removed first and written last, so that a folder
    with one is complete. A classifier's folder is written by :func:`pydino.infer.save_classifier`.
    ``training_audio`` holds the hashes of the recordings that the weights were trained on, (N,) uint64; None:
    not known, or not trained.

    Raises:
        ConfigError: an invalid configuration, or one of another encoder.
        UserError: the folder cannot be written.
    """
    folder = Path(folder)
    checked = config_from_dict(ModelConfig, config, where=str(folder / CONFIG))
    # Omitted options are written too, so that a later change of a default does not change existing models.
    options = checked.front_end.feature_options(str(folder / CONFIG))
    checked.front_end.features = {"kind": checked.front_end.features["kind"], **config_to_dict(options)}
    checked.encoder = without_folder(resolve_encoder(checked.encoder))  # the weights are here
    if checked.embedding_dim != encoder.embedding_dim:
        raise UserError(
            f"{folder / CONFIG}: embedding_dim is {checked.embedding_dim} but the encoder's is "
            f"{encoder.embedding_dim}"
        )
    # Tensors that share storage (tied weights) would be refused: each is copied.
    weights = {
        name: tensor.detach().cpu().clone().contiguous() for name, tensor in encoder.state_dict().items()
    }
    (folder / CONFIG).unlink(missing_ok=True)
    written = config_to_dict(checked)
    if checked.classifier is None:
        del written["classifier"]
        (folder / CLASSIFIER).unlink(missing_ok=True)
    with atomic_open(folder / WEIGHTS, "wb") as stream:
        stream.write(safetensors.torch.save(weights))
    write_training_audio(folder, training_audio)
    write_text(folder / README, readme)
    dump_config(written, folder / CONFIG)


# Model folders in what steps make: the roles of a training, and the classifiers of stage 10.
_INSIDE = ("teacher", "student", "model", "classifier", "fold_final/classifier")


def read_model_config(folder) -> ModelConfig:
    """Read and check config.yaml of a model folder.

    Raises:
        UserError: not a model folder.
        ConfigError: an unknown key (with the nearest right one), a missing key, a value of the wrong kind, or
            another folder to read weights from.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no model folder {folder}; a trained one is exp/METHOD_TAG/seedN/teacher")
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        inside = [name for name in _INSIDE if (folder / name / CONFIG).is_file()]
        hint = (
            f"; the folder {folder / inside[0]} is one"
            if inside
            else "; if the step that writes it was interrupted, run it again"
        )
        raise UserError(f"{folder} is not a model folder: it has no {' and no '.join(missing)}{hint}")
    config = config_from_dict(ModelConfig, read_yaml(folder / CONFIG), where=str(folder / CONFIG))
    if config.encoder.get("folder"):
        raise ConfigError(
            f"{folder / CONFIG}: encoder.folder is '{config.encoder['folder']}', but the weights of a model "
            "are in its own folder, and no other is read; set it to ''"
        )
    return config


def load(folder, device: str = "cpu") -> Model:
    """Load a model folder.

    Args:
        folder: made by :func:`save_model`.
        device: cpu, cuda, cuda:1, ...

    Raises:
        UserError: not a model folder, weights that do not match, a damaged file, or no such device.
        ConfigError: see :func:`read_model_config`.
    """
    folder = Path(folder)
    config = read_model_config(folder)
    _check_device(device)
    front_end = FrontEnd(config.front_end, device, where=str(folder / CONFIG))
    encoder = _empty_encoder(config.encoder, front_end.dim, folder / CONFIG)
    if encoder.embedding_dim != config.embedding_dim:
        raise UserError(
            f"{folder / CONFIG}: embedding_dim is {config.embedding_dim} but this encoder gives "
            f"{encoder.embedding_dim}"
        )
    weights = read_tensors(folder / WEIGHTS)
    check_tensors(folder / WEIGHTS, encoder.state_dict(), weights, f"the encoder of {folder / CONFIG}")
    with weights_follow(config.encoder):
        encoder = build_encoder(config.encoder, front_end.dim)
    encoder.load_state_dict(weights)
    return Model(encoder, front_end, config, device)


def _empty_encoder(config: dict, feature_dim: int, where: Path) -> Encoder:
    """The encoder that a configuration describes, without storage: whatever the sizes, no memory is taken
    before they have been found to be those of the weights.
    """
    try:
        with torch.device("meta"):
            return build_encoder(config, feature_dim)
    except (RuntimeError, TypeError) as error:  # too large for an index, or for 64 bits
        raise UserError(
            f"{where}: no encoder has these sizes ({str(error).splitlines()[0]}); fetch or make the "
            "model again"
        ) from error


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Raises:
        UserError: it is not there, damaged, or in another format.
    """
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError as error:
        raise UserError(f"no {path}, which its {CONFIG} speaks of; fetch or make the model again") from error
    except safetensors.SafetensorError as error:
        raise UserError(
            f"{path} is not a safetensors file ({error}): damaged, or of another format (pickles "
            "are never read); fetch or make the model again"
        ) from error


def check_tensors(path: Path, expected: dict, found: dict, owner: str) -> None:
    """Raise an error that names the first tensor whose name or shape differs.

    Args:
        path: of the file, for the message.
        expected: tensors by name.
        found: those of the file.
        owner: what expects them, in words.

    Raises:
        UserError: two that differ.
    """
    for name in sorted(expected.keys() | found.keys()):
        here = tuple(expected[name].shape) if name in expected else "unknown"
        there = tuple(found[name].shape) if name in found else "missing"
        if here != there:
            raise UserError(
                f"{path} does not match {owner}: {name} is {there} in the file and {here} there; take both "
                "from one model"
            )


def _check_device(device: str) -> None:
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"unknown device '{device}'; use cpu, cuda or cuda:N") from error
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{device} was requested but {torch.cuda.device_count()} NVIDIA GPUs are available here; use the "
            "CPU (--gpu 0, or --device cpu), or check nvidia-smi"
        )
