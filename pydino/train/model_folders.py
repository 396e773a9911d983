"""Model folders that a run leaves, and the mean of several of them."""

from pathlib import Path

import numpy as np

from pydino.base import UserError, config_to_dict
from pydino.infer import load, read_training_audio, save_model

from .averaging import average_states


def write_model(
    folder: Path,
    encoder,
    description: dict,
    epochs: float,
    own_labels: str,
    on_clusters: bool,
    made_by: str,
    training_audio: np.ndarray | None = None,
) -> None:
    """Write the model folder of a run.

    Args:
        folder: to write.
        encoder: its network.
        description: of :class:`pydino.infer.ModelConfig`.
        epochs: trained so far.
        own_labels: what this run itself was trained on: none, pseudo, train or unknown.
        on_clusters: whether that is clusters.
        made_by: the command.
        training_audio: hashes of what it was trained on, (N,) uint64; None: not known.
    """
    name, role, train_set = (description[key] for key in ("method", "role", "train_set"))
    how = "without labels" if own_labels == "none" else "with the labels of its utterances"
    if on_clusters:
        how = (
            "on clusters of its utterances"
            + {
                "pseudo": " (pseudo-labels)",
                "train": ", made of embeddings that were trained on labels",
                "unknown": ", made of embeddings that may have been trained on labels",
            }[own_labels]
        )
    origin = {
        "none": "",
        "pseudo": " It started from weights that were trained on pseudo-labels.",
        "train": " It started from weights that were trained on labels.",
        "unknown": " It started from weights that may have been trained on labels.",
    }["none" if own_labels == description["labels"] else description["labels"]]
    save_model(
        folder,
        encoder,
        description,
        f"# {name}, {role}\n\nAn encoder of whole utterances, trained {how} on {train_set} "
        f"({epochs:g} epochs, seed {description['seed']}).{origin}\n\n"
        f"Made by `{made_by}`; the resolved configuration is in `config.yaml` of that folder, the course of "
        "the "
        f"training in its `log.jsonl`. {_about_audio(training_audio)}\n\n    pydino embed THIS_FOLDER "
        "recording.wav\n",
        training_audio,
    )


def _about_audio(hashes: np.ndarray | None) -> str:
    if hashes is None:
        return "Which recordings it was trained on is not recorded."
    return (
        f"`training_audio.npy` holds the hashes of the samples of the {len(hashes)} recordings that it was "
        "trained on, by which a test recording among them is recognised."
    )


def average_models(out, folders: list) -> None:
    """Write the model folder ``out``, the mean of the model folders ``folders``.

    Raises:
        UserError: a folder that is damaged, does not match the first, holds a classifier, or is ``out``
            itself.
    """
    if Path(out).resolve() in [Path(folder).resolve() for folder in folders]:
        raise UserError(f"{out} is one of the folders to average; give another OUT")
    if Path(out).is_file():
        raise UserError(f"{out} is a file; the first argument is the model folder to write")
    models = [load(folder) for folder in folders]
    for folder, model in zip(folders, models, strict=True):
        if model.config.classifier is not None:
            raise UserError(
                f"{folder} holds a classifier, whose temperature was fitted to this encoder and would not "
                "fit the mean; average the encoders before a classifier is trained on them"
            )
    first = config_to_dict(models[0].config)
    for folder, model in zip(folders, models, strict=True):
        config = config_to_dict(model.config)
        differs = [key for key in first if config[key] != first[key]]
        if differs:
            raise UserError(
                f"{folder} and {folders[0]} do not match: {differs[0]} is {config[differs[0]]} and "
                f"{first[differs[0]]}; average models of one run and one role"
            )
    try:
        state = average_states([model.encoder.state_dict() for model in models])
    except ValueError as error:
        raise UserError(f"{folders[0]} and the others cannot be averaged: {error}") from error
    encoder = models[0].encoder
    encoder.load_state_dict(state)
    names = "\n".join(f"* `{folder}`" for folder in folders)
    readme = (
        f"# {first['method']}, {first['role']}, mean of {len(folders)}\n\nAn encoder of whole utterances, "
        f"trained on {first['train_set']} (seed {first['seed']}). Its parameters and the running statistics "
        "of its "
        f"batch norms are the means of those of\n\n{names}\n\n"
        f"Made by `pydino average-models {out} {' '.join(map(str, folders))}`.\n\n"
        "    pydino embed THIS_FOLDER recording.wav\n"
    )
    save_model(out, encoder, first, readme, union([read_training_audio(folder) for folder in folders]))


def union(parts: list[np.ndarray | None]) -> np.ndarray | None:
    """Return the hashes, (N,) uint64, ascending, of what weights made from several were trained on; None
    where that of one is not known.
    """
    return None if any(part is None for part in parts) else np.unique(np.concatenate(parts))
