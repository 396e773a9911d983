"""Finding the folders and tables of a corpus whose copies are nested and spelt in several ways."""

import os
from pathlib import Path

from local.completeness import Completeness
from local.tables import read_records
from pydino.base import UserError
from pydino.kaldi.data_dir import named

UNKNOWN = ("", "na", "n/a", "nan", "none", "-")  # values of a table, in lower case, that are none
_DEPTH = 4  # of folders below the given one


def child(folder: Path, name: str) -> Path | None:
    """Return the file or folder of this name in upper or lower case, or None."""
    exact = folder / name
    if exact.exists():
        return exact
    return next((path for path in sorted(folder.iterdir()) if path.name.lower() == name.lower()), None)


def find_folders(
    root: Path, names: tuple[str, ...], holds: tuple[str, ...], corpus: str, advice: str
) -> dict[str, Path]:
    """Find folders in the corpus by their names and by what they hold, up to four levels deep.

    Args:
        root: that the user gave; may itself be one of them, or the folder that holds them.
        names: of the folders, each with what else is accepted before it: ``diagnosis/train``.
        holds: entries of such a folder, one of which is enough.

    Raises:
        UserError: there is no such folder, or there are several.
    """
    found: dict[str, list[Path]] = {name: [] for name in names}
    pending = [(root, 0)]
    while pending:
        folder, depth = pending.pop()
        for name in names:
            if f"/{folder}".lower().endswith(f"/{name}") and any(child(folder, entry) for entry in holds):
                found[name].append(folder)
        if depth < _DEPTH:
            pending += [
                (path, depth + 1)
                for path in sorted(folder.iterdir(), reverse=True)
                if path.is_dir() and not path.name.startswith(".")
            ]
    for name, folders in found.items():
        if not folders:
            there = named(sorted(os.listdir(root))) or "nothing"
            raise UserError(
                f"{root} does not look like {corpus}: no folder {name} with {' or '.join(holds)} in it or in "
                f"the folders in it, found {there}. {advice}"
            )
        if len({path.resolve() for path in folders}) > 1:
            raise UserError(
                f"{root} holds several copies of {corpus}: {named(map(str, folders))}; give one of them"
            )
    return {name: folders[0] for name, folders in found.items()}


def find_table(
    given: str, folders: tuple[Path, ...], names: tuple[str, ...], columns: tuple[str, ...]
) -> Path | None:
    """Return the table that the user names, or the first of the usual ones with values.

    Args:
        given: path that the user names; empty: none.
        folders: where to look.
        names: of the files, in upper or lower case, the likeliest first.
        columns: in lower case, one of them with a value is enough; copies of a corpus hold empty templates of
            the same names.

    Raises:
        UserError: the file that the user names does not exist, or lacks the columns.
    """
    if given:
        path = Path(os.path.abspath(given))
        if not path.is_file():
            raise UserError(f"no file {path}")
        if not _has(path, columns):
            raise UserError(f"{path} has no column {' or '.join(columns)} with values")
        return path
    tables = (child(folder, name) for name in names for folder in folders)
    return next((path for path in tables if path and path.is_file() and _has(path, columns)), None)


def _has(path: Path, columns: tuple[str, ...]) -> bool:
    return any(record.get(column) for record in read_records(path) for column in columns)


def match(where, whole: Completeness, expected: set[str], found: set[str]) -> set[str]:
    """Return what both the corpus's tables and a folder have; the rest is lacking or left out."""
    if lost := sorted(expected - found):
        whole.lacks(f"{where} lacks {len(lost):,} of the corpus's tables: {named(lost)}")
    if unknown := sorted(found - expected):
        whole.lacks(f"{where} has {len(unknown):,} that the corpus's tables lack: {named(unknown)}")
    for name in lost + unknown:
        whole.leave_out(name, f"it is only in the corpus's tables or only in {where}")
    return expected & found


def number(text: str, low: float, high: float, where: str) -> str:
    """Return a number as Python writes it, without a point if it is whole.

    Raises:
        UserError: it is no number from ``low`` to ``high``.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise UserError(f"{where} is '{text}', expected a number from {low:g} to {high:g}, or NA")
    return f"{value:g}"
