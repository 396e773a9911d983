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
    utt2diagnosis (cc: control, cd: dementia) utt2mmse utt2age utt2gender
    DATA_DIR/adress_interviewer/           the interviewer's speech of both

Participant speech is by default cut from the whole recordings at the times of the transcripts' *PAR tiers
(--audio full). Turns that only pauses divide are one utterance, with the pauses, of at most --max-seconds.
The organisers' chunks (--audio chunks) are made by a voice activity detector, at most 10 s long and each
normalised in volume: pauses and loudness are lost, and nothing says who speaks in them.
"""

import re
from collections import Counter
from pathlib import Path

from local import interviews
from local.common import audio_path, check_audio, corpus_folder, main
from local.completeness import Completeness, add_partial_argument
from local.interviews import DataSet, Interview
from local.layout import UNKNOWN, child, find_folders, find_table, match, number
from local.tables import read_records
from local.walk import files_by_name
from pydino.base import UserError
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
    root = corpus_folder(args.corpus_root, CORPUS, ADVICE)
    folders = find_folders(root, ("train", "test"), tuple(AUDIO.values()), CORPUS, ADVICE)
    whole = Completeness(CORPUS, args.partial)
    about = {
        "train": read_train(folders["train"], whole),
        "test": read_test(folders["test"], args.test_labels),
    }
    if both := sorted(set(about["train"]) & set(about["test"])):
        raise UserError(f"{root}: {len(both):,} subjects are in both train and test: {named(both)}")
    heard, sets = [], []
    for name, folder in folders.items():
        present = read_interviews(folder, about[name], whole)
        whole.expect(name, Counter(interview.about["diagnosis"] for interview in present), COUNTS[name])
        heard += present
        if args.audio == "full":
            sets.append(interviews.participants(f"adress_{name}", present, args, whole))
        else:
            sets.append(chunks_of(f"adress_{name}", folder, present, whole))
    sets.append(interviews.interviewers("adress_interviewer", heard, args, whole))
    whole.finish(args.data_dir, ADVICE)
    for data_set in sets:
        data_set.write(args.data_dir)


def read_train(folder: Path, whole: Completeness) -> dict[str, dict[str, str]]:
    """Return subject -> what the tables of cc and cd say about it."""
    about: dict[str, dict[str, str]] = {}
    for diagnosis in ("cc", "cd"):
        path = child(folder, f"{diagnosis}_meta_data.txt")
        if path is None:
            whole.lacks(f"{folder} has no {diagnosis}_meta_data.txt")
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


def read_interviews(folder: Path, about: dict[str, dict[str, str]], whole: Completeness) -> list[Interview]:
    """Return the subjects that are in the table and have a recording and a transcript with times."""
    audio, text = child(folder, AUDIO["full"]), child(folder, "transcription")
    waves = files_by_name(audio, ".wav") if audio else {}
    transcripts = files_by_name(text, ".cha") if text else {}
    usable = match(folder / AUDIO["full"], whole, set(about), set(waves))
    if lost := sorted(usable - set(transcripts)):
        whole.lacks(f"{folder / 'transcription'} has no file of {len(lost):,} recordings: {named(lost)}")
    for subject in lost:
        whole.leave_out(subject, "there is no transcript of it")
    found, silent = [], []
    for subject in sorted(usable & set(transcripts)):
        parts = waves[subject].parent.name
        if parts in ("cc", "cd") and parts != about[subject]["diagnosis"]:
            raise UserError(f"{waves[subject]} is {about[subject]['diagnosis']} by the tables")
        participant, interviewer = interviews.chat_turns(transcripts[subject])
        if not participant:
            silent.append(subject)
            whole.leave_out(subject, "its transcript has no times on *PAR")
            continue
        found.append(Interview(subject, waves[subject], participant, interviewer, dict(about[subject])))
    if silent:
        whole.lacks(f"{folder}: no times on *PAR in the transcripts of {named(silent)}")
    return found


def chunks_of(name: str, folder: Path, present: list[Interview], whole: Completeness) -> DataSet:
    """Return a data directory of which each utterance is one of the organisers' chunks.

    Raises:
        UserError: there are none, or one is named otherwise.
    """
    chunks = child(folder, AUDIO["chunks"])
    if chunks is None:
        raise UserError(f"{folder} has no {AUDIO['chunks']}; use --audio full, or unpack it again")
    about = {interview.subject: interview.about for interview in present}
    found = DataSet(name)
    for chunk, path in files_by_name(chunks, ".wav").items():
        subject = chunk.partition("-")[0]
        if not re.fullmatch(r"S\d{3}-.+", chunk):
            raise UserError(f"{path}: expected a name that begins with its subject, S001-...")
        if subject not in about:
            whole.leave_out(chunk, "it is a chunk of a subject who is left out or unknown")
            continue
        found.wav_scp[chunk], found.utt2spk[chunk] = audio_path(path), subject
        for kind, value in {"subject": subject, "recording": subject, **about[subject]}.items():
            found.labels.setdefault(f"utt2{kind}", {})[chunk] = value
    if lost := sorted(set(about) - set(found.utt2spk.values())):
        whole.lacks(f"{chunks} has no chunk of {len(lost):,} subjects: {named(lost)}")
    check_audio(found.wav_scp, CORPUS)
    return found


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
