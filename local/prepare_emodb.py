#!/usr/bin/env python3
"""Prepare EmoDB, the Berlin Database of Emotional Speech: ten actors, ten German sentences, seven acted
emotions.

Usage: local/prepare_emodb.py [options] CORPUS_ROOT DATA_DIR
 e.g.: local/prepare_emodb.py downloads/emodb data

http://emodb.bilderbar.info/, free for research, 40 MB; Burkhardt et al., Interspeech 2005. 535 utterances, 25
minutes, 16 kHz (copies at other rates exist; the recipe resamples). The labels are in the file names:
speaker 03, text a01, emotion F, version a.

    CORPUS_ROOT/wav/03a01Fa.wav

    DATA_DIR/emodb/                        wav.scp utt2spk spk2utt spk2gender utt2gender utt2emotion
        utt2sentence utt2fold trials

Utterances are renamed to begin with their speaker and a hyphen, 03-a01Fa, as is usual in Kaldi. Each fold of
utt2fold is one speaker. Release 2.0 adds utterances whose emotion less than 80 % of the listeners recognised;
their names end in xx, and they are left out.
"""

import re

from local.common import add_trial_arguments, audio_path, check_audio, corpus_root, main, write_set
from local.walk import by_name, list_files, with_extension
from pydino.base import UserError, log
from pydino.kaldi.data_dir import named

CORPUS = "emodb"
UTTERANCES = 535
NAME = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])")
# Letters of the German words: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral.
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
# From the corpus's page; the file names do not contain it.
GENDER = {
    "03": "m",
    "08": "f",
    "09": "f",
    "10": "m",
    "11": "m",
    "12": "m",
    "13": "f",
    "14": "f",
    "15": "m",
    "16": "f",
}
ADVICE = (
    "Get it with --download true, or from http://emodb.bilderbar.info/download/, and give the folder that "
    "holds wav/."
)


def add_arguments(parser) -> None:
    """Declare the command line."""
    add_trial_arguments(parser)
    parser.add_argument("corpus_root", metavar="CORPUS_ROOT")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write the one data directory."""
    root = corpus_root(args.corpus_root, CORPUS, ("wav",), ADVICE)
    folder = root / "wav"
    files = by_name(with_extension(list_files(folder), ".wav"), folder)
    unclear = {name for name in files if name.endswith("xx") and NAME.fullmatch(name[:-2])}
    if unclear:
        log(f"{len(unclear):,} utterances that release 2.0 adds are left out: {named(sorted(unclear))}")
        files = {name: file for name, file in files.items() if name not in unclear}
    odd = [
        file
        for name, file in files.items()
        if not NAME.fullmatch(name) or name[5] not in EMOTIONS or name[:2] not in GENDER
    ]
    if odd:
        raise UserError(
            f"{folder}: {len(odd):,} names not of the form 03a01Fa.wav (speaker {', '.join(GENDER)}; text; "
            f"emotion {' '.join(EMOTIONS)}; version): {named(odd)}"
        )
    wav_scp, utt2spk, utt2emotion, utt2sentence = {}, {}, {}, {}
    for name, file in files.items():
        speaker, text, letter, version = NAME.fullmatch(name).groups()
        utterance = f"{speaker}-{text}{letter}{version}"
        wav_scp[utterance] = audio_path(folder / file)
        utt2spk[utterance] = speaker
        utt2emotion[utterance] = EMOTIONS[letter]
        utt2sentence[utterance] = text
    if len(wav_scp) != UTTERANCES:
        log(f"{len(wav_scp):,} utterances of the corpus's {UTTERANCES:,}: a part")
    check_audio(wav_scp, CORPUS)
    labels = {
        "spk2gender": {speaker: GENDER[speaker] for speaker in utt2spk.values()},
        "utt2gender": {utterance: GENDER[speaker] for utterance, speaker in utt2spk.items()},
        "utt2emotion": utt2emotion,
        "utt2sentence": utt2sentence,
        "utt2fold": {utterance: f"speaker{speaker}" for utterance, speaker in utt2spk.items()},
    }
    write_set(args.data_dir, CORPUS, wav_scp, utt2spk, labels, max_trials=args.max_trials, seed=args.seed)


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
