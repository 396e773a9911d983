#!/usr/bin/env python3
"""Prepare ADReSSo 2021, Alzheimer's Dementia Recognition through Spontaneous Speech only: descriptions of a
picture, without transcripts; and recordings of people whose MMSE score fell within two years, or did not.

Usage: local/prepare_adresso.py [options] CORPUS_ROOT DATA_DIR
 e.g.: local/prepare_adresso.py downloads/adresso data

For members of TalkBank's DementiaBank, https://dementia.talkbank.org/; Luz et al., arXiv 2104.09356. The
archives may be unpacked into one folder or side by side, one or two levels deep:

    CORPUS_ROOT/ADReSSo21/diagnosis/train/audio/{ad,cn}/adrso002.wav
    .../diagnosis/train/segmentation/{ad,cn}/adrso002.csv     speaker,begin,end in milliseconds
    .../diagnosis/train/adresso-train-mmse-scores.csv         adressfname,mmse,dx
    .../diagnosis/test-dist/audio/adrsdt1.wav                 .../segmentation/adrsdt1.csv
    .../diagnosis/test-dist/task1.csv task2.csv               ID,Dx and ID,MMSE, or --test-labels, --test-mmse
    .../progression/train/{audio,segmentation}/{decline,no_decline}/

    DATA_DIR/{adresso_train,adresso_test}/ wav.scp segments utt2spk spk2utt utt2subject utt2recording
    utt2diagnosis (ad, cn) utt2mmse
    DATA_DIR/adresso_interviewer/          the interviewer's speech of both
    --task progression: DATA_DIR/{adresso_progression,adresso_progression_interviewer}/ with utt2decline

The participant's speech is what the segmentation files give to PAR. Some of them list only the turns of INV;
there the rest of the recording is the participant's. Turns that only pauses divide are one utterance, with
the pauses, of at most --max-seconds.
"""

from collections import Counter
from pathlib import Path

from local import interviews
from local.common import corpus_folder, main
from local.completeness import Completeness, add_partial_argument
from local.interviews import Interview, Turns
from local.layout import UNKNOWN, child, find_folders, find_table, match, number
from local.tables import read_records
from local.walk import files_by_name
from pydino.base import UserError, log, warn
from pydino.kaldi.data_dir import named

CORPUS = "adresso"
COUNTS = {"train": 166, "test": 71}
# Of the training sets; no page of the organisers with these numbers was found.
CLASSES = {"ad": 87, "cn": 79, "decline": 15, "no_decline": 58}
# As in the tables of the ground truth and in the names of folders.
DIAGNOSES = {"ad": "ad", "probablead": "ad", "cn": "cn", "control": "cn", "1": "ad", "0": "cn"}
TEST_TABLES = ("{}.csv", "label_test_{}.csv", "test_results_{}_groundtruth.csv", "test_results_{}.csv")
GROUND_TRUTH = "https://talkbank.org/dementia/ADReSSo-2021/groundtruth/"
ADVICE = (
    "DementiaBank's members get ADReSSo21-diagnosis-train.tgz and ADReSSo21-diagnosis-test.tgz from "
    "https://dementia.talkbank.org/; give the folder that they are unpacked in."
)


def add_arguments(parser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--task",
        choices=("diagnosis", "progression"),
        default="diagnosis",
        help="the part of the corpus (default %(default)s)",
    )
    parser.add_argument("--test-labels", default="", help="table of the test recordings with a column Dx")
    parser.add_argument(
        "--test-mmse",
        default="",
        help="table of the test recordings with a column MMSE; none: without it",
    )
    interviews.add_turn_arguments(parser)
    add_partial_argument(parser)
    parser.add_argument("corpus_root", metavar="CORPUS_ROOT")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write the data directories of the part."""
    interviews.check_turn_arguments(args)
    root = corpus_folder(args.corpus_root, CORPUS, ADVICE)
    whole = Completeness(CORPUS, args.partial)
    if args.task == "progression":
        folder = find_folders(root, ("progression/train",), ("audio",), CORPUS, ADVICE)["progression/train"]
        sets = {"progression": (folder, by_folder(folder, ("decline", "no_decline"), "decline"))}
    else:
        folders = find_folders(root, ("diagnosis/train", "diagnosis/test-dist"), ("audio",), CORPUS, ADVICE)
        train, test = folders.values()
        sets = {
            "train": (train, read_train(train, whole)),
            "test": (test, read_test(test, args.test_labels, args.test_mmse)),
        }
        if both := sorted(set(sets["train"][1]) & set(sets["test"][1])):
            raise UserError(f"{root}: {len(both):,} recordings are in both train and test: {named(both)}")
    heard, prepared = [], []
    for name, (folder, about) in sets.items():
        present = read_interviews(folder, about, whole)
        check_counts(name, present, whole)
        heard += present
        prepared.append(interviews.participants(f"adresso_{name}", present, args, whole))
    part = "_progression" if args.task == "progression" else ""
    prepared.append(interviews.interviewers(f"adresso{part}_interviewer", heard, args, whole))
    whole.finish(args.data_dir, ADVICE)
    for data_set in prepared:
        data_set.write(args.data_dir)


def by_folder(folder: Path, classes: tuple[str, ...], key: str) -> dict[str, dict[str, str]]:
    """Return recording -> the class whose folder it is in."""
    about: dict[str, dict[str, str]] = {}
    for name in classes:
        inside = child(folder / "audio", name)
        for recording in files_by_name(inside, ".wav") if inside else ():
            if recording in about:
                raise UserError(f"{inside}: {recording} is also in {about[recording][key]}")
            about[recording] = {key: name}
    return about


def read_train(folder: Path, whole: Completeness) -> dict[str, dict[str, str]]:
    """Return recording -> diagnosis, from its folder, and score, from the table."""
    about = by_folder(folder, ("ad", "cn"), "diagnosis")
    path = child(folder, "adresso-train-mmse-scores.csv")
    if path is None:
        whole.lacks(f"{folder} has no adresso-train-mmse-scores.csv, the table of MMSE scores")
        return about
    records = {record.get("adressfname", ""): record for record in read_records(path)}
    if "" in records or not records:
        raise UserError(f"{path}: expected the columns adressfname, mmse and dx, and a name in every row")
    for recording in sorted(match(path, whole, set(about), set(records))):
        dx = records[recording].get("dx", "").lower()
        if DIAGNOSES.get(dx) != about[recording]["diagnosis"]:
            raise UserError(
                f"{path}: {recording} is '{dx}', but its audio is in {about[recording]['diagnosis']}/"
            )
        add_mmse(about[recording], records[recording].get("mmse", ""), f"{path}: mmse of {recording}")
    return about


def add_mmse(about: dict[str, str], text: str, where: str) -> None:
    """Add a score, unless it is not known."""
    if text.lower() not in UNKNOWN:
        about["mmse"] = number(text, 0, 30, where)


def read_test(folder: Path, labels: str, mmse: str) -> dict[str, dict[str, str]]:
    """Return recording -> diagnosis and score of the test set, whose tables were published later.

    Raises:
        UserError: one of them is not there, or has something else than a diagnosis.
    """
    places = (folder, folder.parent, folder.parent.parent)
    path = find_table(labels, places, names_of("task1"), ("dx", "prediction"))
    if path is None:
        raise UserError(missing("diagnoses", folder, "task1", "test-labels"))
    about: dict[str, dict[str, str]] = {}
    for record in read_records(path):
        recording, text = name_of(record, path), (record.get("dx") or record.get("prediction", "")).lower()
        if text not in DIAGNOSES:
            raise UserError(f"{path}: Dx of {recording} is '{text}', expected ProbableAD or Control")
        if recording in about:
            raise UserError(f"{path}: {recording} occurs twice")
        about[recording] = {"diagnosis": DIAGNOSES[text]}
    if mmse == "none":
        return about
    path = find_table(mmse, places, names_of("task2"), ("mmse", "prediction"))
    if path is None:
        raise UserError(
            missing("MMSE scores", folder, "task2", "test-mmse")
            + "; with 'test-mmse: none', and without the task mmse, the recipe does without"
        )
    for record in read_records(path):
        if (recording := name_of(record, path)) not in about:
            raise UserError(f"{path}: {recording} is not in the table of diagnoses")
        text = record.get("mmse") or record.get("prediction", "")
        add_mmse(about[recording], text, f"{path}: MMSE of {recording}")
    return about


def name_of(record: dict[str, str], path: Path) -> str:
    """Return the recording that a row is about."""
    name = record.get("id") or record.get("adressfname") or ""
    if not name:
        raise UserError(f"{path}: expected a column ID with the names of the recordings, such as adrsdt1")
    return name.removesuffix(".wav")


def names_of(task: str) -> tuple[str, ...]:
    """Return the names under which copies of the corpus have the ground truth of ``task1`` or ``task2``."""
    return tuple(name.format(task) for name in TEST_TABLES)


def missing(what: str, folder: Path, task: str, option: str) -> str:
    """Return the message about a table of the test set that is not there, or an empty template."""
    return (
        f"no {what} of the test recordings: none of {', '.join(names_of(task))} with values is in {folder} "
        f"or the two folders above. They are public: put {GROUND_TRUTH}{task}.csv there, or name the file by "
        f"'prepare_options: {{{option}: FILE}}' in conf/recipe.yaml"
    )


def read_interviews(folder: Path, about: dict[str, dict[str, str]], whole: Completeness) -> list[Interview]:
    """Return the recordings that have a label, audio and a segmentation file."""
    segmentation = child(folder, "segmentation")
    waves = files_by_name(folder / "audio", ".wav")
    tables = files_by_name(segmentation, ".csv") if segmentation else {}
    usable = match(folder / "audio", whole, set(about), set(waves))
    if lost := sorted(usable - set(tables)):
        whole.lacks(f"{folder / 'segmentation'} has no file of {len(lost):,} recordings: {named(lost)}")
    for recording in lost:
        whole.leave_out(recording, "there is no segmentation file of it")
    found, complemented = [], []
    for recording in sorted(usable & set(tables)):
        participant, interviewer = read_segmentation(tables[recording])
        if not participant:
            complemented.append(recording)
            whole_length = [(0, interviews.length_of(waves[recording]))]
            participant = interviews.without(whole_length, interviewer)
            if not interviewer:
                warn(f"{tables[recording]} has no rows: all of the recording is taken for the participant's")
        found.append(Interview(recording, waves[recording], participant, interviewer, about[recording]))
    if complemented:
        log(
            f"{segmentation}: {len(complemented):,} files list only the interviewer; the rest is the "
            f"participant's: {named(complemented)}"
        )
    return found


def read_segmentation(path: Path) -> tuple[Turns, Turns]:
    """Return the turns of the participant and of all others.

    Raises:
        UserError: a column is missing, or a time is no number.
    """
    participant, others = [], []
    for record in read_records(path):
        try:
            speaker, begin, end = (record[column] for column in ("speaker", "begin", "end"))
            turn = round(float(begin)), round(float(end))
        except (KeyError, ValueError, OverflowError):
            raise UserError(
                f"{path}: expected the columns speaker, begin and end, with times in milliseconds, found "
                f"{', '.join(f'{key} {value}' for key, value in record.items())}"
            ) from None
        (participant if speaker.upper() == "PAR" else others).append(turn)
    return participant, others


def check_counts(name: str, present: list[Interview], whole: Completeness) -> None:
    """Compare the numbers of recordings with those published, and those of a class with those reported."""
    if name in COUNTS:
        whole.expect("recordings", {name: len(present)}, {name: COUNTS[name]})
    if name == "test":
        return
    key = "decline" if name == "progression" else "diagnosis"
    for value, count in sorted(Counter(interview.about[key] for interview in present).items()):
        if count != CLASSES[value]:
            warn(f"{name}: {count:,} recordings of {value}, others report {CLASSES[value]:,}")


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
