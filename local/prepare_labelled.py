#!/usr/bin/env python3
"""Prepare recordings of your own with a table of their labels: one set, and one task.

Usage: local/prepare_labelled.py [options] FOLDER DATA_DIR
 e.g.: local/prepare_labelled.py "/media/my recordings" data

    FOLDER/labels.csv                  or .tsv, .txt; or the only .csv or .tsv there; or --labels FILE
    FOLDER/any/folder/recording.wav    .wav, .flac, .ogg or .mp3, as in egs/wavdir

    DATA_DIR/labelled/                 wav.scp utt2spk spk2utt utt2label, and by the table's columns
    utt2subject utt2recording utt2fold utt2COLUMN

The table has a file and a label in each row, between commas, semicolons, tabs or blanks. With a header it
may have more columns: speaker, subject, recording, split (train, dev, test) or fold, and any others, which
become label maps. Files are named by a path that ends as in FOLDER, from any machine, with or without
extension. A line says which column is taken for what; --label-column chooses another label.
"""

import math
import os
import unicodedata
from collections import Counter
from pathlib import Path

from local.columns import NAMES, Columns, find_columns
from local.common import audio_path, check_audio, main, write_set
from local.completeness import Completeness
from local.prepare_wavdir import EXTENSIONS, name_utterances, safe
from local.tables import read_rows
from local.walk import list_files, with_extension
from pydino.base import UserError, log, warn
from pydino.kaldi.data_dir import named

CORPUS = "labelled"
PARTS = {"training": "train", "development": "dev", "validation": "dev", "valid": "dev", "val": "dev"}
PARTS |= {"evaluation": "test", "eval": "test"} | {part: part for part in ("train", "dev", "test")}
MANY = 10  # classes, from which on numbers are hardly names
ADVICE = "Give the folder that holds your recordings and labels.csv."


def add_arguments(parser) -> None:
    """Declare the command line."""
    parser.add_argument("--labels", default="", help="the table, if it is not FOLDER/labels.csv")
    parser.add_argument("--label-column", default="", help="name or number of the column with the labels")
    parser.add_argument(
        "--kind", choices=("class", "number"), default="class", help="what the labels are (default class)"
    )
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write the one data directory."""
    folder = Path(os.path.abspath(args.folder))
    if not folder.is_dir():
        raise UserError(f"no folder {folder}. {ADVICE}")
    recordings = with_extension(list_files(folder), *EXTENSIONS)
    if not recordings:
        raise UserError(f"no recording in {folder}; expected files ending in {', '.join(EXTENSIONS)}")
    path = find_labels(folder, args.labels)
    rows = read_rows(path)
    found = Recordings(recordings)
    columns = find_columns(path, rows, found.is_known, args.label_column)
    log(f"{path}: {columns.describe()}")
    row_of, whole = match_rows(path, rows[columns.header :], columns, found)
    for name in sorted(set(recordings) - set(row_of) - set(whole.left_out), key=os.fsencode):
        whole.leave_out(name, "the table has no label for it")
    whole.finish(args.data_dir, ADVICE)
    write(
        args, path, folder, {name: row_of[name] for name in recordings if name in row_of}, columns, recordings
    )


def find_labels(folder: Path, given: str) -> Path:
    """Return the table.

    Raises:
        UserError: there is none, or there are several and none is called labels.
    """
    if given:
        places = [Path(given) if os.path.isabs(given) else folder / given]
        if not places[0].is_file():
            raise UserError(f"no table {places[0]}")
        return places[0]
    tables = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    likely = [path for path in tables if path.name.lower() in ("labels.csv", "labels.tsv", "labels.txt")]
    found = likely or [path for path in tables if path.suffix.lower() in (".csv", ".tsv")]
    if len(found) != 1:
        there = f"there are {named(path.name for path in found)}" if found else "there is none"
        sheets = [
            path.name for path in tables if path.suffix.lower() in (".xlsx", ".xls", ".ods", ".numbers")
        ]
        if sheets and not found:
            raise UserError(f"{folder}: {sheets[0]} is a spreadsheet; save it as labels.csv there")
        raise UserError(
            f"{folder}: expected one table of labels, labels.csv, and {there}; write one with a file and a "
            "label in each row, or name it by 'prepare_options: {labels: FILE}' in conf/recipe.yaml"
        )
    return found[0]


class Recordings:
    """Recordings found by what a table calls them.

    Args:
        paths: relative to the folder.
    """

    def __init__(self, paths: list[str]):
        self._by_name: dict[str, list[tuple[str, list[str]]]] = {}
        for path in paths:
            parts = _parts(path)
            for name in dict.fromkeys((parts[-1], os.path.splitext(parts[-1])[0])):
                self._by_name.setdefault(name, []).append((path, parts))

    def is_known(self, text: str) -> bool:
        """Whether the text names a recording."""
        return bool(self.find(text))

    def find(self, text: str) -> list[str]:
        """Return the recordings whose path ends in the given one, or that the given one ends in: those that
        agree in most folders. More than one: the name is ambiguous.
        """
        asked = _parts(text)
        if not asked:
            return []
        stem, extension = os.path.splitext(asked[-1])
        found = self._by_name.get(asked[-1], [])
        if not found and extension in EXTENSIONS:  # converted since the table was written
            found = self._by_name.get(stem, [])
        best: list[str] = []
        agreed = -1
        for path, parts in found:
            count = min(len(parts), len(asked)) - 1
            if count and parts[-1 - count : -1] != asked[-1 - count : -1]:
                continue
            if count > agreed:
                best, agreed = [], count
            if count == agreed:
                best.append(path)
        return best


def _parts(path: str) -> list[str]:
    """Folders and name of a path of any machine, such that upper and lower case are the same."""
    path = unicodedata.normalize("NFC", path).replace("\\", "/").casefold()
    return [part for part in path.split("/") if part not in ("", ".")]


def match_rows(path, rows, columns: Columns, found: Recordings) -> tuple[dict[str, list[str]], Completeness]:
    """Return recording -> row, and what is left out.

    Raises:
        UserError: no row names a recording, a name fits several, or rows of one recording differ.
    """
    whole = Completeness(CORPUS, partial=True)
    row_of: dict[str, list[str]] = {}
    lost, again = [], 0
    for row in rows:
        name = columns.of(row, "file")
        if not columns.of(row, "label"):
            for recording in found.find(name) or [name]:
                whole.leave_out(recording, "its label is empty")
            continue
        paths = found.find(name)
        if len(paths) > 1:
            raise UserError(f"{path}: '{name}' may be {named(paths)}; write the folder before the name")
        if not paths:
            lost.append(name)
            whole.leave_out(name, "the table names it, but there is no such recording")
        elif row_of.setdefault(paths[0], row) is not row:
            again += 1
            if columns.values(row) != columns.values(row_of[paths[0]]):
                raise UserError(f"{path}: {paths[0]} has several rows, which differ; keep one of them")
    if not row_of:
        raise UserError(
            f"{path}: no row with a label names a recording, the first '{named(lost, 1)}'. Write paths as "
            "they are in the folder, with or without extension"
        )
    if lost:
        whole.lacks(f"{len(lost):,} of {len(rows):,} rows of {path} have no recording: {named(lost)}")
    if again:
        log(f"{path}: {again:,} rows occur twice and count once")
    return row_of, whole


def write(args, path, folder: Path, row_of: dict[str, list[str]], columns: Columns, recordings) -> None:
    """Write the set, with utterances that begin with their speaker where speakers are known."""
    id_of = {name: utterance for utterance, name in name_utterances(recordings).items()}
    who = next((role for role in ("speaker", "subject") if role in columns.roles), None)
    if who is None:
        others = [columns.names[place] for role, place in columns.roles.items() if role not in NAMES]
        others += columns.unused
        rename = f", or call it so if it is one of {named(others)}" if others else ""
        warn(
            f"{path} has no column speaker or subject: each recording counts as a speaker of its own. If "
            "anybody speaks in several, they may be in training and test at once, and figures too good: add "
            f"the column{rename}"
        )
    raw = {name: {role: columns.of(row, role) for role in columns.roles} for name, row in row_of.items()}
    for role in ("speaker", "subject", "recording", "fold"):
        lacking = [name for name in raw if role in columns.roles and not raw[name][role]]
        if lacking:
            raise UserError(f"{path}: no {role} in {len(lacking):,} rows: {named(lacking)}; complete them")
    # In Kaldi's order speakers are sorted as their utterances are, so a speaker's name has no hyphen.
    speakers = _tokens(path, "speaker", [raw[name][who] for name in raw] if who else [], hyphen="_")
    wav_scp, utt2spk = {}, {}
    labels: dict[str, dict[str, str]] = {f"utt2{role}": {} for role in columns.maps(who)}
    names = {role: _names(args, path, role, [raw[name][role] for name in raw]) for role in columns.maps(who)}
    for name in raw:
        utterance = f"{speakers[raw[name][who]]}-{id_of[name]}" if who else id_of[name]
        wav_scp[utterance] = audio_path(folder / name)
        utt2spk[utterance] = speakers[raw[name][who]] if who else utterance
        for role in columns.maps(who):
            if raw[name][role]:
                labels[f"utt2{role}"][utterance] = names[role][raw[name][role]]
    check_audio(wav_scp, CORPUS)
    partial = [table for table, content in labels.items() if len(content) < len(wav_scp)]
    write_set(args.data_dir, CORPUS, wav_scp, utt2spk, labels, partial=partial, keep_features=True)


def _names(args, path, role: str, values: list[str]) -> dict[str, str]:
    """Return value -> what a label map has for it."""
    if role == "fold" and all(value.lower() in PARTS for value in values):
        return {value: PARTS[value.lower()] for value in values}
    if role == "label" and args.kind == "number":
        return {value: _number(path, value) for value in values}
    tokens = _tokens(path, role, values)
    if role == "label":
        if len(tokens) > MANY and all(_is_number(value) for value in tokens):
            warn(
                f"{path}: {len(tokens)} classes, all of them numbers; if they are amounts, such as an age or "
                "a score, take --recipe-file conf/number.yaml"
            )
        spelt = Counter(token.casefold() for token in set(tokens.values()))
        if twice := sorted(name for name, count in spelt.items() if count > 1):
            warn(f"{path}: classes that differ only in upper and lower case: {named(twice)}")
    return tokens


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text.replace(",", ".")))
    except ValueError:
        return False


def _number(path, text: str) -> str:
    if not _is_number(text):
        raise UserError(f"{path}: the label '{text}' is not a number, as kind: number needs")
    return f"{float(text.replace(',', '.')):.10g}"


def _tokens(path, role: str, values: list[str], hyphen: str = "-") -> dict[str, str]:
    """Return value -> word without blanks.

    Raises:
        UserError: two values would be the same.
    """
    tokens = {value: safe("_".join(value.split())).replace("-", hyphen) for value in values if value}
    first_of: dict[str, str] = {}
    for value, token in tokens.items():
        if first_of.setdefault(token, value) != value:
            raise UserError(
                f"{path}: the {role}s '{first_of[token]}' and '{value}' would both be called {token}; "
                "rename one"
            )
    return tokens


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
