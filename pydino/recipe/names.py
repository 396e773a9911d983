"""Names in a recipe that become part of file names."""

import re
from pathlib import Path

from pydino.base import is_release, read_yaml

_FOLDER_NAME = re.compile(r"\w[\w.+-]*", re.ASCII)


def check_names(key: str, names: list[str]) -> None:
    """Check names that become part of file names.

    Raises:
        ValueError: names ``key`` and the first name that leads elsewhere or occurs twice.
    """
    for name in names:
        if not _FOLDER_NAME.fullmatch(name):
            raise ValueError(
                f"{key}: '{name}' becomes part of file names: letters, digits and ._+- only, beginning with "
                "a letter, a digit or _"
            )
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{key}: '{twice[0]}' occurs twice; name it once")


def check_file_name(key: str, name: str, example: str) -> None:
    """Raise ValueError if ``name`` is not that of a table in a data directory."""
    if not re.fullmatch(r"[^\s/]+", name) or name in (".", ".."):
        raise ValueError(f"{key}: '{name}' is not the name of a file in data/SET, such as {example}")


def name_of_init(folder: str) -> str:
    """Return the name of a release, or of a model folder: its own, unless that is the name of a role."""
    name = Path(folder).name
    if not is_release(folder):
        name = f"{read_yaml(f'{folder}/config.yaml').get('method', 'unknown')}-{name}"
    return re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII)
