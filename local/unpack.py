"""Unpack an untrusted archive: only plain files and folders, only inside a temporary folder, then renamed."""

import os
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path

from pydino.base import UserError


def unpack(archive: Path, root: Path, inside: str, holds: str) -> None:
    """Unpack ``archive`` and move what it holds under ``root``, keeping existing files.

    Args:
        archive: a .tar.gz or .zip file.
        root: folder that receives the entries.
        inside: folder of the archive whose entries are taken; "." for the archive's top.
        holds: the entry that exists once the archive is unpacked; it is moved last, so that an interruption
            never looks complete.

    Raises:
        UserError: the archive is damaged, an entry would land outside or is no plain file, or the expected
            entry is not in it.
    """
    aside = root / ".unpacking"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        _extract(archive, aside)
        entries = aside / inside
        if not (entries / holds).exists():
            raise UserError(
                f"{archive} has no {Path(inside) / holds}: not the archive expected; remove it and run the "
                "command again"
            )
        for entry in sorted(entries.iterdir(), key=lambda entry: entry.name == holds):
            if not (root / entry.name).exists():
                entry.rename(root / entry.name)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{archive} is damaged ({error}); remove it and run the same command again") from None
    except OSError as error:
        raise UserError(
            f"cannot unpack {archive} to {root}: {error.strerror or error}; is the disk full, or are you "
            "not allowed to write?"
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _extract(archive: Path, aside: Path) -> None:
    """Copy every file of the archive into ``aside``: only contents and names, no permissions or links."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                if not member.is_dir():
                    with opened.open(member) as content:
                        _write(content, _inside(aside, member.filename, archive))
        return
    with tarfile.open(archive, "r:*") as opened:
        for member in opened:
            target = _inside(aside, member.name, archive)
            if member.isfile():
                _write(opened.extractfile(member), target)
            elif not member.isdir():
                raise UserError(
                    f"{archive} holds '{member.name}', which is no plain file or folder; it is not unpacked"
                )


def _inside(aside: Path, name: str, archive: Path) -> Path:
    """Return the path of an entry; refuse names that lead outside."""
    target = os.path.normpath(os.path.join(aside, name))
    if os.path.isabs(name) or os.path.commonpath([aside, target]) != str(aside):
        raise UserError(f"{archive} holds '{name}', which would land outside {aside}; it is not unpacked")
    return Path(target)


def _write(content, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as stream:
        shutil.copyfileobj(content, stream, 1 << 20)
