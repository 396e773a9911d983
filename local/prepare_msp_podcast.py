#!/usr/bin/env python3
"""Prepare MSP-Podcast: turns from podcasts with natural emotions, judged by listeners, in the publisher's
partitions.

Usage: local/prepare_msp_podcast.py [options] CORPUS_ROOT DATA_DIR
 e.g.: local/prepare_msp_podcast.py --release 1.11 /corpora/MSP-Podcast data

https://www.lab-msp.com/MSP/MSP-Podcast.html, by an academic licence; Lotfian and Busso, IEEE Transactions on
Affective Computing 2019. Releases 1.8 to 2.0: 73,042 to 267,905 turns, 114 to 409 hours, 16 kHz with few
exceptions.

    CORPUS_ROOT/Audios/MSP-PODCAST_0001_0008.wav         or Audio/
    CORPUS_ROOT/Labels/labels_consensus.csv              or labels/, label/; labels_concensus.csv up to 1.9
        FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set

    DATA_DIR/msp_podcast_{train,dev,test1,test2}/        and _test3 where the table has its labels
        wav.scp utt2spk spk2utt utt2gender utt2recording utt2emotion utt2emotion4 utt2emotion5 utt2emotion8
        utt2activation utt2valence utt2dominance

Partitions are those of the column Split_Set (Validation is Development). utt2emotion has all labels, also
other and no-majority; utt2emotion4 has anger, happiness, neutral and sadness; utt2emotion5 disgust too;
utt2emotion8 all eight emotions. These omit the other turns. The attributes are means from 1 to 7.

Utterances are called 00030-MSP-PODCAST_0001_0008, after their speaker. A turn of an unknown speaker is its
own speaker, unknown-MSP-PODCAST_...; it may be of anybody in the other partitions. Where a release has turns
of one speaker in two of train, dev and the test sets, those in train (or dev) are left out: a test speaker is
not trained on.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path

from local.common import audio_path, check_audio, corpus_root, main, write_set
from local.completeness import Completeness, add_partial_argument
from local.tables import read_records
from local.walk import files_by_name, list_files
from pydino.base import UserError, log, warn
from pydino.kaldi.data_dir import named

CORPUS = "msp_podcast"
AUDIO_FOLDERS = ("Audios", "Audio")
LABEL_FOLDERS = ("Labels", "labels", "label")
LABEL_FILES = ("labels_consensus.csv", "labels_concensus.csv")
COLUMNS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
PARTITIONS = {
    "Train": "train",
    "Development": "dev",
    "Validation": "dev",
    "Test1": "test1",
    "Test2": "test2",
    "Test3": "test3",
}
SETS = ("train", "dev", "test1", "test2")  # those that every release has
EMOTIONS = {
    "A": "anger",
    "S": "sadness",
    "H": "happiness",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
    "O": "other",
    "X": "no-majority",
}
LABELS = {
    "utt2emotion": "ASHUFDCNOX",
    "utt2emotion4": "AHNS",
    "utt2emotion5": "AHNSD",
    "utt2emotion8": "ASHUFDCN",
}
ATTRIBUTES = {"utt2activation": "EmoAct", "utt2valence": "EmoVal", "utt2dominance": "EmoDom"}
NOT_SHIPPED = {"MSP-PODCAST_1909_1017"}  # in the table of 2.0, but not among its recordings
NAME = re.compile(r"MSP-PODCAST_(?P<podcast>\w+?)_\w+")
# Turns in the table, those of Test3 apart, where they are published; and of some emotions.
RELEASES = {
    "1.8": {"all": 73_042, "dev": 7_800, "test1": 15_326},
    "1.11": {"all": 149_307, "train": 84_030, "dev": 19_815, "test1": 30_647, "test2": 14_815},
    "1.12": {"all": 203_936},
    "2.0": {"all": 264_705, "dev": 34_399},
}
OF_EMOTION = {
    ("1.8", "test1"): dict(N=4702, H=3475, X=2955, U=1029, C=736, D=709, A=622, S=505, F=367, O=226),
    ("1.8", "dev"): dict(N=2529, H=1320, X=1454, A=621, C=547, D=441, U=382, S=302, F=130, O=74),
    ("2.0", "test1"): dict(N=12457, H=10947, A=6985, S=3041, U=1206, C=1040, D=744, F=348),
}
ADVICE = (
    "Ask for it at https://www.lab-msp.com/MSP/MSP-Podcast.html, unpack Audios.tar.gz and give the folder "
    "that holds Audios and Labels."
)


def add_arguments(parser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--release",
        choices=["auto", *RELEASES],
        default="auto",
        help="whose counts are expected; auto: of the release with as many turns, unchecked if there is none "
        "(default %(default)s)",
    )
    add_partial_argument(parser)
    parser.add_argument("corpus_root", metavar="CORPUS_ROOT")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write a data directory for each partition."""
    root = corpus_root(args.corpus_root, "MSP-Podcast", (*AUDIO_FOLDERS, *LABEL_FOLDERS), ADVICE)
    whole = Completeness(CORPUS, args.partial)
    table = find_labels(root)
    rows = read_labels(table)
    check_counts(rows, args.release, table, whole)
    audio = next((root / name for name in AUDIO_FOLDERS if (root / name).is_dir()), None)
    if audio is None:
        raise UserError(f"{root} has no folder {' or '.join(AUDIO_FOLDERS)} with the recordings. {ADVICE}")
    wavs = files_by_name(audio, ".wav")
    for name in wavs.keys() - rows.keys():
        whole.leave_out(name, "it has no labels: of Test3, or removed from the release")
    lost = sorted(rows.keys() - wavs.keys())
    for name in lost:
        whole.leave_out(name, "it has labels but no recording")
    if unexpected := [name for name in lost if name not in NOT_SHIPPED]:
        whole.lacks(f"{len(unexpected):,} turns of {table} have no recording: {named(unexpected)}")
    rows = {name: row for name, row in rows.items() if name in wavs}
    for name, other in of_other_speakers(rows).items():
        whole.leave_out(name, f"its speaker is also in {other}")
        del rows[name]
    whole.finish(args.data_dir, ADVICE)

    members = defaultdict(list)
    for name, row in rows.items():
        members[row["set"]].append(name)
    for part in sorted(members):
        if part == "test3":
            log("Test3 has labels here: it is prepared too; name it in the recipe to use it")
        write_part(args, part, members[part], rows, wavs)


def find_labels(root: Path) -> Path:
    """Return the path of the table of labels.

    Raises:
        UserError: there is none.
    """
    for folder in LABEL_FOLDERS:
        for file in list_files(root / folder) if (root / folder).is_dir() else []:
            if file.rpartition("/")[2] in LABEL_FILES:
                return root / folder / file
    raise UserError(
        f"{root} has no {LABEL_FILES[0]} in its folder {' or '.join(LABEL_FOLDERS)} (up to 1.9 it is called "
        f"{LABEL_FILES[1]}). {ADVICE}"
    )


def read_labels(path: Path) -> dict[str, dict[str, str]]:
    """Return turn -> its row; ``set`` is the partition it is in, and ``speaker`` is empty where unknown.

    Raises:
        UserError: a column is missing, a turn is there twice, or its label or partition is unknown.
    """
    rows: dict[str, dict[str, str]] = {}
    for number, row in enumerate(read_records(path, COLUMNS), 2):
        name, where = row["filename"].removesuffix(".wav"), f"{path}, row {number}"
        if not NAME.fullmatch(name):
            raise UserError(f"{where}: '{row['filename']}' is not of the form MSP-PODCAST_0001_0008.wav")
        if name in rows:
            raise UserError(f"{where}: {name} occurs twice; keep one of its lines")
        for column, known in (("EmoClass", EMOTIONS), ("Split_Set", PARTITIONS)):
            if (value := row[column.lower()]) not in known:
                raise UserError(f"{where}: the {column} of {name} is '{value}'; there are {', '.join(known)}")
        speaker = re.sub(r"\W", "_", row["spkrid"] or "Unknown")
        row["speaker"] = "" if speaker.lower() == "unknown" else speaker.zfill(5)
        row["set"] = PARTITIONS[row["split_set"]]
        rows[name] = row
    return rows


def check_counts(rows, release: str, table: Path, whole: Completeness) -> None:
    """Compare the table with the counts of a release, and check that every partition is there."""
    found = Counter(row["set"] for row in rows.values())
    for name in SETS:
        if not found[name]:
            spelt = " or ".join(partition for partition, part in PARTITIONS.items() if part == name)
            whole.lacks(f"{table} has no turn of the partition {spelt}")
    found["all"] = sum(found.values()) - found["test3"]
    if release == "auto":
        release = next((r for r, counts in RELEASES.items() if counts["all"] == found["all"]), "")
        if not release:
            warn(
                f"{table} has {found['all']:,} turns without Test3, as no release whose counts are known "
                f"({', '.join(RELEASES)}): the counts are not checked"
            )
            return
    log(f"the counts of release {release} are expected")
    published = RELEASES[release]
    whole.expect(f"turns of release {release}", {name: found[name] for name in published}, published)
    for (of_release, part), counts in OF_EMOTION.items():
        if of_release == release:
            labels = Counter(row["emoclass"] for row in rows.values() if row["set"] == part)
            whole.expect(f"emotion in {part}", {code: labels[code] for code in counts}, counts)


def of_other_speakers(rows) -> dict[str, str]:
    """Return the turns of train and dev whose known speaker is also in a test set or, for train, in dev, and
    that set.
    """
    parts_of = defaultdict(set)
    for row in rows.values():
        if row["speaker"]:
            parts_of[row["speaker"]].add(row["set"])
    shared = {}
    for name, row in rows.items():
        rivals = {"train": ("test1", "test2", "test3", "dev"), "dev": ("test1", "test2", "test3")}
        for other in rivals.get(row["set"], ()):
            if other in parts_of.get(row["speaker"], ()):
                shared[name] = other
                break
    return shared


def write_part(args, part: str, names: list[str], rows, paths: dict[str, Path]) -> None:
    """Write the data directory of one partition."""
    wav_scp, utt2spk = {}, {}
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    for name in names:
        row = rows[name]
        utterance = f"{row['speaker'] or 'unknown'}-{name}"
        wav_scp[utterance] = audio_path(paths[name])
        utt2spk[utterance] = row["speaker"] or utterance
        tables["utt2recording"][utterance] = f"podcast{NAME.fullmatch(name)['podcast']}"
        if row["gender"] in ("Male", "Female"):
            tables["utt2gender"][utterance] = row["gender"][0].lower()
        for table, codes in LABELS.items():
            if row["emoclass"] in codes:
                tables[table][utterance] = EMOTIONS[row["emoclass"]]
        for table, column in ATTRIBUTES.items():
            if re.fullmatch(r"\d+(\.\d+)?", row[column.lower()]):
                tables[table][utterance] = row[column.lower()]
    unknown = sum(not rows[name]["speaker"] for name in names)
    if unknown:
        warn(
            f"{part}: {unknown:,} of {len(names):,} turns are of unknown speakers, each taken for a speaker "
            "of its own; some may speak in another partition too"
        )
    check_audio(wav_scp, CORPUS)
    partial = [table for table in tables if table not in ("utt2recording", "utt2emotion")]
    write_set(args.data_dir, f"{CORPUS}_{part}", wav_scp, utt2spk, tables, partial=partial)


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
