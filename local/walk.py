"""Listing the files of a corpus, with the same rules and order for every preparation."""

import heapq
import os
from pathlib import Path

from pydino.base import UserError, log
from pydino.kaldi.data_dir import named


def list_files(folder) -> list[str]:
    """Return the files in ``folder`` and all folders in it, as paths relative to ``folder`` in C order.

    Links to files and folders are followed, as ``find -L`` follows them, so that a corpus may be on several
    disks. Hidden files and folders are skipped: their names begin with a dot, as those of the ``._*`` files
    that macOS adds to every file of a copied folder. A folder that can be reached in several ways is listed
    once, at its real path if that is inside ``folder``, so that cyclic links end and no recording is listed
    twice.

    Raises:
        UserError: a link leads nowhere, or a folder cannot be read.
    """
    folder = os.path.abspath(folder)
    root = os.path.realpath(folder)
    files: list[str] = []
    again: list[str] = []
    seen: set[tuple[int, int]] = set()
    pending: list[str] = [folder]
    links: list[bytes] = []  # a heap
    while pending or links:
        # Real folders come first, so that the targets of links inside the corpus are listed at their real
        # path.
        here = pending.pop() if pending else os.fsdecode(heapq.heappop(links))
        try:
            stat = os.stat(here)
            if (stat.st_dev, stat.st_ino) in seen or _holds(os.path.realpath(here), root):
                again.append(os.path.relpath(here, folder))
                continue
            seen.add((stat.st_dev, stat.st_ino))
            prefix = os.path.relpath(here, folder) + "/" if here != folder else ""
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir():
                        if entry.is_symlink():
                            heapq.heappush(links, os.fsencode(entry.path))
                        else:
                            pending.append(entry.path)
                    elif entry.is_file():
                        files.append(prefix + entry.name)
                    elif entry.is_symlink():
                        raise UserError(
                            f"{entry.path} is a link to {os.readlink(entry.path)}, which is not there; mount "
                            "the disk that holds it, or remove the link"
                        )
        except OSError as error:
            raise UserError(f"cannot read the folder {error.filename or here}: {error.strerror}") from None
    if again:
        log(f"{folder}: links to folders that are listed already, skipped: {named(sorted(again))}")
    return sorted(files, key=os.fsencode)


def _holds(folder: str, root: str) -> bool:
    """Whether ``folder``, not ``root`` itself, is above ``root``."""
    return folder != root and os.path.commonpath([folder, root]) == folder


def with_extension(files: list[str], *extensions: str) -> list[str]:
    """Return the files that end in one of the extensions (``.wav``), in upper or lower case."""
    return [file for file in files if file.lower().endswith(extensions)]


def files_by_name(folder: Path, extension: str) -> dict[str, Path]:
    """Return name without extension -> path, of the files in a folder and all folders in it that end in the
    extension, in C order.

    Raises:
        UserError: as of :func:`list_files` and :func:`by_name`.
    """
    files = with_extension(list_files(folder), extension)
    return {name: folder / file for name, file in by_name(files, folder).items()}


def by_name(files: list[str], folder) -> dict[str, str]:
    """Return file name without extension -> file.

    Raises:
        UserError: two files have the same name, in different folders or with different extensions.
    """
    found: dict[str, str] = {}
    for file in files:
        name = os.path.splitext(os.path.basename(file))[0]
        if name in found:
            raise UserError(
                f"{folder} holds two recordings called {name}, {found[name]} and {file}; remove one of them"
            )
        found[name] = file
    return found
