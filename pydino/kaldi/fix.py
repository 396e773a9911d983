"""Make a data directory consistent: sort, drop exact duplicates, and keep the keys that every file has."""

import operator
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

from pydino.base import UserError, log, plural, warn, write_text

from .columns import Columns, ascend, has_content, read_lenient, text
from .data_dir import COMPLETE_FILES, Tables, kind_of, named, recording, restrict, store, table_names

# number of fields after the key in a well-formed line
_FIELDS = {"utt2spk": 1, "segments": 3}
_MAY_BE_EMPTY = ("text",)  # an utterance may have an empty transcript


@dataclass
class Report:
    """The result: utterances before and after, and each dropped utterance with the reason."""

    before: int = 0
    after: int = 0
    dropped: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)


def _read(path: Path, name: str) -> tuple[Columns, list[bytes], list[str]]:
    """Read a table that may be malformed.

    Returns:
        The repaired table, without malformed lines; the keys of these; and what was repaired.

    Raises:
        UserError: one key with different values: the program cannot choose. (``sort -u`` would silently drop
            one.)
    """
    columns, found = read_lenient(path / name)
    if found.conflict:
        raise UserError(f"{path / name}, {found.conflict}; remove one")
    repaired = {
        "byte order mark removed": found.byte_order_mark,
        "carriage returns removed": found.carriage_returns,
        "final newline added": found.no_final_newline,
        "blanks at the beginning of lines removed": found.indented_line,
        f"{found.empty_lines} empty lines removed": found.empty_lines,
        f"{found.repeated_lines} repeated lines removed": found.repeated_lines,
        "sorted": found.unsorted,
    }
    count = _FIELDS.get(name)
    if count is not None:
        wrong = [key for key, rest in zip(*columns, strict=True) if len(rest.split(None, count)) != count]
    elif name not in _MAY_BE_EMPTY and not all(columns.rests):
        wrong = [key for key, rest in zip(*columns, strict=True) if not rest]
    else:
        wrong = []
    if wrong:
        columns = columns.only(set(columns.keys) - set(wrong))
    return columns, wrong, [what for what, happened in repaired.items() if happened]


def consistent(
    tables: Tables, utterance_files=(), speaker_files=(), aligned=()
) -> tuple[Tables, dict[str, str]]:
    """Keep the utterances, speakers and recordings that are in every file that must be complete.

    ``vad.scp`` and ``energy.scp`` count like ``feats.scp``. (Kaldi filters the first without intersecting,
    and its own check then fails.)

    Args:
        tables: tables of a data directory.
        utterance_files, speaker_files: label maps that must be complete too.
        aligned: names of tables that are known to have the keys of ``utt2spk``; they are not read.

    Returns:
        The kept tables, and the dropped utterances with the reason.
    """
    complete = (COMPLETE_FILES | set(utterance_files) | set(speaker_files)) & set(tables)
    segmented = "segments" in tables
    utt2spk = tables["utt2spk"]
    kept = utt2spk
    dropped: dict[str, str] = {}

    def keep(is_known: Iterable[bool], name: str) -> None:
        nonlocal kept
        is_known = list(is_known)
        for utterance in compress(kept.keys, map(operator.not_, is_known)):
            dropped[text(utterance)] = f"not in {name}"
        kept = kept.where(is_known)

    for name in sorted(complete.difference(aligned)):
        keys, kind = tables[name].keys, kind_of(name, segmented)
        if kind == "utterance" and keys == utt2spk.keys:
            del keys  # before the next table is read, to hold one at a time
            continue
        known = set(keys)
        del keys
        if kind == "utterance":
            keep(map(known.__contains__, kept.keys), name)
            others = known.difference(utt2spk.keys)
            dropped |= dict.fromkeys(map(text, sorted(others)), "not in utt2spk")
        elif kind == "speaker":
            keep(map(known.__contains__, kept.rests), name)
        del known
    if segmented:
        recordings = dict(zip(*tables["segments"], strict=True))
        for name in sorted(complete):
            if kind_of(name, segmented) == "recording":
                known = set(tables[name].keys)
                keep((recording(recordings[key]) in known for key in kept.keys), f"{name} (its recording)")
    return restrict(tables, kept.keys), dropped


def fix(path, utterance_files=(), speaker_files=()) -> Report:
    """Make a data directory consistent in place; the files it changes are kept in ``.backup``, with the names
    of what was dropped.

    Raises:
        UserError: no utterance is left, or a key has two values; then nothing is changed.
    """
    path = Path(path)
    names = table_names(path)
    if "utt2spk" not in names:
        raise UserError(f"no such file {path}/utt2spk: the primary map is required")
    report, malformed, notes, counts = Report(), {}, [], []
    aligned: dict[str, bool] = {}  # tables with the keys of utt2spk -> whether the file holds just that
    utterances = _read(path, "utt2spk")[0].keys
    for name in names:
        columns, wrong, repaired = _read(path, name)
        if columns.keys == utterances:
            aligned[name] = has_content(path / name, columns)
        if name in COMPLETE_FILES or name == "utt2spk":
            malformed |= {text(key): f"malformed line in {name}" for key in wrong}
            counts.append(f"{name} {len(columns.keys)}")
        if repaired:
            notes.append(f"{path / name}: {', '.join(repaired)}")
        del columns  # one table at a time is in memory
    del utterances
    tables = Tables(names, lambda name: _read(path, name)[0])
    fixed, report.dropped = consistent(tables, utterance_files, speaker_files, aligned)
    if report.dropped:
        aligned = {}  # what follows is read, without what was dropped
    report.dropped |= malformed
    utt2spk = fixed["utt2spk"]
    report.after = len(utt2spk.keys)
    report.before = report.after + len(report.dropped)
    sorted_by_speaker = ascend(utt2spk.rests, strictly=False)
    report.changed = [] if has_content(path / "spk2utt", utt2spk.inverted()) else ["spk2utt"]
    del utt2spk
    if not report.after:
        raise UserError(
            f"no utterance of {path} is in every file, so none would be left (lines: {', '.join(counts)}); "
            "nothing was changed"
        )
    for note in notes:
        log(note)
    for name in names:
        if not (aligned[name] if name in aligned else has_content(path / name, fixed[name])):
            report.changed.append(name)
    if report.changed:
        _back_up(path, report)
        store(path, fixed)
    if not sorted_by_speaker:
        warn(
            f"{path}/utt2spk is not in sorted order when sorted first on speaker-id; make speaker-ids "
            "prefixes of utt-ids yourself"
        )
    return report


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


def describe(report: Report, path) -> list[str]:
    """Return what :func:`fix` did, as lines for the log."""
    lines = []
    by_reason: dict[str, list[str]] = {}
    for key, reason in report.dropped.items():
        by_reason.setdefault(reason, []).append(key)
    for reason, keys in sorted(by_reason.items()):
        lines.append(f"dropped {plural(len(keys), 'utterance')}, {reason}: {named(sorted(keys))}")
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
