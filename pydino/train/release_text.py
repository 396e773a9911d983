"""The text of a release: its README, and other texts without the paths of this machine."""

import re
import shlex
from pathlib import Path

from pydino.base.release import OPTIMISER, STATE
from pydino.models import without_folder

_README = """# {title}

{what}

| file | content |
|---|---|
{files}

## Use it

    pydino embed {name}/{model} recording.wav

## Go on from it

On recordings of your own, without labels, as a recipe of pydino or step by step:

    egs/wavdir/run.sh --root RECORDINGS --init {name}
    steps/train.sh --config {name}/config.yaml --init {name} data/train_ssl exp/more

`sha256sum -c SHA256SUMS` in this folder says whether it is complete. Nothing in it is code, and
loading it runs none.

{licence}
"""


def readme(record: dict, name: str) -> str:
    """Return the README of a release.

    Args:
        record: ``release.json``.
        name: of the folder.
    """
    seen = {
        "none": "without labels",
        "pseudo": "on pseudo-labels (clusters)",
        "train": "with labels",
        "unknown": "and started from weights that may have been trained on labels",
    }[record["labels"]]
    until = "" if record["finished"] else ", not its end"
    versions = ", ".join(f"{library} {version}" for library, version in record["versions"].items())
    rows = {
        **{f"{model}/": "model folder: an encoder with its front end" for model in record["models"]},
        STATE: "all networks of the training, and what goes with their outputs",
        **({OPTIMISER: f"the moments of {record['optimiser']}"} if record["optimiser"] else {}),
        "config.yaml": "the configuration, every key",
        "log.jsonl": "the course of the training",
        "results.json": "what was measured on the models; empty if nothing was",
        "release.json": "what this is, for programs",
    }
    return _README.format(
        title=f"{record['name']} of {record['train_set']}",
        what=f"An encoder of whole utterances ({record['encoder']}), trained {seen} by the method "
        f"{record['method']} on {record['train_set']}: {record['epochs']:g} epochs, {record['step']} steps"
        f"{until}, seed {record['seed']}. Released with {versions}.",
        files="\n".join(f"| `{file}` | {content} |" for file, content in rows.items()),
        name=name,
        model=record["roles"][0],
        licence=f"Licence of the weights: {record['licence'] or 'not stated; ask whoever made this folder'}.",
    )


def text_without_places(text: str) -> str:
    """Return a README whose commands (in `backquotes`) name files of this machine without their folders."""
    return re.sub(r"`([^`\n]+)`", lambda found: f"`{_command_without_places(found[1])}`", text)


def _command_without_places(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    return shlex.join(map(_without_place, words)) if any(map(_is_a_place, words)) else command


def _is_a_place(word: str) -> bool:
    return word.startswith(("/", "~", "../"))


def _without_place(word: str) -> str:
    return Path(word).name if _is_a_place(word) else word


def config_without_places(config: dict) -> dict:
    """Return a resolved configuration that names no place of this machine: the encoder's weights are here,
    and lists of recordings elsewhere become those of a recipe, ``data/CORPUS/wav.scp``.
    """
    config = {**config, "encoder": without_folder(config["encoder"])}
    lists = dict(config.get("augmentation_data") or {})
    for key, value in lists.items():
        if isinstance(value, dict):
            lists[key] = {name: _list_of_recipe(path) for name, path in value.items()}
        elif isinstance(value, str):
            lists[key] = _list_of_recipe(value)
    return {**config, "augmentation_data": lists} if lists else config


def _list_of_recipe(path: str) -> str:
    return f"data/{Path(path).parent.name}/{Path(path).name}" if _is_a_place(path) else path


def result_without_places(result: dict) -> dict:
    """Return a result without the paths in it."""
    return {
        key: value
        for key, value in result.items()
        if key not in ("command", "task_dir") and not (isinstance(value, str) and _is_a_place(value))
    }
