#!/usr/bin/env python3
"""Prepare CREMA-D: 91 actors say twelve English sentences in six emotions, which 2,443 people then judged.

Usage: local/prepare_crema_d.py [options] CORPUS_ROOT DATA_DIR
 e.g.: local/prepare_crema_d.py /corpora/CREMA-D data

https://github.com/CheyneyComputerScience/CREMA-D, Open Database License; Cao et al., IEEE Transactions on
Affective Computing 2014. 7,442 utterances, 5.3 hours, 16 kHz. The recordings are in Git LFS; the mirrors
without processedResults lack the votes.

    CORPUS_ROOT/AudioWAV/1001_IEO_HAP_LO.wav             actor, sentence, intended emotion, its intensity
    CORPUS_ROOT/VideoDemographics.csv                    ActorID,Age,Sex,Race,Ethnicity
    CORPUS_ROOT/processedResults/summaryTable.csv        FileName,VoiceVote,...,MultiModalVote,...

    DATA_DIR/crema_d/      wav.scp utt2spk spk2utt spk2age spk2gender utt2age utt2gender utt2sentence
        utt2intensity utt2fold utt2part utt2emotion utt2emotion4 utt2vote utt2vote4 utt2vote_multimodal

Utterances are called 1001-IEO_HAP_LO. utt2emotion is the intended emotion, as in most published work;
utt2emotion4 omits disgust and fear. utt2vote is what most of those said who only heard the utterance, and
utt2vote_multimodal of those who saw it as well; ties are omitted. utt2fold deals the actors of each sex to
five folds. utt2part has the published lists of audEERING, https://github.com/audeering/datasets: 56 actors
train, 18 dev, 17 test. 1076_MTI_SAD_XX has no sound and is left out. Three pairs of files are the same
recording under two emotions; they are kept and named.
"""

import filecmp
import re
from collections import Counter, defaultdict
from pathlib import Path

from local.common import audio_path, check_audio, corpus_root, main, write_set
from local.completeness import Completeness, add_partial_argument
from local.tables import read_records
from local.walk import files_by_name
from pydino.base import UserError, log, warn
from pydino.kaldi.data_dir import named

CORPUS = "crema_d"
NAME = re.compile(
    r"(?P<actor>10\d\d)_(?P<sentence>[A-Z]{3})_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<level>LO|MD|HI|XX?)"
)
EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
FOUR = ("anger", "happiness", "neutral", "sadness")
VOTES = {emotion[0].upper(): emotion for emotion in EMOTIONS.values()}
VOTED = {"utt2vote": "VoiceVote", "utt2vote_multimodal": "MultiModalVote"}
LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
SILENT = "1076_MTI_SAD_XX"
SAME_RECORDING = (
    ("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),
    ("1013_WSI_DIS_XX", "1013_WSI_SAD_XX"),
    ("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
)
ACTORS = [str(actor) for actor in range(1001, 1092)]
FOLDS = 5
# audEERING's lists, crema-d 1.1.0; all other actors are in train.
DEV = {1049, 1053, 1054, 1055, 1058, 1059, *range(1061, 1069), 1070, 1075, 1080, 1085}
TEST = {1048, 1069, 1071, 1074, *range(1076, 1080), *range(1082, 1085), *range(1086, 1092)}
# What the whole corpus has.
OF_EMOTION = {emotion: 1087 if emotion == "neutral" else 1271 for emotion in EMOTIONS.values()}
OF_ACTOR = {actor: 82 for actor in ACTORS} | {"1008": 76, "1009": 76, "1019": 76, "1002": 81, "1076": 81}
OF_VOTE = {
    "utt2vote": (986, 547, 645, 353, 3897, 370),  # in the order of EMOTIONS
    "utt2vote_multimodal": (1019, 1139, 1084, 1219, 1972, 589),
}
POINTER = b"version https://git-lfs"
REPOSITORY = "https://github.com/CheyneyComputerScience/CREMA-D"
ADVICE = (
    f"Clone it without the films: GIT_LFS_SKIP_SMUDGE=1 git clone {REPOSITORY} && cd CREMA-D && git lfs pull "
    "--include 'AudioWAV/*' (0.6 GB), and give the folder that holds AudioWAV."
)


def add_arguments(parser) -> None:
    """Declare the command line."""
    add_partial_argument(parser)
    parser.add_argument("corpus_root", metavar="CORPUS_ROOT")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write the one data directory."""
    root = corpus_root(args.corpus_root, "CREMA-D", ("AudioWAV",), ADVICE)
    whole = Completeness(CORPUS, args.partial)
    wavs = find_wavs(root / "AudioWAV", whole)
    people = read_demographics(root / "VideoDemographics.csv")
    fold_of = deal(people)
    votes = read_votes(root / "processedResults" / "summaryTable.csv", set(wavs), whole)
    whole.expect("intended emotion", Counter(EMOTIONS[name[9:12]] for name in wavs), OF_EMOTION)
    whole.expect("actor", Counter(name[:4] for name in wavs), OF_ACTOR)
    if SILENT in wavs:
        del wavs[SILENT]
        whole.leave_out(SILENT, "the published recording has no sound")
    whole.finish(args.data_dir, ADVICE)
    report_same(wavs)

    wav_scp, utt2spk = {}, {}
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    for name, path in wavs.items():
        actor, sentence, emotion, level = NAME.fullmatch(name).groups()
        utterance = f"{actor}-{name[5:]}"
        wav_scp[utterance] = audio_path(path)
        utt2spk[utterance] = actor
        tables["utt2age"][utterance], tables["utt2gender"][utterance] = people[actor]
        tables["utt2sentence"][utterance] = sentence
        tables["utt2intensity"][utterance] = LEVELS[level]
        tables["utt2fold"][utterance] = fold_of[actor]
        tables["utt2part"][utterance] = (
            "dev" if int(actor) in DEV else "test" if int(actor) in TEST else "train"
        )
        tables["utt2emotion"][utterance] = EMOTIONS[emotion]
        if EMOTIONS[emotion] in FOUR:
            tables["utt2emotion4"][utterance] = EMOTIONS[emotion]
        for table, winner in votes.items():
            if name in winner:
                tables[table][utterance] = winner[name]
    tables["utt2vote4"] = {u: emotion for u, emotion in tables["utt2vote"].items() if emotion in FOUR}
    for number, table in enumerate(("spk2age", "spk2gender")):
        tables[table] = {actor: people[actor][number] for actor in utt2spk.values()}
    partial = ("utt2emotion4", "utt2vote4", *VOTED)
    tables = {table: content for table, content in tables.items() if content}
    write_set(args.data_dir, CORPUS, wav_scp, utt2spk, tables, partial=partial)


def find_wavs(folder: Path, whole: Completeness) -> dict[str, Path]:
    """Return name -> recording, in C order.

    Raises:
        UserError: recordings are missing or empty, or are the text that Git LFS leaves in place of them.
    """
    found: dict[str, Path] = {}
    for name, path in files_by_name(folder, ".wav").items():
        match = NAME.fullmatch(name)
        if not match:
            whole.leave_out(str(path), "its name is not of the form 1001_IEO_HAP_LO.wav")
            continue
        if match["level"] == "X":  # 1040_ITH_SAD_X, in the repository until October 2022
            warn(f"{path} is taken for {name}X")
            name += "X"
        if name in found:
            raise UserError(f"{folder} holds {name} twice; remove {path.relative_to(folder)}")
        found[name] = path
    pointers = [str(path) for path in found.values() if is_pointer(path)]
    if pointers:
        raise UserError(
            f"{len(pointers):,} of {len(found):,} recordings in {folder} are pointers of Git LFS, text in "
            f"place of audio: {named(pointers)}. In a clone: git lfs pull --include 'AudioWAV/*'. A ZIP file "
            f"from GitHub never has the audio. {ADVICE}"
        )
    check_audio({name: str(path) for name, path in found.items()}, CORPUS)
    return found


def is_pointer(path: Path) -> bool:
    """Whether a file is the text that Git LFS leaves in place of its content."""
    with open(path, "rb") as stream:
        return stream.read(len(POINTER)) == POINTER


def read_demographics(path: Path) -> dict[str, tuple[str, str]]:
    """Return actor -> (age in years, m or f).

    Raises:
        UserError: the file, a column or an actor is missing, or a value is none.
    """
    people: dict[str, tuple[str, str]] = {}
    for row in read_records(path, ("ActorID", "Age", "Sex")):
        gender = {"male": "m", "female": "f"}.get(row["sex"].lower())
        if not gender or not row["age"].isdigit():
            raise UserError(
                f"{path}: actor {row['actorid']} has the age '{row['age']}' and the sex '{row['sex']}', "
                "expected whole years, and Male or Female"
            )
        people[row["actorid"]] = (row["age"], gender)
    if lost := [actor for actor in ACTORS if actor not in people]:
        raise UserError(f"{path}: no line for actor {named(lost)}; get the file again from {REPOSITORY}")
    return people


def deal(people: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Return actor -> fold: the men in order, then the women, dealt like cards, so that folds have as many
    actors of each sex as can be.
    """
    order = sorted(ACTORS, key=lambda actor: (people[actor][1] != "m", actor))
    return {actor: f"fold{position % FOLDS + 1}" for position, actor in enumerate(order)}


def read_votes(path: Path, there: set[str], whole: Completeness) -> dict[str, dict[str, str]]:
    """Return label map -> name -> the emotion with most votes, ties omitted.

    Raises:
        UserError: a column is missing, or a vote is for no emotion.
    """
    if not path.is_file():
        whole.lacks(f"no file {path}, which has the votes of the listeners")
        return {}
    rows = read_records(path, ("FileName", *VOTED.values()))
    for name in sorted({row["filename"] for row in rows} - there):
        whole.leave_out(name, f"it is in {path.name} but has no recording")
    votes: dict[str, dict[str, str]] = {}
    for table, column in VOTED.items():
        winners = votes[table] = {}
        for row in rows:
            letters = row[column.lower()].split(":")
            if unknown := [letter for letter in letters if letter not in VOTES]:
                raise UserError(
                    f"{path}: {row['filename']} has the {column} '{unknown[0]}'; there are {', '.join(VOTES)}"
                )
            if len(letters) == 1:
                winners[row["filename"]] = VOTES[letters[0]]
        log(f"{column}: {len(rows) - len(winners):,} of {len(rows):,} utterances are ties, without a label")
        whole.expect(
            column, Counter(winners.values()), dict(zip(EMOTIONS.values(), OF_VOTE[table], strict=True))
        )
    return votes


def report_same(wavs: dict[str, Path]) -> None:
    """Name the files that are one recording under two emotions."""
    for one, other in SAME_RECORDING:
        if one in wavs and other in wavs and filecmp.cmp(wavs[one], wavs[other], shallow=False):
            warn(f"{one} and {other} are the same recording under two emotions; both are kept")


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
