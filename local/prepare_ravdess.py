#!/usr/bin/env python3
"""Prepare the speech of RAVDESS: 24 actors say two English sentences in eight emotions.

Usage: local/prepare_ravdess.py [options] CORPUS_ROOT DATA_DIR
 e.g.: local/prepare_ravdess.py downloads/ravdess data

https://zenodo.org/records/1188976, CC BY-NC-SA 4.0, 0.2 GB; Livingstone and Russo, PLOS ONE 2018. 1,440
utterances, 1.5 hours, 48 kHz, a few of them stereo. The labels are in the file names: modality, channel,
emotion, intensity, statement, repetition, actor.

    CORPUS_ROOT/Actor_01/03-01-05-02-01-01-01.wav

    DATA_DIR/ravdess/      wav.scp utt2spk spk2utt spk2gender utt2gender utt2fold utt2sentence utt2intensity
        utt2emotion

Files are found in any folder, and those of one name count once: a widespread copy holds everything twice.
Song and video are left out. Utterances are called 01-05-02-01-01: actor, emotion, intensity, statement,
repetition. utt2fold has the six folds of four actors of EmoBox, https://github.com/emo-box/EmoBox.
"""

import filecmp
import os
import re
from collections import Counter, defaultdict
from pathlib import Path

from local.common import audio_path, check_audio, corpus_folder, main, write_set
from local.completeness import Completeness, add_partial_argument
from local.walk import list_files, with_extension
from pydino.base import UserError, log

CORPUS = "ravdess"
NAME = re.compile(r"(\d\d)-(\d\d)-(0[1-8])-(0[12])-(0[12])-(0[12])-([01]\d|2[0-4])")
AUDIO, SPEECH = "03", "01"
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
INTENSITIES = {"01": "normal", "02": "strong"}
SENTENCES = {"01": "kids", "02": "dogs"}
FOLDS = ("01 11 20 21", "04 10 12 14", "08 09 19 23", "03 05 07 24", "02 15 16 18", "06 13 17 22")
# What the whole corpus has.
OF_EMOTION = {emotion: 96 if emotion == "neutral" else 192 for emotion in EMOTIONS.values()}
OF_ACTOR = {f"{actor:02d}": 60 for actor in range(1, 25)}
ADVICE = (
    "Get it with --download true, or Audio_Speech_Actors_01-24.zip from https://zenodo.org/records/1188976, "
    "and give the folder that holds Actor_01 to Actor_24."
)


def add_arguments(parser) -> None:
    """Declare the command line."""
    add_partial_argument(parser)
    parser.add_argument("corpus_root", metavar="CORPUS_ROOT")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write the one data directory."""
    root = corpus_folder(args.corpus_root, CORPUS, ADVICE)
    whole = Completeness(CORPUS, args.partial)
    wavs = find_wavs(root, whole)
    if not wavs:
        raise UserError(
            f"{root} does not look like {CORPUS}: no folder of it holds a file of a name such as "
            f"03-01-05-02-01-01-01.wav. {ADVICE}"
        )
    fold_of = {actor: f"fold{k}" for k, actors in enumerate(FOLDS, 1) for actor in actors.split()}
    wav_scp, utt2spk = {}, {}
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    for name, path in wavs.items():
        _, _, emotion, intensity, sentence, repetition, actor = NAME.fullmatch(name).groups()
        utterance = "-".join((actor, emotion, intensity, sentence, repetition))
        wav_scp[utterance] = audio_path(path)
        utt2spk[utterance] = actor
        tables["utt2gender"][utterance] = gender_of(actor)
        tables["utt2fold"][utterance] = fold_of[actor]
        tables["utt2sentence"][utterance] = SENTENCES[sentence]
        tables["utt2intensity"][utterance] = INTENSITIES[intensity]
        tables["utt2emotion"][utterance] = EMOTIONS[emotion]
    whole.expect("emotion", Counter(tables["utt2emotion"].values()), OF_EMOTION)
    whole.expect("actor", Counter(utt2spk.values()), OF_ACTOR)
    whole.finish(args.data_dir, ADVICE)
    check_audio(wav_scp, CORPUS)
    tables["spk2gender"] = {actor: gender_of(actor) for actor in utt2spk.values()}
    write_set(args.data_dir, CORPUS, wav_scp, utt2spk, tables)


def gender_of(actor: str) -> str:
    """Return m or f: odd numbers are men."""
    return "m" if int(actor) % 2 else "f"


def find_wavs(root: Path, whole: Completeness) -> dict[str, Path]:
    """Return name -> recording of the speech.

    Raises:
        UserError: two files of one name differ.
    """
    found: dict[str, Path] = {}
    copies = 0
    for file in with_extension(list_files(root), ".wav"):
        name = os.path.splitext(os.path.basename(file))[0]
        match = NAME.fullmatch(name)
        if not match or match[7] not in OF_ACTOR:
            whole.leave_out(file, "its name is not of the form 03-01-05-02-01-01-01.wav")
        elif match[1] != AUDIO or match[2] != SPEECH:
            whole.leave_out(file, "it is a song or belongs to a video")
        elif name not in found:
            found[name] = root / file
        elif filecmp.cmp(found[name], root / file, shallow=False):
            copies += 1
        else:
            raise UserError(f"{found[name]} and {root / file} have one name but differ; remove one of them")
    if copies:
        log(f"{CORPUS}: {copies:,} files are there twice and count once")
    return found


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
