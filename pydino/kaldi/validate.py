"""Check a data directory, with the order of checks and the messages of Kaldi's ``validate_data_dir.sh``.

All errors are found, not only the first. A file that is not required is still checked where it is there.
Departures: segments are compared with ``utt2spk`` whether or not there is a ``text``, and ``vad.scp`` like
``feats.scp``.
"""

import math
from collections.abc import Callable
from pathlib import Path

from pydino.base import UserError, read_text, warn

from .data_dir import COMPLETE_FILES, Tables, invert, kind_of, named, table_names
from .fix import read_loosely

_ILLEGAL_WORDS = {"<s>", "</s>", "#0"}


def validate(path, feats=True, text=False, wav=True, spk_sort=True, deep=False, non_print=False) -> list[str]:
    """Check a data directory and return the errors, one string each; empty if it is well.

    Args:
        path: the directory.
        feats, text, wav: whether ``feats.scp``, ``text``, ``wav.scp`` are required.
        spk_sort: whether ``utt2spk`` has to be sorted by speaker too.
        deep: open the heads of recordings and archives as well (see :mod:`pydino.kaldi.deep`).
        non_print: let ``text`` hold characters that cannot be printed.
    """
    path = Path(path)
    if not path.is_dir():
        return [f"no such directory {path}"]
    required = ["spk2utt", "utt2spk", *(["text"] * text), *(["wav.scp"] * wav), *(["feats.scp"] * feats)]
    errors = _missing(path, required)
    if any(error.endswith("/utt2spk") for error in errors):
        return errors
    tables: Tables = {}
    for name in [*table_names(path), "spk2utt"]:
        if not (path / name).exists():
            continue
        found, tables[name] = _read(path / name)
        errors += found
    spk2utt = tables.pop("spk2utt", None)
    malformed = [
        error
        for name, check in _FORMATS.items()
        if name in tables
        for error in check(path / name, tables[name])
    ]
    errors += malformed
    if not malformed and spk2utt is not None:
        errors += _check_speakers(path, tables["utt2spk"], spk2utt, spk_sort)
    if "text" in tables:
        errors += _check_text(path / "text", tables["text"], non_print)
    errors += _compare_keys(path, tables)
    if (path / "frame_shift").exists() and not _is_positive(read_text(path / "frame_shift").strip()):
        errors.append(f"{path}/frame_shift should hold one positive number, the seconds from frame to frame")
    if deep and not errors:
        from .deep import deep_errors

        errors += deep_errors(path, tables)
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


def _read(path: Path) -> tuple[list[str], dict[str, str]]:
    """Read a table as well as it goes; say what is wrong with its lines."""
    try:
        raw = path.read_bytes()
        table, mended = read_loosely(path)
    except UserError as error:
        return [
            f"file {path} is not sorted or has duplicates: {error}" if "twice" in str(error) else str(error)
        ], {}
    except OSError as error:
        return [f"cannot read {path}: {error.strerror}"], {}
    errors = []
    if raw and not raw.endswith(b"\n"):
        errors.append(f"file {path} has invalid newline: the last line does not end with one")
    if b"\r" in raw:
        errors.append(f"file {path} has invalid newline: carriage returns, as written on Windows")
    lines = [line.split() for line in raw.decode("utf-8").removesuffix("\n").split("\n")] if raw else []
    empty = next((n for n, fields in enumerate(lines, 1) if not fields), None)
    if empty:
        errors.append(f"file {path}, line {empty}: empty line")
    keys = [fields[0] for fields in lines if fields]
    place = next((n for n in range(1, len(keys)) if keys[n] <= keys[n - 1]), None)
    if place:
        what = "is there twice" if keys[place] == keys[place - 1] else f"comes after '{keys[place - 1]}'"
        errors.append(
            f"file {path} is not sorted or has duplicates: '{keys[place]}' {what}; run "
            f"utils/fix_data_dir.sh {path.parent}"
        )
    return errors, table


def _each(path: Path, table: dict[str, str], is_right: Callable[[str], bool], expected: str) -> list[str]:
    wrong = [key for key, rest in table.items() if not is_right(rest)]
    return (
        [f"{path} has wrong format: '{wrong[0]} {table[wrong[0]]}' ({len(wrong)} such lines): {expected}"]
        if wrong
        else []
    )


def _is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _is_warp(text: str) -> bool:
    return _is_positive(text) and 0.5 < float(text) < 1.5


def _is_segment(rest: str) -> bool:
    fields = rest.split()
    try:
        return len(fields) == 3 and 0 <= float(fields[1]) < float(fields[2]) < math.inf
    except ValueError:
        return False


def _is_wav(rest: str) -> bool:
    """A path, or a command that ends in ``|``. Kaldi reads no path with the sign elsewhere, and no ``~``."""
    return bool(rest) and not rest.startswith(("~", "|")) and ("|" not in rest or rest.endswith("|"))


def _expect(is_right, expected):
    return lambda path, table: _each(path, table, is_right, expected)


_COUNT = _expect(
    lambda rest: rest.isascii() and rest.isdigit() and int(rest) > 0, "expected <key> <positive whole number>"
)
_SECONDS = _expect(_is_positive, "expected <key> <positive number of seconds>")
_WARP = _expect(_is_warp, "expected a warp factor between 0.5 and 1.5")
_OBJECT = _expect(bool, "expected <key> <archive>:<offset>")
_FORMATS = {
    "utt2spk": _expect(lambda rest: len(rest.split()) == 1, "expected <utterance-id> <speaker-id>"),
    "segments": _expect(
        _is_segment,
        "badly formatted segments file: expected <utterance-id> <recording-id> <start> <end>, end > start",
    ),
    "wav.scp": _expect(
        _is_wav, "expected <id> <path>, or <id> <command> |, with no ~ at the beginning and | only at the end"
    ),
    "utt2num_frames": _COUNT,
    "utt2dur": _SECONDS,
    "reco2dur": _SECONDS,
    "spk2warp": _WARP,
    "utt2warp": _WARP,
    "utt2hash": _expect(
        lambda r: r.isascii() and r.isdigit() and int(r) < 1 << 64, "expected a whole number below 2^64"
    ),
    "spk2gender": _expect(lambda rest: rest in ("m", "f"), "expected m or f"),
    "feats.scp": _OBJECT,
    "vad.scp": _OBJECT,
    "energy.scp": _OBJECT,
    "cmvn.scp": _OBJECT,
}


def _check_speakers(
    path: Path, utt2spk: dict[str, str], spk2utt: dict[str, str], spk_sort: bool
) -> list[str]:
    errors = []
    if len(set(utt2spk.values())) == 1 and len(utt2spk) > 1:
        warn(
            f"you have only one speaker in {path}; if you do not know the speakers, let each utterance be "
            "its own"
        )
    if spk_sort and list(utt2spk) != sorted(utt2spk, key=lambda u: (utt2spk[u], u)):
        errors.append(
            f"{path}/utt2spk is not in sorted order when sorted first on speaker-id "
            "(fix this by making speaker-ids prefixes of utt-ids, separated by -, or specify --no-spk-sort)"
        )
    if {s: sorted(us.split()) for s, us in invert(utt2spk).items()} != {
        s: sorted(us.split()) for s, us in spk2utt.items()
    }:
        errors.append(
            f"{path}/spk2utt and {path}/utt2spk do not seem to match; run utils/fix_data_dir.sh {path}"
        )
    return errors


def _check_text(path: Path, table: dict[str, str], non_print: bool) -> list[str]:
    errors = _each(
        path,
        table,
        lambda rest: not _ILLEGAL_WORDS & set(rest.split()),
        f"has one of the words {sorted(_ILLEGAL_WORDS)}",
    )
    if not non_print:
        errors += _each(
            path,
            table,
            lambda rest: rest.replace("\t", " ").isprintable(),
            "non-printable characters; allow with --non-print",
        )
    return errors


def _compare_keys(path: Path, tables: Tables) -> list[str]:
    """Complete files have the utterances of ``utt2spk`` (its speakers, the recordings of ``segments``); label
    maps have no others.
    """
    segmented = "segments" in tables
    expected = {
        "utterance": ("utt2spk", set(tables["utt2spk"])),
        "speaker": ("utt2spk", set(tables["utt2spk"].values())),
    }
    if segmented:
        expected["recording"] = (
            "segments",
            {rest.split()[0] for rest in tables["segments"].values() if rest},
        )
    errors = []
    for name, table in tables.items():
        kind = kind_of(name, segmented)
        reference, wanted = expected[kind]
        missing = sorted(wanted - table.keys()) if name in COMPLETE_FILES else []
        extra = sorted(table.keys() - wanted)
        if missing or extra:
            both = {reference: missing, name: extra}
            difference = "; ".join(
                f"only in {where}: {named(keys, 6)}" for where, keys in both.items() if keys
            )
            errors.append(
                f"in {path}, {kind} lists extracted from {reference} and {name} differ, partial diff is: "
                f"{difference} "
                f"[lengths are {len(wanted)} versus {len(table)}]; run utils/fix_data_dir.sh {path}"
            )
    return errors
