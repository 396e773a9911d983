"""Make a data directory consistent: sort, drop exact duplicates, and keep what every file knows."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from pydino.base import UserError, log, warn, write_text

from .data_dir import COMPLETE_FILES, Tables, invert, kind_of, named, restrict, store, table_names

# fields after the key; more than that, or fewer, is no line of the file
_FIELDS = {"utt2spk": 1, "segments": 3}
_MAY_BE_EMPTY = ("text",)  # an utterance may say nothing


@dataclass
class Report:
    """What was found: utterances before and after, and each dropped utterance with the reason."""

    before: int = 0
    after: int = 0
    dropped: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)


def read_loosely(path) -> tuple[dict[str, str], list[str]]:
    """Read a table that may be unsorted, with empty lines, carriage returns, or lines that stand there twice.

    Returns:
        The table sorted by key, and what was mended in words.

    Raises:
        UserError: one key with different values: which is right is not for a program to say. (``sort -u``
            would lose one silently.)
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.start}); convert it: iconv -f latin1 -t utf-8"
        ) from error
    mended = []
    if "\r" in text:
        mended.append("carriage returns removed")
    if text and not text.endswith("\n"):
        mended.append("final newline added")
    table: dict[str, str] = {}
    before, in_order, repeated, empty = "", True, 0, 0
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        fields = line.split(maxsplit=1)
        if not fields:
            empty += 1
            continue
        key, rest = fields[0], fields[1].rstrip() if len(fields) > 1 else ""
        if key in table and table[key] != rest:
            both = f"'{table[key]}' and '{rest}'"
            raise UserError(
                f"{path}, line {number}: key '{key}' is there twice with different values, {both}; remove one"
            )
        repeated += key in table
        in_order &= key > before or key in table
        table[key], before = rest, key
    if empty and text:
        mended.append(f"{empty} empty lines removed")
    if repeated:
        mended.append(f"{repeated} repeated lines removed")
    if not in_order:
        mended.append("sorted")
    return dict(sorted(table.items())), mended


def consistent(tables: Tables, utterance_files=(), speaker_files=()) -> tuple[Tables, dict[str, str]]:
    """Keep the utterances, speakers and recordings that every file which must be complete knows.

    ``vad.scp`` and ``energy.scp`` count like ``feats.scp``. (Kaldi filters the first without intersecting,
    and its own check then fails.)

    Args:
        tables: tables of a data directory.
        utterance_files, speaker_files: label maps that are to be treated as complete too.

    Returns:
        The kept tables, and the dropped utterances with the reason.
    """
    complete = COMPLETE_FILES | set(utterance_files) | set(speaker_files)
    segmented = "segments" in tables
    dropped: dict[str, str] = {}

    def keep(wanted, name):
        for utterance in [u for u in kept if not wanted(u)]:
            dropped[utterance] = f"not in {name}"
            del kept[utterance]

    kept = dict.fromkeys(tables["utt2spk"])
    for name in sorted(complete & set(tables)):
        table, kind = tables[name], kind_of(name, segmented)
        if kind == "utterance":
            keep(table.__contains__, name)
        elif kind == "speaker":
            keep(lambda u, table=table: tables["utt2spk"][u] in table, name)
    if segmented:
        for name in sorted(complete & set(tables)):
            if kind_of(name, segmented) == "recording":
                keep(
                    lambda u, table=tables[name]: tables["segments"][u].split()[0] in table,
                    f"{name} (its recording)",
                )
    for name in complete & set(tables):
        if kind_of(name, segmented) == "utterance":
            dropped |= dict.fromkeys(tables[name].keys() - tables["utt2spk"].keys(), "not in utt2spk")
    return restrict(tables, kept), dropped


def fix(path, utterance_files=(), speaker_files=()) -> Report:
    """Mend a data directory in place; the files it changes are kept in ``.backup``, with the names of what
    was dropped.

    Raises:
        UserError: no utterance is left, or a key has two values; then nothing is changed.
    """
    path = Path(path)
    names = table_names(path)
    if "utt2spk" not in names:
        raise UserError(f"no such file {path}/utt2spk: the primary map has to be there")
    tables, report, malformed, notes = {}, Report(), {}, []
    for name in names:
        tables[name], mended = read_loosely(path / name)
        for key in [k for k, rest in tables[name].items() if _is_malformed(name, rest)]:
            del tables[name][key]
            if name in COMPLETE_FILES or name == "utt2spk":
                malformed[key] = f"malformed line in {name}"
        if mended:
            notes.append(f"{path / name}: {', '.join(mended)}")
    counts = ", ".join(f"{n} {len(t)}" for n, t in tables.items() if n in COMPLETE_FILES or n == "utt2spk")
    fixed, report.dropped = consistent(tables, utterance_files, speaker_files)
    report.dropped |= malformed
    report.after = len(fixed["utt2spk"])
    report.before = report.after + len(report.dropped)
    if not fixed["utt2spk"]:
        raise UserError(
            f"no utterance of {path} is in every file, so none would be left (lines: {counts}); nothing was "
            "changed"
        )
    for note in notes:
        log(note)
    fixed_files = {name: _text(table) for name, table in fixed.items()} | {
        "spk2utt": _text(invert(fixed["utt2spk"]))
    }
    report.changed = [
        n
        for n, text in fixed_files.items()
        if not (path / n).exists() or (path / n).read_bytes() != text.encode()
    ]
    if report.changed:
        _back_up(path, report)
        store(path, fixed)
    _warn_of_order(path, fixed["utt2spk"])
    return report


def _is_malformed(name: str, rest: str) -> bool:
    if name in _FIELDS:
        return len(rest.split()) != _FIELDS[name]
    return not rest and name not in _MAY_BE_EMPTY


def _text(table: dict[str, str]) -> str:
    return "".join(f"{key} {rest}\n" if rest else f"{key}\n" for key, rest in sorted(table.items()))


def _back_up(path: Path, report: Report) -> None:
    backup = path / ".backup"
    try:
        backup.mkdir(exist_ok=True)
        for name in report.changed:
            if (path / name).exists():
                shutil.copyfile(path / name, backup / f"{name}.tmp")
                os.replace(backup / f"{name}.tmp", backup / name)
    except OSError as error:
        raise UserError(f"cannot write {backup}: {error.strerror}; nothing was changed") from error
    if report.dropped:
        write_text(
            backup / "dropped", "".join(f"{key} {reason}\n" for key, reason in sorted(report.dropped.items()))
        )


def _warn_of_order(path: Path, utt2spk: dict[str, str]) -> None:
    if list(utt2spk) != sorted(utt2spk, key=lambda u: (utt2spk[u], u)):
        warn(
            f"{path}/utt2spk is not in sorted order when sorted first on speaker-id; make speaker-ids "
            "prefixes of utt-ids yourself"
        )


def describe(report: Report, path) -> list[str]:
    """Say what :func:`fix` did, in lines."""
    lines = []
    by_reason: dict[str, list[str]] = {}
    for key, reason in report.dropped.items():
        by_reason.setdefault(reason, []).append(key)
    for reason, keys in sorted(by_reason.items()):
        lines.append(f"dropped {len(keys)} utterances, {reason}: {named(sorted(keys))}")
    if report.after == report.before:
        lines.append(f"kept all {report.after} utterances.")
    else:
        lines.append(f"kept {report.after} utterances out of {report.before}")
    if report.changed:
        lines.append(
            f"old files are kept in {path}/.backup"
            + (", where dropped names the utterances dropped" if report.dropped else "")
        )
    return lines
