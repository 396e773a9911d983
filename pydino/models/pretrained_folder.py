"""The folder of a frame-level pre-trained model as the transformers library writes it: ``config.json``,
``preprocessor_config.json`` and ``model.safetensors`` (or ``pytorch_model.bin``, of which tensors alone are
read). No code is read from it, and nothing is fetched.
"""

import functools
import hashlib
import json
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from pydino.base import UserError

from .architecture import KEYS, check_architecture

ARCHITECTURE, PREPROCESSOR = "config.json", "preprocessor_config.json"
LFS_POINTER = b"version https://git-lfs"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there
# Output layers of models that were trained without labels; others saw transcripts, speakers, ...
_UNLABELLED = re.compile(r"(Model|ForPreTraining)$")


@dataclass(frozen=True)
class Described:
    """What a folder says of its model.

    Attributes:
        architecture: of config.json, the keys of :data:`.architecture.KEYS`.
        do_normalize: whether the input has mean 0 and variance 1.
        sample_rate: Hz.
        labels: none, where its weights were trained without labels; unknown otherwise.
    """

    architecture: dict
    do_normalize: bool
    sample_rate: int
    labels: str


def how_to_get(name: str) -> str:
    """Return how a folder is had, for messages."""
    examples = {
        "wav2vec2": "facebook/wav2vec2-base",
        "hubert": "facebook/hubert-base-ls960",
        "wavlm": "microsoft/wavlm-base-plus",
        "wav2vec2-bert": "facebook/w2v-bert-2.0",
    }
    example = examples[name]
    return (
        f"get it once, on a machine with a network: 'hf download {example} --local-dir "
        f"{example.partition('/')[2]}', then give that folder (docs/pretrained.md)"
    )


def describe_folder(folder, name: str) -> Described:
    """Read what a folder says of its model.

    Args:
        folder: path.
        name: of the encoder: a key of KEYS.

    Raises:
        UserError: no such folder, a missing or damaged file, or a model of another kind.
        ConfigError: sizes that are missing or impossible (:mod:`.architecture`).
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no folder {folder} with a {name} model; {how_to_get(name)}")
    config, preprocessor = (_read_json(folder / file, name) for file in (ARCHITECTURE, PREPROCESSOR))
    found = str(config.get("model_type"))
    if found != name:
        known = f"set 'encoder.name: {found}'" if found in KEYS else f"known: {', '.join(KEYS)}"
        raise UserError(f"{folder / ARCHITECTURE}: model_type is '{found}', not '{name}'; {known}")
    if config.get("auto_map"):
        raise UserError(
            f"{folder / ARCHITECTURE}: auto_map names code that comes with the model, which is never run; "
            f"take a {name} model as the transformers library has it"
        )
    if config.get("conv_pos_batch_norm") or config.get("adapter_attn_dim"):
        raise UserError(
            f"{folder / ARCHITECTURE}: conv_pos_batch_norm and adapter_attn_dim are not supported; take "
            "another variant of this model"
        )
    normalised, rate = preprocessor.get("do_normalize", True), preprocessor.get("sampling_rate", 16000)
    if not isinstance(normalised, bool) or type(rate) is not int or rate < 1:
        raise UserError(
            f"{folder / PREPROCESSOR}: do_normalize must be true or false, and sampling_rate a number of Hz, "
            f"got {normalised!r} and {rate!r}; get the folder again"
        )
    architecture = {key: config[key] for key in KEYS[name] if key in config}
    check_architecture(architecture, name, str(folder / ARCHITECTURE))
    outputs = config.get("architectures")
    unlabelled = isinstance(outputs, list) and outputs and all(_UNLABELLED.search(str(o)) for o in outputs)
    return Described(architecture, normalised, rate, "none" if unlabelled else "unknown")


def _read_json(path: Path, name: str) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no {path}, which says how the {name} model is made; {how_to_get(name)}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); get the folder again") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a JSON mapping; get the folder again")
    return found


def weights_file(folder, name: str) -> Path:
    """Return the file of the weights of a folder.

    Raises:
        UserError: there is none.
    """
    for file in WEIGHTS:
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    if any(Path(folder).glob("*.index.json")):
        raise UserError(
            f"{folder} holds its weights in several files, which pydino does not read; write them in one "
            f"{WEIGHTS[0]} (transformers: model.save_pretrained(FOLDER, max_shard_size='100GB'))"
        )
    raise UserError(f"no {Path(folder) / WEIGHTS[0]}, the weights of the {name} model; {how_to_get(name)}")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits; it is read again only after it was written."""
    status = path.stat()
    return _sha256(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache
def _sha256(path: Path, written: int, size: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_hash(folder, name: str, wanted: str) -> str:
    """Return the SHA-256 of the weights of a folder.

    Raises:
        UserError: it is not ``wanted``; "" is any.
    """
    path = weights_file(folder, name)
    found = sha256_of(path)
    if wanted and wanted.lower() != found:
        raise UserError(
            f"{path}: its SHA-256 is {found}, but encoder.hash is {wanted}: another version, or damaged; get "
            "the folder again, or correct the hash"
        )
    return found


def read_weights(folder, name: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a folder by name.

    Raises:
        UserError: no file, a damaged one, or one that holds more than tensors.
    """
    path = weights_file(folder, name)
    with open(path, "rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise UserError(
                f"{path} is a pointer of Git LFS, not the weights: run 'git lfs pull' in {folder}"
            )
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        why = (str(error).splitlines() or ["empty"])[0]
        raise UserError(f"{path} cannot be read as tensors alone ({why}); get the folder again") from error
    if not isinstance(found, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in found.items()
    ):
        raise UserError(
            f"{path} cannot be read as tensors alone (it holds other things); get the folder again"
        )
    return found


def plain_name(name: str) -> str:
    """Return the name of a parameter as without parametrisation: weight norm is stored under either of two
    names, and a low-rank update leaves a matrix under a third.
    """
    for found, plain in (("original0", "weight_g"), ("original1", "weight_v"), ("original", "weight")):
        name = re.sub(rf"parametrizations\.weight\.{found}$", plain, name)
    return name


def fill(network: torch.nn.Module, weights: dict[str, torch.Tensor], prefix: str, where: str) -> None:
    """Copy the weights of a folder into a network; what it has beyond them (``added`` in the name) stays.

    Args:
        network: of the library.
        weights: of :func:`read_weights`; what the network lacks (output layers, quantisers) is left.
        prefix: of their names, where they are of a model with an output layer.
        where: file, for messages.

    Raises:
        UserError: a parameter that is missing or of another shape.
    """
    named = {plain_name(name.removeprefix(f"{prefix}.")): tensor for name, tensor in weights.items()}
    state = network.state_dict()
    for name, parameter in state.items():
        if "added" in name.split("."):
            continue
        found = named.get(plain_name(name))
        if found is None or found.shape != parameter.shape:
            shape = "missing" if found is None else f"of shape {tuple(found.shape)}"
            raise UserError(
                f"{where}: {plain_name(name)} is {shape}, expected {tuple(parameter.shape)}: the weights do "
                f"not match {ARCHITECTURE}; get the folder again"
            )
        with torch.no_grad():
            parameter.copy_(found)
