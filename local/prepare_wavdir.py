#!/usr/bin/env python3
"""Prepare a folder of your own recordings, without labels: every file is one utterance of an unknown speaker.

Usage: local/prepare_wavdir.py [options] FOLDER DATA_DIR
 e.g.: local/prepare_wavdir.py "/media/my recordings" data

Files ending in .wav, .flac, .ogg or .mp3 (upper or lower case) are found in the folder and all folders in it.
Links to folders are followed, hidden files and folders are skipped. Names may hold blanks and any letters;
the utterance id is derived from the path in the folder:

    FOLDER/2019/Café visit 1.WAV    ->     2019-Café_visit_1

    DATA_DIR/train/                        wav.scp utt2spk spk2utt; utt2spk maps every utterance to itself
"""

import os
import unicodedata
from pathlib import Path

from local.common import audio_path, main, write_set
from local.walk import list_files, with_extension
from pydino.base import UserError, log, utterance_hash

EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")


def add_arguments(parser) -> None:
    """Declare the command line."""
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write the one data directory."""
    folder = Path(os.path.abspath(args.folder))
    if not folder.is_dir():
        raise UserError(
            f"no folder {folder}; give the folder that holds your recordings ({', '.join(EXTENSIONS)})"
        )
    files = list_files(folder)
    recordings = with_extension(files, *EXTENSIONS)
    others = len(files) - len(recordings)
    if not recordings:
        raise UserError(
            f"no recording in {folder} or the folders in it; expected files ending in "
            f"{', '.join(EXTENSIONS)} (others there: {others:,})"
        )
    if others:
        log(f"{others:,} files in {folder} are not recordings by their extension and are skipped")
    wav_scp = {
        utterance: audio_path(folder / path) for utterance, path in name_utterances(recordings).items()
    }
    write_set(args.data_dir, "train", wav_scp, {utterance: utterance for utterance in wav_scp})


def safe(name: str) -> str:
    """Return a name, in Unicode's form NFC, in which all but letters, digits, ``.``, ``_`` and ``-`` are
    ``_``.
    """
    name = unicodedata.normalize("NFC", name)
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)


def name_utterances(recordings: list[str]) -> dict[str, str]:
    """Return utterance id -> relative path.

    An id keeps letters and digits of any script (in Unicode's form NFC), ``.``, ``_`` and ``-``; folders are
    joined by ``-``, anything else becomes ``_``. Files with the same id (``a.wav`` and ``a.flac``) all get a
    hash of their path as suffix, so that ids do not depend on an order.
    """
    by_id: dict[str, list[str]] = {}
    for path in recordings:
        stem = os.path.splitext(path)[0].replace(os.sep, "-")
        by_id.setdefault(safe(stem), []).append(path)
    named = {}
    for utterance, paths in by_id.items():
        for path in paths:
            suffix = f"-{utterance_hash(os.fsencode(path).hex()):016x}" if len(paths) > 1 else ""
            named[utterance + suffix] = path
    return named


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
