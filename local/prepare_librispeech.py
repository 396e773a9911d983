#!/usr/bin/env python3
"""Prepare LibriSpeech: read English from audio books, 16 kHz FLAC, any of its splits.

Usage: local/prepare_librispeech.py [options] CORPUS_ROOT DATA_DIR
 e.g.: local/prepare_librispeech.py --train-sets train-clean-100 --test-sets test-clean LibriSpeech data

OpenSLR 12, https://www.openslr.org/12/, CC BY 4.0; Panayotov et al., ICASSP 2015. Utterances of whole splits:

    dev-clean 2,703   dev-other 2,864   test-clean 2,620   test-other 2,939     33 to 40 speakers, 5 hours
    train-clean-100 28,539   train-clean-360 104,014   train-other-500 148,688  251, 921, 1,166 speakers

A part of a split works too: all existing recordings are prepared.

    CORPUS_ROOT/test-other/1688/142285/1688-142285-0000.flac
    CORPUS_ROOT/SPEAKERS.TXT (optional)    1688 | M | test-other | 8.05 | Name

    DATA_DIR/{train,test}/                 wav.scp utt2spk spk2utt, with SPEAKERS.TXT spk2gender utt2gender
    DATA_DIR/test/trials

The splits of --train-sets become one set, train; those of --test-sets become test. A speaker of a test split
has read only a chapter or two, so many target trials are from one recording session.
"""

import os
import re
from pathlib import Path

from local.common import add_trial_arguments, audio_path, check_audio, corpus_root, main, write_set
from local.walk import by_name, list_files, with_extension
from pydino.base import UserError, log, nearest, read_lines
from pydino.kaldi.data_dir import named

CORPUS = "LibriSpeech"
UTTERANCES = {
    "dev-clean": 2703,
    "dev-other": 2864,
    "test-clean": 2620,
    "test-other": 2939,
    "train-clean-100": 28539,
    "train-clean-360": 104014,
    "train-other-500": 148688,
}
ADVICE = (
    "Get it with --download true, or from https://www.openslr.org/12/, and give the folder that holds the "
    "splits."
)
UTTERANCE = re.compile(r"(\d+)-(\d+)-\d+")


def add_arguments(parser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--train-sets",
        default="train-clean-100",
        help="splits that become train (default '%(default)s'; '' for none)",
    )
    parser.add_argument(
        "--test-sets",
        default="test-other",
        help="splits that become test (default '%(default)s'; '' for none)",
    )
    add_trial_arguments(parser)
    parser.add_argument("corpus_root", metavar="CORPUS_ROOT")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write train and test."""
    splits_of = {"train": args.train_sets.split(), "test": args.test_sets.split()}
    splits = splits_of["train"] + splits_of["test"]
    if len(set(splits)) != len(splits) or not splits:
        raise UserError(
            f"--train-sets '{args.train_sets}' and --test-sets '{args.test_sets}': name at least one split, "
            "and none twice"
        )
    root = corpus_root(args.corpus_root, CORPUS, tuple(UTTERANCES), ADVICE)
    there = sorted(entry.name for entry in root.iterdir() if entry.is_dir())
    for split in splits:
        if split not in there:
            raise UserError(
                f"{root} has no split '{split}'{nearest(split, there)}; it has {named(there)}. {ADVICE}"
            )
    gender_of = read_speakers(root / "SPEAKERS.TXT")
    if not gender_of:
        log(f"no {root / 'SPEAKERS.TXT'}: no gender labels")
    seen: dict[str, str] = {}
    for name, splits in splits_of.items():
        if not splits:
            continue
        wav_scp, utt2spk = {}, {}
        for split in splits:
            found, speakers = find_utterances(root / split)
            if len(found) != UTTERANCES.get(split, len(found)):
                log(f"{split}: {len(found):,} utterances of the corpus's {UTTERANCES[split]:,}: a part")
            wav_scp |= found
            utt2spk |= speakers
        for speaker in set(utt2spk.values()):
            if seen.setdefault(speaker, name) != name:
                raise UserError(
                    f"speaker {speaker} is in train ({args.train_sets}) and in test ({args.test_sets}); "
                    "the test speakers must be unseen in training"
                )
        check_audio(wav_scp, CORPUS)
        labels = gender_labels(utt2spk, gender_of, root / "SPEAKERS.TXT") if gender_of else {}
        write_set(
            args.data_dir,
            name,
            wav_scp,
            utt2spk,
            labels,
            max_trials=args.max_trials if name == "test" else None,
            seed=args.seed,
        )


def gender_labels(
    utt2spk: dict[str, str], gender_of: dict[str, str], source: Path
) -> dict[str, dict[str, str]]:
    """Return the label maps of gender.

    Raises:
        UserError: a speaker without a line in ``source``.
    """
    lost = sorted(set(utt2spk.values()) - set(gender_of))
    if lost:
        raise UserError(f"{source}: no line for speaker {named(lost)}")
    return {
        "spk2gender": {speaker: gender_of[speaker] for speaker in utt2spk.values()},
        "utt2gender": {utterance: gender_of[speaker] for utterance, speaker in utt2spk.items()},
    }


def find_utterances(split: Path) -> tuple[dict[str, str], dict[str, str]]:
    """List ``<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac``; return wav_scp and utt2spk.

    Raises:
        UserError: a recording whose name does not agree with its folders, or none at all.
    """
    wav_scp, utt2spk = {}, {}
    for utterance, file in by_name(with_extension(list_files(split), ".flac"), split).items():
        match = UTTERANCE.fullmatch(utterance)
        if not match or Path(file).parts[:-1] != match.groups():
            raise UserError(
                f"{split / file}: expected {split.name}/<speaker>/<chapter>/"
                "<speaker>-<chapter>-<utterance>.flac"
            )
        wav_scp[utterance] = audio_path(split / file)
        utt2spk[utterance] = match.group(1)
    if not wav_scp:
        raise UserError(f"no .flac recording in {split}; unpack the split again")
    return wav_scp, utt2spk


def read_speakers(path: Path) -> dict[str, str]:
    """Read the gender of each speaker; empty if there is no such file. The lines are of the form::

        ;ID  |SEX| SUBSET           |MINUTES| NAME
        14   | F | train-clean-360  | 25.03 | Kristin LeMoine

    Raises:
        UserError: a line has another form.
    """
    if not os.path.exists(path):
        return {}
    gender_of = {}
    for number, line in enumerate(read_lines(path, latin1=True), 1):
        if line.startswith(";") or not line.strip():
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) < 3 or fields[1] not in ("F", "M"):
            raise UserError(
                f"{path}, line {number}: expected 'ID | F or M | SUBSET | MINUTES | NAME', got '{line}'"
            )
        gender_of[fields[0]] = fields[1].lower()
    return gender_of


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
