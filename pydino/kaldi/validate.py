"""Check a data directory, with the checks and messages of Kaldi's ``validate_data_dir.sh``.

All errors are found, not only the first. A file that is not required is still checked where it exists.
Departures: segments are compared with ``utt2spk`` whether or not there is a ``text``, and ``vad.scp`` like
``feats.scp``.
"""

import math
from collections.abc import Callable
from pathlib import Path

from pydino.base import UserError, read_text, warn

from .audio_hashes import AUDIO_HASHES, duplicates, is_audio_hash
from .columns import Columns, ascend, read_lenient, text
from .data_dir import COMPLETE_FILES, kind_of, named, recording, table_names

_ILLEGAL_WORDS = {b"<s>", b"</s>", b"#0"}


def validate(path, feats=True, text=False, wav=True, spk_sort=True, deep=False, non_print=False) -> list[str]:
    """Check a data directory and return the errors, one string each; empty if it is valid.

    Args:
        path: the directory.
        feats, text, wav: whether ``feats.scp``, ``text``, ``wav.scp`` are required.
        spk_sort: whether ``utt2spk`` has to be sorted by speaker too.
        deep: read the headers of recordings and archives as well (see :mod:`pydino.kaldi.deep`).
        non_print: allow non-printable characters in ``text``.
    """
    path = Path(path)
    if not path.is_dir():
        return [f"no such directory {path}"]
    required = ["spk2utt", "utt2spk", *(["text"] * text), *(["wav.scp"] * wav), *(["feats.scp"] * feats)]
    errors = _missing(path, required)
    if any(error.endswith("/utt2spk") for error in errors):
        return errors
    names = table_names(path)
    segmented = "segments" in names
    utt2spk, found = _check_table(path / "utt2spk", non_print)
    errors += found
    if utt2spk is None:
        return errors
    if (path / "spk2utt").exists():
        spk2utt, problems = _check_table(path / "spk2utt", non_print)
        errors += problems
        if not found and spk2utt is not None:
            errors += _check_speakers(path, utt2spk, spk2utt, spk_sort)
        del spk2utt
    # The keys of complete files: the reference file of each kind, and its keys.
    expected = {"utterance": ("utt2spk", utt2spk.keys), "speaker": ("utt2spk", sorted(set(utt2spk.rests)))}
    del utt2spk
    names.remove("utt2spk")
    for name in sorted(names, key=lambda name: name != "segments"):  # which names the recordings
        table, found = _check_table(path / name, non_print)
        errors += found
        if table is None:
            continue
        if name == "segments":
            expected["recording"] = name, sorted({recording(rest) for rest in table.rests if rest})
        kind = kind_of(name, segmented)
        if kind in expected:
            errors += _compare_keys(path, name, kind, table.keys, *expected[kind])
        if name == AUDIO_HASHES:
            _report_duplicates(path, table)
        del table
    if (path / "frame_shift").exists() and not _is_positive(read_text(path / "frame_shift").strip()):
        errors.append(f"{path}/frame_shift should hold one positive number, the frame shift in seconds")
    if deep and not errors:
        from .deep import deep_errors

        errors += deep_errors(path)
    return errors


def _missing(path: Path, required: list[str]) -> list[str]:
    errors = []
    for name in required:
        if not (path / name).is_file():
            option = {"text": "text", "wav.scp": "wav", "feats.scp": "feats"}.get(name)
            errors.append(
                f"no such file {path}/{name}"
                + (f" (if this is by design, specify --no-{option})" if option else "")
            )
        elif (path / name).stat().st_size == 0:
            errors.append(f"empty file {path}/{name}")
    return errors


def _check_table(path: Path, non_print: bool) -> tuple[Columns | None, list[str]]:
    """Read a table as far as possible; return it (None if it cannot be read) and its format errors."""
    try:
        table, found = read_lenient(path)
    except UserError as error:
        return None, [str(error)]
    errors = []
    if found.byte_order_mark:
        errors.append(f"file {path} begins with a byte order mark, as written on Windows; run {_fix(path)}")
    if found.no_final_newline:
        errors.append(f"file {path} has invalid newline: the last line does not end with one")
    if found.carriage_returns:
        errors.append(f"file {path} has invalid newline: carriage returns, as written on Windows")
    if found.empty_line:
        errors.append(f"file {path}, line {found.empty_line}: empty line")
    if found.indented_line:
        errors.append(f"file {path}, line {found.indented_line}: blank at the beginning; run {_fix(path)}")
    if found.conflict:
        errors.append(f"file {path} is not sorted or has duplicates: {found.conflict}; remove one")
    elif found.misplaced:
        errors.append(f"file {path} is not sorted or has duplicates: {found.misplaced}; run {_fix(path)}")
    if path.name in _FORMATS:
        errors += _each(path, table, *_FORMATS[path.name])
    if path.name == "text" and not non_print:
        errors += _each(path, table, _is_printable, "non-printable characters; allow with --non-print")
    return table, errors


def _fix(path: Path) -> str:
    return f"utils/fix_data_dir.sh {path.parent}"


def _each(path: Path, table: Columns, is_right: Callable[[bytes], bool], expected: str) -> list[str]:
    right = list(map(is_right, table.rests))
    if all(right):
        return []
    place, count = right.index(False), right.count(False)
    line = f"{text(table.keys[place])} {text(table.rests[place])}"
    return [f"{path} has wrong format: '{line}' ({count} such lines): {expected}"]


def _is_positive(value: bytes | str) -> bool:
    try:
        return 0 < float(value) < math.inf
    except ValueError:
        return False


def _is_count(rest: bytes) -> bool:
    return rest.isdigit() and int(rest) > 0


def _is_hash(rest: bytes) -> bool:
    return rest.isdigit() and int(rest) < 1 << 64


def _is_warp(rest: bytes) -> bool:
    return _is_positive(rest) and 0.5 < float(rest) < 1.5


def _is_name(rest: bytes) -> bool:
    return len(rest.split(None, 1)) == 1


def _is_segment(rest: bytes) -> bool:
    fields = rest.split()
    try:
        return len(fields) == 3 and 0 <= float(fields[1]) < float(fields[2]) < math.inf
    except ValueError:
        return False


def _is_wav(rest: bytes) -> bool:
    """A path, or a command that ends in ``|``. Kaldi accepts no path with ``|`` elsewhere, and no ``~``."""
    if b"|" in rest:
        return rest.endswith(b"|") and not rest.startswith((b"~", b"|"))
    return bool(rest) and not rest.startswith(b"~")


def _is_legal(rest: bytes) -> bool:
    return _ILLEGAL_WORDS.isdisjoint(rest.split())


def _is_printable(rest: bytes) -> bool:
    return text(rest).replace("\t", " ").isprintable()


_SECONDS = (_is_positive, "expected <key> <positive number of seconds>")
_WARP = (_is_warp, "expected a warp factor between 0.5 and 1.5")
_OBJECT = (bool, "expected <key> <archive>:<offset>")
_FORMATS = {
    "utt2spk": (_is_name, "expected <utterance-id> <speaker-id>"),
    "segments": (
        _is_segment,
        "badly formatted segments file: expected <utterance-id> <recording-id> <start> <end>, end > start",
    ),
    "wav.scp": (
        _is_wav,
        "expected <id> <path>, or <id> <command> |, with no ~ at the beginning and | only at the end",
    ),
    "text": (_is_legal, f"has one of the words {sorted(map(bytes.decode, _ILLEGAL_WORDS))}"),
    "utt2num_frames": (_is_count, "expected <key> <positive whole number>"),
    "utt2dur": _SECONDS,
    "reco2dur": _SECONDS,
    "spk2warp": _WARP,
    "utt2warp": _WARP,
    AUDIO_HASHES: (lambda rest: is_audio_hash(text(rest)), "expected 16 hexadecimal digits"),
    "utt2hash": (_is_hash, "expected a whole number below 2^64"),
    "spk2gender": ({b"m", b"f"}.__contains__, "expected m or f"),
    "feats.scp": _OBJECT,
    "vad.scp": _OBJECT,
    "energy.scp": _OBJECT,
    "cmvn.scp": _OBJECT,
}


def _check_speakers(path: Path, utt2spk: Columns, spk2utt: Columns, spk_sort: bool) -> list[str]:
    errors = []
    members = utt2spk.members()
    if len(members) == 1 and len(utt2spk.keys) > 1:
        warn(
            f"you have only one speaker in {path}; if the speakers are unknown, make each utterance its "
            "own speaker"
        )
    if spk_sort and not ascend(utt2spk.rests, strictly=False):
        errors.append(
            f"{path}/utt2spk is not in sorted order when sorted first on speaker-id "
            "(fix this by making speaker-ids prefixes of utt-ids, separated by -, or specify --no-spk-sort)"
        )
    agree = members.keys() == set(spk2utt.keys) and all(
        members[speaker] == sorted(rest.split()) for speaker, rest in zip(*spk2utt, strict=True)
    )
    if not agree:
        errors.append(
            f"{path}/spk2utt and {path}/utt2spk do not seem to match; run utils/fix_data_dir.sh {path}"
        )
    return errors


def _report_duplicates(path: Path, table: Columns) -> None:
    """Warn of utterances of the same samples: corpora have some, and a task must not divide them."""
    found = duplicates(dict(zip(*table, strict=True)))
    if found:
        first = ", ".join(named(keys) for keys in found[:3])
        warn(
            f"{path}: {sum(map(len, found))} utterances are {len(found)} recordings under several names "
            f"({AUDIO_HASHES}), first: {first}"
        )


def _compare_keys(
    path: Path, name: str, kind: str, keys: list[bytes], reference: str, wanted: list[bytes]
) -> list[str]:
    """Complete files must have the utterances of ``utt2spk`` (its speakers, the recordings of ``segments``);
    label maps have no other keys.
    """
    if keys == wanted:
        return []
    extra = sorted(set(keys).difference(wanted))
    missing = sorted(set(wanted).difference(keys)) if name in COMPLETE_FILES else []
    if not missing and not extra:
        return []
    both = {reference: missing, name: extra}
    difference = "; ".join(f"only in {where}: {named(keys, 6)}" for where, keys in both.items() if keys)
    return [
        f"in {path}, {kind} lists extracted from {reference} and {name} differ, partial diff is: "
        f"{difference} [lengths are {len(wanted)} versus {len(keys)}]; run utils/fix_data_dir.sh {path}"
    ]
