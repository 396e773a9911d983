#!/usr/bin/env python3
"""List the noises, music and speech of MUSAN, for augmentation in training on audio (babble is mixed from the
speech).

Usage: local/prepare_musan.py MUSAN_ROOT OUT_DIR
 e.g.: local/prepare_musan.py downloads/musan data/musan

OpenSLR 17, https://www.openslr.org/17/, 11 GB; Snyder, Chen and Povey 2015, arXiv 1510.08484. 16 kHz, 109
hours: 930 noises, 660 pieces of music, 426 recordings of speech. A part works too: all existing recordings
    are listed.

    MUSAN_ROOT/noise/free-sound/noise-free-sound-0000.wav
    MUSAN_ROOT/music/fma/music-fma-0000.wav
    MUSAN_ROOT/speech/librivox/speech-librivox-0000.wav

    OUT_DIR/{noise,music,speech}.scp       as Kaldi's wav.scp: name, path
"""

from local.common import audio_path, corpus_root, main, write_list
from local.walk import files_by_name
from pydino.base import UserError, log

CORPUS = "musan"
RECORDINGS = {"noise": 930, "music": 660, "speech": 426}
ADVICE = (
    "Get it with local/download.py musan MUSAN_ROOT, or from https://www.openslr.org/17/, and give the "
    "folder that holds noise/."
)


def add_arguments(parser) -> None:
    """Declare the command line."""
    parser.add_argument("musan_root", metavar="MUSAN_ROOT")
    parser.add_argument("out_dir", metavar="OUT_DIR")


def prepare(args) -> None:
    """Write the three lists."""
    root = corpus_root(args.musan_root, CORPUS, tuple(RECORDINGS), ADVICE)
    for kind, whole in RECORDINGS.items():
        folder = root / kind
        files = files_by_name(folder, ".wav") if folder.is_dir() else {}
        found = {name: audio_path(path) for name, path in files.items()}
        if not found:
            raise UserError(f"no .wav recording in {folder}; unpack the corpus again. {ADVICE}")
        if len(found) != whole:
            log(f"{kind}: {len(found):,} recordings of the corpus's {whole:,}: a part")
        write_list(args.out_dir, kind, found, CORPUS)


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare, makes=["out_dir"])
