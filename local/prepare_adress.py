#!/usr/bin/env python3
"""Prepare ADReSS 2020, the Alzheimer's Dementia Recognition through Spontaneous Speech challenge:
descriptions of a picture by 78 people with dementia and 78 without, balanced for age and gender.

Usage: local/prepare_adress.py [options] CORPUS_ROOT DATA_DIR
 e.g.: local/prepare_adress.py downloads/adress data

For members of TalkBank's DementiaBank, https://dementia.talkbank.org/; Luz et al., arXiv 2004.06833. The two
archives may be unpacked into one folder or side by side, one or two levels deep:

    CORPUS_ROOT/ADReSS-IS2020-data/train/{cc,cd}_meta_data.txt
    .../train/Full_wave_enhanced_audio/{cc,cd}/S001.wav       and with --audio chunks
    .../train/Normalised_audio-chunks/{cc,cd}/S001-0-1230-3210-1-0-240.wav
    .../train/transcription/{cc,cd}/S001.cha
    .../test/...                                              the same without cc/cd, from S160 on
    .../test/meta_data_test.txt                               or beside test/; other names: --test-labels FILE

    DATA_DIR/{adress_train,adress_test}/   wav.scp segments utt2spk spk2utt utt2subject utt2recording
    utt2diagnosis (cc: control, cd: dementia) utt2mmse utt2age utt2gender utt2turns utt2seconds utt2share
    DATA_DIR/adress_interviewer/           the interviewer's speech of both

Participant speech is by default cut from the whole recordings at the times of the transcripts' *PAR tiers
(--audio full). Turns that only pauses divide are one utterance, with the pauses, of at most --max-seconds.
The organisers' chunks (--audio chunks) are made by a voice activity detector, at most 10 s long and each
normalised in volume: pauses and loudness are lost, and nothing says who speaks in them.
"""

import os
import re
from pathlib import Path

from local import interviews
from local.common import add_partial_argument, audio_path, check_audio, deviates, main, write_set
from local.interviews import Interview
from local.layout import UNKNOWN, child, files_by_name, find_folders, find_table, number, say_lost
from local.tables import read_records
from pydino.base import UserError, log
from pydino.kaldi.data_dir import named

CORPUS = "adress"
COUNTS = {"train": {"cc": 54, "cd": 54}, "test": {"cc": 24, "cd": 24}}
DIAGNOSES = {"0": "cc", "1": "cd", "cc": "cc", "cd": "cd"}
GENDERS = {"0": "m", "1": "f", "male": "m", "female": "f", "m": "m", "f": "f"}
AUDIO = {"full": "Full_wave_enhanced_audio", "chunks": "Normalised_audio-chunks"}
TEST_TABLES = ("meta_data_test.txt", "meta_data.txt", "test_results.txt", "meta_data_with_labels.csv")
_SUBJECT = re.compile(r"S\d{3}")
ADVICE = (
    "DementiaBank's members get ADReSS-IS2020-train.tgz and ADReSS-IS2020-test.tgz from "
    "https://dementia.talkbank.org/; give the folder that they are unpacked in."
)


def add_arguments(parser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--audio",
        choices=tuple(AUDIO),
        default="full",
        help="the whole recordings, cut at the transcripts' times, or the organisers' chunks "
        "(default %(default)s)",
    )
    parser.add_argument("--test-labels", default="", help="table of the test subjects with a column Label")
    interviews.add_turn_arguments(parser)
    add_partial_argument(parser)
    parser.add_argument("corpus_root", metavar="CORPUS_ROOT")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write the three data directories."""
    interviews.check_turn_arguments(args)
    root = Path(os.path.abspath(args.corpus_root))
    folders = find_folders(root, ("train", "test"), tuple(AUDIO.values()), CORPUS, ADVICE)
    about = {
        "train": read_train(folders["train"], args.partial),
        "test": read_test(folders["test"], args.test_labels),
    }
    if both := sorted(set(about["train"]) & set(about["test"])):
        raise UserError(f"{root}: {len(both):,} subjects are in both train and test: {named(both)}")
    heard: list[Interview] = []
    for name, folder in folders.items():
        present = read_interviews(folder, about[name], args.partial)
        check_counts(name, present, args.partial)
        heard += present
        if args.audio == "full":
            interviews.write_participants(args.data_dir, f"adress_{name}", present, args)
        else:
            write_chunks(args.data_dir, f"adress_{name}", folder, present)
    interviews.write_interviewers(args.data_dir, "adress_interviewer", heard, args)


def read_train(folder: Path, partial: str) -> dict[str, dict[str, str]]:
    """Return subject -> what the tables of cc and cd say about it."""
    about: dict[str, dict[str, str]] = {}
    for diagnosis in ("cc", "cd"):
        path = child(folder, f"{diagnosis}_meta_data.txt")
        if path is None:
            deviates(f"{folder} has no {diagnosis}_meta_data.txt", partial)
            continue
        for subject, values in read_subjects(path).items():
            if subject in about:
                raise UserError(f"{folder}: {subject} is in both cc_meta_data.txt and cd_meta_data.txt")
            about[subject] = {"diagnosis": diagnosis} | values
    return about


def read_test(folder: Path, given: str) -> dict[str, dict[str, str]]:
    """Return subject -> what the table of the test subjects says about it, which must have diagnoses.

    Raises:
        UserError: there is no such table.
    """
    if path := find_table(given, (folder, folder.parent), TEST_TABLES, ("label",)):
        about = read_subjects(path)
        if unlabelled := sorted(name for name, values in about.items() if "diagnosis" not in values):
            raise UserError(f"{path}: no Label for {len(unlabelled):,} subjects: {named(unlabelled)}")
        return about
    raise UserError(
        f"no labels of the test subjects: none of {', '.join(TEST_TABLES)} with a column Label is in "
        f"{folder} or beside it. Get it where the recordings came from, https://dementia.talkbank.org/, and "
        "put it there, or name it by 'prepare_options: {test-labels: FILE}' in conf/recipe.yaml"
    )


def read_subjects(path: Path) -> dict[str, dict[str, str]]:
    """Read a table of subjects: ``ID ; age ; gender ; mmse``, the test's with ``Label``.

    Raises:
        UserError: a column is missing, or a value is none of those expected.
    """
    records = read_records(path)
    if not records or "id" not in records[0]:
        raise UserError(f"{path}: expected a table with the columns ID, age, gender and mmse")
    about: dict[str, dict[str, str]] = {}
    for record in records:
        subject = record["id"]
        if not _SUBJECT.fullmatch(subject):
            raise UserError(f"{path}: '{subject}' is not the name of a subject, such as S001")
        if subject in about:
            raise UserError(f"{path}: subject {subject} occurs twice")
        values = about[subject] = {}
        for column, key, known in (("label", "diagnosis", DIAGNOSES), ("gender", "gender", GENDERS)):
            if (text := record.get(column, "").lower()) not in UNKNOWN:
                if text not in known:
                    raise UserError(f"{path}: {column} of {subject} is '{text}', expected {' '.join(known)}")
                values[key] = known[text]
        for column, low, high in (("age", 18, 120), ("mmse", 0, 30)):
            if (text := record.get(column, "").lower()) not in UNKNOWN:
                values[column] = number(text, low, high, f"{path}: {column} of {subject}")
    return about


def read_interviews(folder: Path, about: dict[str, dict[str, str]], partial: str) -> list[Interview]:
    """Return the subjects that are in the table and have a recording and a transcript with times."""
    audio, text = child(folder, AUDIO["full"]), child(folder, "transcription")
    waves = files_by_name(audio, ".wav") if audio else {}
    transcripts = files_by_name(text, ".cha") if text else {}
    say_lost(folder / AUDIO["full"], set(about), set(waves), partial)
    usable = set(about) & set(waves)
    if lost := sorted(usable - set(transcripts)):
        deviates(f"{folder / 'transcription'}: no file of {len(lost):,} recordings: {named(lost)}", partial)
    found, silent = [], []
    for subject in sorted(usable & set(transcripts)):
        parts = waves[subject].parent.name
        if parts in ("cc", "cd") and parts != about[subject]["diagnosis"]:
            raise UserError(f"{waves[subject]} is {about[subject]['diagnosis']} by the tables")
        participant, interviewer = interviews.chat_turns(transcripts[subject])
        if not participant:
            silent.append(subject)
            continue
        found.append(Interview(subject, waves[subject], participant, interviewer, dict(about[subject])))
    if silent:
        deviates(f"{folder}: no times on *PAR in the transcripts of {named(silent)}", partial)
    return found


def check_counts(name: str, present: list[Interview], partial: str) -> None:
    """Compare the numbers of subjects with those published."""
    for diagnosis, expected in COUNTS[name].items():
        count = sum(interview.about["diagnosis"] == diagnosis for interview in present)
        if count != expected:
            deviates(f"{name}: {count:,} subjects of {diagnosis}, published are {expected:,}", partial)


def write_chunks(data_dir, name: str, folder: Path, present: list[Interview]) -> None:
    """Write a data directory of which each utterance is one of the organisers' chunks.

    Raises:
        UserError: there are none, one is named otherwise, or a subject has none.
    """
    chunks = child(folder, AUDIO["chunks"])
    if chunks is None:
        raise UserError(f"{folder} has no {AUDIO['chunks']}; use --audio full, or unpack it again")
    about = {interview.subject: interview.about for interview in present}
    wav_scp, utt2spk = {}, {}
    others = set()
    for chunk, path in files_by_name(chunks, ".wav").items():
        subject = chunk.partition("-")[0]
        if not re.fullmatch(r"S\d{3}-.+", chunk):
            raise UserError(f"{path}: expected a name that begins with its subject, S001-...")
        if subject in about:
            wav_scp[chunk], utt2spk[chunk] = audio_path(path), subject
        else:
            others.add(subject)
    if others:
        log(f"{name}: chunks of subjects that are left out above: {named(sorted(others))}")
    if lacking := sorted(set(about) - set(utt2spk.values())):
        raise UserError(f"{chunks}: no chunk of {len(lacking):,} subjects: {named(lacking)}")
    check_audio(wav_scp, CORPUS)
    labels: dict[str, dict[str, str]] = {"utt2subject": dict(utt2spk), "utt2recording": dict(utt2spk)}
    for utterance, subject in utt2spk.items():
        for kind, value in about[subject].items():
            labels.setdefault(f"utt2{kind}", {})[utterance] = value
    write_set(data_dir, name, wav_scp, utt2spk, labels, incomplete=tuple(labels))


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
