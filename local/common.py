"""Shared by all corpus preparations: the command line, checks of the corpus, and atomic writing of data
directories.
"""

import argparse
import os
import shutil
import sys
from collections import Counter
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path

from pydino.base import (
    Lock,
    UserError,
    force_token,
    is_forced,
    lock_path,
    log,
    read_text,
    set_program,
    warn,
    write_text,
)
from pydino.cli import Parser  # knows the nearest option of a misspelt one
from pydino.kaldi import AUDIO_HASHES, validate, write_table
from pydino.kaldi.data_dir import FEATURE_METADATA, invert, named
from pydino.kaldi.trial_sampling import make_trials

MAX_TRIALS = 500_000
RECORDINGS = ("wav.scp", "segments")  # what features depend on
DIVISIONS = ("utt2fold", "utt2subject", "utt2recording")  # what tasks take, where it is there
# What stage 2 adds to a set.
COMPUTED = (
    *FEATURE_METADATA,
    ".done.features",
    ".done.vad",
    "energy.scp",
    "feats.scp",
    "vad.scp",
    "utt2dur",
    "utt2num_frames",
    AUDIO_HASHES,
)


def main(documentation: str, add_arguments, prepare, makes: Collection[str] = ("data_dir",)) -> None:
    """Run a preparation as a program: parse the command line, do the work, show a user's mistake without a
    traceback. Another one that writes the same folder is waited for.

    Args:
        documentation: the module's docstring, for ``--help``.
        add_arguments: function of the parser.
        prepare: function of the parsed arguments.
        makes: the arguments that are folders to write.
    """
    name = f"local/{Path(sys.argv[0]).name}"
    set_program(name)
    parser = Parser(
        prog=name,
        description=documentation,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    try:
        args = parser.parse_args()
        with ExitStack() as locks:
            for folder in (getattr(args, argument) for argument in makes):
                locks.enter_context(Lock(lock_path(folder)).wait(folder))
            prepare(args)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command resumes it", file=sys.stderr)
        raise SystemExit(130) from None


def add_trial_arguments(parser, seed_of: str = "that draw") -> None:
    """Add the options of verification trials: ``--max-trials`` and ``--seed``."""
    parser.add_argument(
        "--max-trials",
        type=int,
        default=MAX_TRIALS,
        help="all pairs of test utterances up to this number, otherwise a keyed random sample of this size "
        "(default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help=f"seed of {seed_of} (default %(default)s)")


def corpus_folder(path: str, corpus: str, advice: str) -> Path:
    """Return the folder that the user gave as an absolute path.

    Args:
        path: as the user gave it.
        corpus: name for messages.
        advice: how to get it.

    Raises:
        UserError: there is no such folder.
    """
    folder = Path(os.path.abspath(path))
    if not folder.is_dir():
        raise UserError(f"{corpus} not found: no folder {folder}. {advice}")
    return folder


def corpus_root(path: str, corpus: str, expected: tuple[str, ...], advice: str) -> Path:
    """Return the corpus root as an absolute path, after a check of its content.

    Args:
        path: as the user gave it.
        corpus: name for messages.
        expected: entries of the root, any of which identifies the corpus; its parent folder is accepted as
            well.
        advice: how to get it.

    Raises:
        UserError: there is no such folder, or it does not look like this corpus.
    """
    root = corpus_folder(path, corpus, advice)
    for candidate in (root, root / corpus):
        if any((candidate / name).exists() for name in expected):
            return candidate
    found = named(sorted(os.listdir(root))) or "nothing"
    raise UserError(
        f"{root} does not look like {corpus}: expected {' or '.join(expected)} in it, found {found}. {advice}"
    )


def audio_path(path: Path) -> str:
    """Return an absolute path as ``wav.scp`` can hold it.

    Raises:
        UserError: the name has a character that Kaldi's tables cannot carry.
    """
    text = os.path.abspath(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(
            f"the name of {text!r} is not UTF-8; rename the file (convmv -f latin1 -t utf8 --notest FILE)"
        ) from None
    if any(mark in text for mark in "\n\r|") or text != text.strip():
        raise UserError(
            f"the name of {text!r} holds a line break, a '|' or a blank at its end; rename the file or folder"
        )
    return text


def check_audio(wav_scp: dict[str, str], corpus: str) -> None:
    """Check that every recording exists and is not empty.

    Raises:
        UserError: naming the first few that are not.
    """
    bad = [path for path in wav_scp.values() if not os.path.isfile(path) or os.path.getsize(path) == 0]
    if bad:
        raise UserError(
            f"{corpus}: {len(bad):,} of {len(wav_scp):,} recordings are missing or empty: {named(bad)}; "
            "unpack the corpus again"
        )


def write_set(
    data_dir,
    name: str,
    wav_scp: dict[str, str],
    utt2spk: dict[str, str],
    labels: dict[str, dict[str, str]] | None = None,
    max_trials: int | None = None,
    seed: int = 0,
    partial: Collection[str] = (),
    segments: dict[str, str] | None = None,
    keep_features: bool = False,
) -> None:
    """Write and validate one Kaldi data directory, ``data_dir/name``, atomically.

    An existing set with the same content is kept, with what later stages added to it; another is replaced,
    and so is any with ``--force`` (:func:`forced`).

    Args:
        wav_scp: utterance -> absolute path; with ``segments``, recording -> absolute path.
        utt2spk: utterance -> speaker.
        labels: label map's file name (``utt2emotion``, ``spk2gender``) -> its table.
        max_trials: write ``trials`` over pairs of utterances, at most this many; None: no trials.
        seed: of the draw of trials.
        partial: label maps that omit the utterances that have no such label.
        segments: utterance -> recording, begin and end in seconds, as a line of Kaldi's ``segments``.
        keep_features: of a set that is replaced, where only labels or speakers differ. Not for recordings
            that are made again under their old names.

    Raises:
        UserError: no utterance, one without a speaker or label, or a set that does not validate.
    """
    if not wav_scp:
        raise UserError(f"{name}: no utterance found; is the corpus complete?")
    labels = labels or {}
    speakers, utterances = set(utt2spk.values()), set(segments or wav_scp)
    for table, content in {"utt2spk": utt2spk, **labels}.items():
        if table in partial:
            continue
        lacking = sorted((speakers if table.startswith("spk2") else utterances) - set(content))
        if lacking:
            raise UserError(f"{name}: {len(lacking):,} keys without an entry in {table}: {named(lacking)}")

    target = Path(data_dir) / name
    aside, old = target.with_name(f".{name}.new"), target.with_name(f".{name}.old")
    for left_over in (aside, old):
        shutil.rmtree(left_over, ignore_errors=True)
    in_order = {
        utterance: utt2spk[utterance] for utterance in sorted(utt2spk, key=lambda key: key.encode("utf-8"))
    }
    for table, content in {
        "wav.scp": wav_scp,
        "utt2spk": utt2spk,
        "spk2utt": invert(in_order),
        **({"segments": segments} if segments else {}),
        **labels,
    }.items():
        write_table(aside / table, content)
    trials = (
        None
        if max_trials is None
        else make_trials(in_order, aside / "trials", max_trials, seed, where=f"{target}/utt2spk")
    )
    errors = [
        error.replace(str(aside), str(target)) for error in validate(aside, feats=False, text=False, wav=True)
    ]
    if errors:
        raise UserError(f"{name} is not a valid data directory: {'; '.join(errors[:5])}")

    counts = f"{len(utterances):,} utterances, {len(speakers):,} speakers"
    again = forced(target)
    if _same(aside, target) and not again:
        shutil.rmtree(aside)
        log(f"{target} is up to date: {counts}")
        return
    if target.exists():
        if any(target.iterdir()) and not (target / "utt2spk").exists():
            raise UserError(
                f"{target} exists and is not a data directory; move it away or choose another DATA_DIR"
            )
        if keep_features and not again and _same(aside, target, RECORDINGS):
            for path in [target / name for name in COMPUTED if (target / name).is_file()]:
                copied = aside / path.relative_to(target)
                copied.parent.mkdir(exist_ok=True)
                shutil.copy2(path, copied)
            log(f"{target}: its tables changed; its recordings did not, and their features are kept")
        else:
            warn(
                f"{target} {'is regenerated' if again else 'differs from the corpus and is replaced'}; "
                "features in it have to be recomputed"
            )
        target.rename(old)
    note_force(aside)
    aside.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    log(f"wrote {target}: {counts}")
    if trials:
        log(f"  {trials}")
    for table, content in sorted(labels.items()):
        if table.startswith("utt2"):
            of_all = f" ({len(content):,} of {len(utterances):,} utterances)" if table in partial else ""
            log(f"  {table}: {_summary(content.values())}{of_all}")


def write_list(out_dir, name: str, recordings: dict[str, str], corpus: str) -> None:
    """Write a list of noises or room impulse responses, ``out_dir/name.scp``: recording -> absolute path, as
    lines of Kaldi's ``wav.scp``.

    Raises:
        UserError: a recording that is missing or empty.
    """
    check_audio(recordings, corpus)
    target = Path(out_dir) / f"{name}.scp"
    write_table(target, recordings)
    log(f"wrote {target}: {len(recordings):,} recordings")


def forced(folder: Path) -> bool:
    """Whether finished work is to be redone (``run.sh --force true``), and this call has not done so in
    ``folder`` yet.
    """
    noted = folder / ".forced"
    return is_forced(read_text(noted) if noted.exists() else None)


def note_force(folder: Path) -> None:
    """Record that ``folder`` has been redone for this call, if ``--force`` was given."""
    if force_token():
        write_text(folder / ".forced", force_token())


def _same(aside: Path, target: Path, names: Collection[str] = ()) -> bool:
    """Whether ``target`` holds every file of ``aside`` with the same text, and no other that only a
    preparation writes; or, of the named files, those and no others.
    """
    only_prepared = names or (*RECORDINGS, *DIVISIONS)
    if any((target / name).exists() and not (aside / name).exists() for name in only_prepared):
        return False
    return all(
        (target / f.name).is_file() and (target / f.name).read_bytes() == f.read_bytes()
        for f in aside.iterdir()
        if not names or f.name in names
    )


def _summary(values) -> str:
    counts = Counter(values)
    if len(counts) <= 10:
        return ", ".join(f"{value} {count:,}" for value, count in sorted(counts.items()))
    try:
        numbers = [float(value) for value in counts.elements()]
    except ValueError:
        return f"{len(counts):,} values"
    return f"{min(numbers):g} to {max(numbers):g}, mean {sum(numbers) / len(numbers):.1f}"
