"""Model folders that a run leaves, and the mean of several of them."""

from pathlib import Path

from pydino.base import UserError, config_to_dict
from pydino.infer import load, save_model

from .averaging import average_states


def write_model(
    folder: Path, encoder, description: dict, epochs: float, reads_labels: bool, made_by: str
) -> None:
    """Write the model folder of a run.

    Args:
        folder: to write.
        encoder: its network.
        description: of :class:`pydino.infer.ModelConfig`.
        epochs: trained so far.
        reads_labels: whether the method was trained on labels.
        made_by: the command.
    """
    name, role, train_set = (description[key] for key in ("method", "role", "train_set"))
    how = "with the labels of its utterances" if reads_labels else "without labels"
    origin = {
        "none": "",
        "pseudo": " It started from weights that were trained on pseudo-labels.",
        "train": " It started from weights that were trained on labels.",
        "unknown": " It started from weights that may have been trained on labels.",
    }["none" if reads_labels else description["labels"]]
    save_model(
        folder,
        encoder,
        description,
        f"# {name}, {role}\n\nAn encoder of whole utterances, trained {how} on {train_set} "
        f"({epochs:g} epochs, seed {description['seed']}).{origin}\n\n"
        f"Made by `{made_by}`; the resolved configuration is in `config.yaml` of that folder, the course of "
        "the "
        "training in its `log.jsonl`.\n\n    pydino embed THIS_FOLDER recording.wav\n",
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
    save_model(out, encoder, first, readme)
