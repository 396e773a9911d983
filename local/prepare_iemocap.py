#!/usr/bin/env python3
"""Prepare IEMOCAP: ten actors in five sessions of two, scripted and improvised dialogs in English, emotions
judged by listeners.

Usage: local/prepare_iemocap.py [options] CORPUS_ROOT DATA_DIR
 e.g.: local/prepare_iemocap.py /corpora/IEMOCAP_full_release data

https://sail.usc.edu/iemocap/, on request for research; Busso et al., Language Resources and Evaluation 2008.
10,039 utterances, 12 hours, 16 kHz.

    CORPUS_ROOT/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav
    CORPUS_ROOT/Session1/dialog/EmoEvaluation/Ses01F_impro01.txt      lines such as
        [6.2901 - 8.2357]<TAB>Ses01F_impro01_F000<TAB>neu<TAB>[2.5000, 2.5000, 2.5000]

    DATA_DIR/iemocap/      wav.scp utt2spk spk2utt spk2gender utt2gender utt2recording utt2fold utt2style
        utt2scenario utt2emotion utt2emotion4 utt2emotion5 utt2emotion6 utt2valence utt2activation
        utt2dominance

The letter before the turn's number is the speaker, M in Ses01F_impro01_M000. The one after the session is the
actor who wears the markers of motion capture in that dialog; both actors speak in all dialogs. Utterances are
called Ses01M-Ses01F_impro01_M000. Folds are the sessions, which share no speaker.

utt2emotion has the corpus's majority label of every utterance, no-majority where the listeners did not agree.
utt2emotion4 has anger, happiness (excitement among it), neutral and sadness; utt2emotion5 frustration too;
utt2emotion6 excitement apart from happiness. These omit the other utterances. Valence, activation and
dominance are the listeners' means, from 1 to 5.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path

from local.common import audio_path, check_audio, corpus_root, main, write_set
from local.completeness import Completeness, add_partial_argument
from local.walk import files_by_name
from pydino.base import UserError, read_lines

CORPUS = "iemocap"
SESSIONS = range(1, 6)
TURN = re.compile(
    r"(?P<dialog>Ses0(?P<session>[1-5])[FM]_(?P<scenario>(?P<style>impro|script)\w+?))_(?P<speaker>[FM])[^\W_]+"
)
SUMMARY = re.compile(r"\[[\d.]+ - [\d.]+\]\s+(?P<turn>\w+)\s+(?P<code>\w+)\s+\[(?P<ratings>[\d., ]+)\]\s*")
EMOTIONS = {
    "ang": "anger",
    "hap": "happiness",
    "exc": "excitement",
    "sad": "sadness",
    "neu": "neutral",
    "fru": "frustration",
    "fea": "fear",
    "sur": "surprise",
    "dis": "disgust",
    "oth": "other",
    "xxx": "no-majority",
}
FOUR = {code: EMOTIONS[code] for code in ("ang", "hap", "neu", "sad")} | {"exc": "happiness"}
LABELS = {
    "utt2emotion": EMOTIONS,
    "utt2emotion4": FOUR,
    "utt2emotion5": FOUR | {"fru": "frustration"},
    "utt2emotion6": {code: EMOTIONS[code] for code in ("ang", "hap", "exc", "neu", "sad", "fru")},
}
RATINGS = ("utt2valence", "utt2activation", "utt2dominance")  # in the order of the files
STYLES = {"impro": "improvised", "script": "scripted"}
# What the whole corpus has: of each emotion, of each style, and of each speaker in the order of COUNTED.
OF_EMOTION = {
    "neutral": 1708,
    "anger": 1103,
    "sadness": 1084,
    "happiness": 595,
    "excitement": 1041,
    "frustration": 1849,
    "surprise": 107,
    "fear": 40,
    "other": 3,
    "disgust": 2,
    "no-majority": 2507,
}
OF_STYLE = {"improvised": 4784, "scripted": 5255}
OF_GENDER = {"m": 5098, "f": 4941}
COUNTED = ("anger", "happiness", "excitement", "neutral", "sadness")
OF_SPEAKER = {
    "Ses01F": (147, 69, 63, 171, 78),
    "Ses01M": (82, 66, 80, 213, 116),
    "Ses02F": (67, 70, 96, 135, 113),
    "Ses02M": (70, 47, 114, 227, 84),
    "Ses03F": (92, 80, 48, 130, 172),
    "Ses03M": (148, 55, 103, 190, 133),
    "Ses04F": (205, 31, 154, 76, 62),
    "Ses04M": (122, 34, 84, 182, 81),
    "Ses05F": (78, 77, 82, 221, 132),
    "Ses05M": (92, 66, 217, 163, 113),
}
ADVICE = (
    "Request it at https://sail.usc.edu/iemocap/ and give the folder that holds Session1 to Session5, as "
    "unpacked from IEMOCAP_full_release.tar.gz."
)


def add_arguments(parser) -> None:
    """Declare the command line."""
    add_partial_argument(parser)
    parser.add_argument("corpus_root", metavar="CORPUS_ROOT")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write the one data directory."""
    folders = tuple(f"Session{session}" for session in SESSIONS)
    root = corpus_root(args.corpus_root, "IEMOCAP_full_release", folders, ADVICE)
    whole = Completeness(CORPUS, args.partial)
    wavs: dict[str, Path] = {}
    turns: dict[str, tuple[str, list[str]]] = {}
    for folder in folders:
        wavs |= find_wavs(root / folder / "sentences" / "wav", whole)
        turns |= read_evaluations(root / folder / "dialog" / "EmoEvaluation", whole)
    for turn in sorted(turns.keys() - wavs.keys()):
        whole.leave_out(turn, "it has labels but no recording")
    for turn in sorted(wavs.keys() - turns.keys()):
        whole.leave_out(turn, "it has a recording but no labels")

    wav_scp, utt2spk = {}, {}
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    for turn in sorted(turns.keys() & wavs.keys()):
        parts, (code, ratings) = TURN.fullmatch(turn), turns[turn]
        speaker = f"Ses0{parts['session']}{parts['speaker']}"
        utterance = f"{speaker}-{turn}"
        wav_scp[utterance] = audio_path(wavs[turn])
        utt2spk[utterance] = speaker
        tables["utt2gender"][utterance] = parts["speaker"].lower()
        tables["utt2recording"][utterance] = parts["dialog"]
        tables["utt2fold"][utterance] = f"session{parts['session']}"
        tables["utt2style"][utterance] = STYLES[parts["style"]]
        tables["utt2scenario"][utterance] = parts["scenario"]
        for name, classes in LABELS.items():
            if code in classes:
                tables[name][utterance] = classes[code]
        for name, rating in zip(RATINGS, ratings, strict=True):
            tables[name][utterance] = rating
    count(whole, utt2spk, tables)
    whole.finish(args.data_dir, ADVICE)
    check_audio(wav_scp, CORPUS)
    tables["spk2gender"] = {speaker: speaker[-1].lower() for speaker in utt2spk.values()}
    partial = [name for name in LABELS if name != "utt2emotion"]
    write_set(args.data_dir, CORPUS, wav_scp, utt2spk, tables, partial=partial)


def find_wavs(folder: Path, whole: Completeness) -> dict[str, Path]:
    """Return turn -> recording of one session.

    Raises:
        UserError: a recording is there twice.
    """
    if not folder.is_dir():
        whole.lacks(f"no folder {folder}")
        return {}
    found = {}
    for name, path in files_by_name(folder, ".wav").items():
        if TURN.fullmatch(name):
            found[name] = path
        else:
            whole.leave_out(str(path), "its name is not of the form Ses01F_impro01_M000.wav")
    return found


def read_evaluations(folder: Path, whole: Completeness) -> dict[str, tuple[str, list[str]]]:
    """Return turn -> (code of the emotion, valence, activation and dominance) of one session.

    Only the files of the folder itself are read: those of the folders in it, Categorical, Attribute and
    Self-evaluation, have the same names and hold the answers of single listeners. So do the lines that do not
    begin with a bracket.

    Raises:
        UserError: a line of another form, an unknown code, or a turn that is there twice.
    """
    if not folder.is_dir():
        whole.lacks(f"no folder {folder}, which has the labels")
        return {}
    found: dict[str, tuple[str, list[str]]] = {}
    for path in sorted(folder.glob("Ses*.txt")):
        for number, line in enumerate(read_lines(path, latin1=True), 1):
            if not line.startswith("["):
                continue
            match = SUMMARY.fullmatch(line)
            ratings = [text.strip() for text in match["ratings"].split(",")] if match else []
            if not match or len(ratings) != len(RATINGS) or not TURN.fullmatch(match["turn"]):
                raise UserError(
                    f"{path}, line {number}: expected '[START - END]<TAB>Ses01F_impro01_F000<TAB>neu<TAB>"
                    f"[V, A, D]', got '{line}'"
                )
            turn, code = match["turn"], match["code"]
            if code not in EMOTIONS:
                raise UserError(
                    f"{path}, line {number}: no emotion has the code '{code}'; there are "
                    f"{', '.join(EMOTIONS)}"
                )
            if turn in found:
                raise UserError(f"{path}, line {number}: {turn} has labels already; remove one of its lines")
            found[turn] = (code, ratings)
    return found


def count(whole: Completeness, utt2spk: dict[str, str], tables: dict[str, dict[str, str]]) -> None:
    """Compare the utterances with what the corpus has when whole."""
    emotion = tables["utt2emotion"]
    whole.expect("emotion", Counter(emotion.values()), OF_EMOTION)
    whole.expect("style", Counter(tables["utt2style"].values()), OF_STYLE)
    whole.expect("gender", Counter(tables["utt2gender"].values()), OF_GENDER)
    whole.expect(
        "speaker and emotion",
        Counter(f"{utt2spk[u]} {label}" for u, label in emotion.items() if label in COUNTED),
        {
            f"{speaker} {label}": number
            for speaker, numbers in OF_SPEAKER.items()
            for label, number in zip(COUNTED, numbers, strict=True)
        },
    )


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
