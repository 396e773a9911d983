"""The folder that ``pydino release`` makes of a training: names of its files, and its record."""

from pathlib import Path

from .files import read_json
from .messages import UserError

RELEASE, SUMS = "release.json", "SHA256SUMS"
STATE, OPTIMISER = "training.safetensors", "optimiser.safetensors"
FORMAT = 1


def is_release(folder) -> bool:
    """Return whether a folder is a release, and not a model folder."""
    return Path(folder, RELEASE).is_file()


def read_release(folder) -> dict:
    """Return the record of a release, ``release.json``.

    Raises:
        UserError: it is damaged, or of a later version of the project.
    """
    path = Path(folder, RELEASE)
    record = read_json(path)
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise UserError(f"{path} is not the record of a release; fetch the folder again")
    if record["format"] > FORMAT:
        raise UserError(f"{path}: format {record['format']}, of a later version of pydino; install that")
    kinds = {"name": str, "method": str, "train_set": str, "epochs": int | float, "roles": list}
    wrong = [key for key, kind in kinds.items() if not isinstance(record.get(key), kind)]
    # a role is the name of a folder beside the record, and leads nowhere else
    if wrong or not record["roles"] or any(Path(str(role)).name != role for role in record["roles"]):
        raise UserError(f"{path}: {(wrong or ['roles'])[0]} is missing or malformed; fetch the folder again")
    return record


def model_of(folder) -> Path:
    """Return the model folder that ``--init`` takes its encoder from: of a release the model, otherwise the
    folder itself.
    """
    return Path(folder, read_release(folder)["roles"][0]) if is_release(folder) else Path(folder)


def init_files(folder) -> list[Path]:
    """Return the files that a training which starts from a release or a model folder depends on."""
    files = [model_of(folder) / name for name in ("config.yaml", "model.safetensors")]
    return [*files, Path(folder, RELEASE), Path(folder, STATE)] if is_release(folder) else files
