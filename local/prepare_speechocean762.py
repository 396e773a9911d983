#!/usr/bin/env python3
"""Prepare speechocean762: non-native English read into phones by 250 Mandarin speakers, half of them
children.

Usage: local/prepare_speechocean762.py [options] CORPUS_ROOT DATA_DIR
 e.g.: local/prepare_speechocean762.py downloads/speechocean762 data

OpenSLR 101, https://www.openslr.org/101/, free for commercial and non-commercial use, 0.5 GB; Zhang et al.
2021, arXiv 2104.01378. The whole corpus has 2,500 + 2,500 utterances of 125 + 125 speakers, 16 kHz, 6 hours.
A part, or a FLAC copy, works too: the recordings in the corpus's own tables are prepared.

    CORPUS_ROOT/WAVE/SPEAKER0001/000010011.WAV
    CORPUS_ROOT/{train,test}/wav.scp       000010011<TAB>WAVE/SPEAKER0001/000010011.WAV
    CORPUS_ROOT/{train,test}/utt2spk       000010011<TAB>0001
    CORPUS_ROOT/{train,test}/spk2age       0001<TAB>6
    CORPUS_ROOT/{train,test}/spk2gender    0001<TAB>m

    DATA_DIR/{train,test}/                 wav.scp utt2spk spk2utt spk2gender spk2age utt2gender utt2age
    utt2child; test: trials

Utterances are renamed to begin with their speaker, 0001-000010011, as is usual in Kaldi. According to the
corpus half of the speakers are children, but its tables only give ages. There is a gap between pupils (up to
15) and adults (from 19): utt2child is child below 18.
"""

import os
from pathlib import Path

from local.common import add_trial_arguments, audio_path, check_audio, corpus_root, main, write_set
from pydino.base import UserError, log
from pydino.kaldi import read_table

CORPUS = "speechocean762"
SETS = ("train", "test")
UTTERANCES = 2500  # of each set, when whole
ADULT = 18  # years
ADVICE = (
    "Get it with --download true, or from https://www.openslr.org/101/, and give the folder that holds "
    "WAVE, train and test."
)


def add_arguments(parser) -> None:
    """Declare the command line."""
    add_trial_arguments(parser)
    parser.add_argument("corpus_root", metavar="CORPUS_ROOT")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write the two data directories."""
    root = corpus_root(args.corpus_root, CORPUS, ("WAVE",), ADVICE)
    seen: dict[str, str] = {}
    for name in SETS:
        if not (root / name).is_dir():
            raise UserError(f"{root} has no folder '{name}'. {ADVICE}")
        wav_scp, utt2spk, labels = read_set(root, name)
        for speaker in set(utt2spk.values()):
            if seen.setdefault(speaker, name) != name:
                raise UserError(
                    f"{root}: speaker {speaker} is in both {' and '.join(SETS)}; the test speakers must "
                    "be unseen in training"
                )
        if len(wav_scp) != UTTERANCES:
            log(f"{name}: {len(wav_scp):,} utterances of the corpus's {UTTERANCES:,}: a part")
        check_audio(wav_scp, CORPUS)
        write_set(
            args.data_dir,
            name,
            wav_scp,
            utt2spk,
            labels,
            max_trials=args.max_trials if name == "test" else None,
            seed=args.seed,
        )


def read_set(root: Path, name: str):
    """Read one set's tables; return wav_scp, utt2spk and the label maps, under Kaldi's utterance names.

    Raises:
        UserError: a table is missing or malformed, or an utterance has no speaker.
    """
    path_of, speaker_of, age_of, gender_of = (
        read_table(root / name / table, check_sorted=False)
        for table in ("wav.scp", "utt2spk", "spk2age", "spk2gender")
    )
    lost = sorted(utterance for utterance in path_of if not speaker_of.get(utterance))
    if lost:
        raise UserError(
            f"{root / name / 'utt2spk'}: no speaker for utterance {lost[0]} of wav.scp ({len(lost):,} such)"
        )
    for speaker, age in age_of.items():
        if not age.isdigit():
            raise UserError(
                f"{root / name / 'spk2age'}: the age of {speaker} is '{age}', expected whole years"
            )
    for speaker, gender in gender_of.items():
        if gender not in ("m", "f"):
            raise UserError(
                f"{root / name / 'spk2gender'}: the gender of {speaker} is '{gender}', expected m or f"
            )
    utt2spk = {f"{speaker_of[utterance]}-{utterance}": speaker_of[utterance] for utterance in path_of}
    wav_scp = {
        f"{speaker_of[u]}-{u}": audio_path(Path(os.path.join(root, path))) for u, path in path_of.items()
    }
    speakers = set(utt2spk.values())
    spk2age = {speaker: age for speaker, age in age_of.items() if speaker in speakers}
    spk2gender = {speaker: gender for speaker, gender in gender_of.items() if speaker in speakers}
    lost = sorted(speakers - set(spk2age) | speakers - set(spk2gender))
    if lost:
        raise UserError(f"{root / name}: speaker {lost[0]} has no age or no gender ({len(lost):,} such)")
    utt2age = {utterance: spk2age[speaker] for utterance, speaker in utt2spk.items()}
    return (
        wav_scp,
        utt2spk,
        {
            "spk2gender": spk2gender,
            "spk2age": spk2age,
            "utt2age": utt2age,
            "utt2gender": {utterance: spk2gender[speaker] for utterance, speaker in utt2spk.items()},
            "utt2child": {
                utterance: "child" if int(age) < ADULT else "adult" for utterance, age in utt2age.items()
            },
        },
    )


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
