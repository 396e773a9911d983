#!/usr/bin/env python3
"""Prepare VoxCeleb: speech of celebrities in videos; the development part of VoxCeleb2 for training,
VoxCeleb1 for testing.

Usage: local/prepare_voxceleb.py [options] VOXCELEB2_ROOT VOXCELEB1_ROOT DATA_DIR
 e.g.: local/prepare_voxceleb.py /corpora/VoxCeleb2 /corpora/VoxCeleb1 data

https://www.robots.ox.ac.uk/~vgg/data/voxceleb/; Nagrani et al., Interspeech 2017, and Chung et al.,
Interspeech 2018. Whole, the development part of VoxCeleb2 has 1,092,009 utterances of 5,994 speakers (2,360
hours), VoxCeleb1 153,516 of 1,251 (352 hours). A part of VoxCeleb2 works too; of VoxCeleb1 all utterances in
the trial lists are needed.

    VOXCELEB2_ROOT/dev/flac/id00012/21Uxsk56VDQ/00001.flac
        or wav; the .m4a files as published have to be converted first
    VOXCELEB1_ROOT/wav/id10001/1zcIwhmdeo4/00001.wav
        development and test part, together or each in its folder
    VOXCELEB1_ROOT/veri_test2.txt
        here or in meta/, as published; lines such as
        1 id10270/5r0dWxy17C8/00001.wav id10270/GWXujl-xAVM/00017.wav

    DATA_DIR/train/     wav.scp utt2spk spk2utt of VoxCeleb2
    DATA_DIR/test/      the same for the utterances of VoxCeleb1 in the trial lists
    DATA_DIR/test/trials_{O,E,H}

Speakers are found in any folder below the root that holds folders such as id00012; the test part of VoxCeleb2
(folders named test) is omitted. Utterances are called id10270-5r0dWxy17C8-00001.
"""

import os
import re
from pathlib import Path

from local.common import audio_path, check_audio, main, write_set
from local.walk import list_files
from pydino.base import UserError, log, nearest, read_lines, warn, write_text
from pydino.kaldi.data_dir import named

UTTERANCES = 1_092_009  # of VoxCeleb2, development part
LISTS = {
    "cleaned": {
        "O": ("veri_test2.txt", 37_611),
        "E": ("list_test_all2.txt", 579_818),
        "H": ("list_test_hard2.txt", 550_894),
    },
    "original": {
        "O": ("veri_test.txt", 37_720),
        "E": ("list_test_all.txt", 581_480),
        "H": ("list_test_hard.txt", 552_536),
    },
}
EXTENSIONS = ("wav", "flac")  # in order of preference
RECORDING = re.compile(
    r"(?:(?P<folder>.+)/)?(?P<speaker>id\d{5})/(?P<video>[^/]+)/(?P<number>[^/]+)\.(?P<extension>wav|flac|m4a)"
)
# Folders of the test part: test, vox2_test_aac, ...
TEST_PART = re.compile(r"(?:^|[/_])test(?:$|[/_])", re.IGNORECASE)
TRIAL = re.compile(r"([01]) (id\d{5})/([^/ ]+)/(\d+)\.wav (id\d{5})/([^/ ]+)/(\d+)\.wav")
PAGE = "https://www.robots.ox.ac.uk/~vgg/data/voxceleb/"


def add_arguments(parser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--trials",
        default="O E H",
        help="trial lists for testing, separated by blanks or commas (default '%(default)s')",
    )
    parser.add_argument(
        "--lists",
        choices=sorted(LISTS),
        default="cleaned",
        help="cleaned or original lists (default %(default)s)",
    )
    parser.add_argument("voxceleb2_root", metavar="VOXCELEB2_ROOT")
    parser.add_argument("voxceleb1_root", metavar="VOXCELEB1_ROOT")
    parser.add_argument("data_dir", metavar="DATA_DIR")


def prepare(args) -> None:
    """Write train and test."""
    lists = LISTS[args.lists]
    wanted = args.trials.replace(",", " ").split()
    for name in wanted:
        if name not in lists:
            raise UserError(
                f"--trials: there is no list '{name}'{nearest(name, lists)}; there are {', '.join(lists)}"
            )
    if not wanted:
        raise UserError("--trials names no list; there are O, E and H")
    root2, root1 = (
        existing(path, corpus)
        for path, corpus in ((args.voxceleb2_root, "VoxCeleb2"), (args.voxceleb1_root, "VoxCeleb1"))
    )
    trials = {name: read_trials(find_list(root1, lists[name][0]), lists[name][1]) for name in wanted}

    train = find_utterances(root2, "VoxCeleb2")
    if len(train) != UTTERANCES:
        log(f"VoxCeleb2: {len(train):,} utterances of the development part's {UTTERANCES:,}: a part")
    there = find_utterances(root1, "VoxCeleb1")
    tested = sorted({utterance for pairs in trials.values() for pair in pairs for utterance in pair})
    lost = [utterance for utterance in tested if utterance not in there]
    if lost:
        raise UserError(
            f"{root1}: {len(lost):,} of the {len(tested):,} utterances of the lists {', '.join(wanted)} are "
            f"not there: {named(lost)}; "
            "O needs the test part, E and H the development part as well (or omit these with --trials O)"
        )
    test = {utterance: there[utterance] for utterance in tested}
    seen = {speaker_of(utterance) for utterance in train} & {speaker_of(utterance) for utterance in test}
    if seen:
        raise UserError(
            f"speakers are both in train and in test: {named(sorted(seen))}; VOXCELEB2_ROOT comes first, "
            "then VOXCELEB1_ROOT"
        )
    for name, recordings, corpus in (("train", train, "VoxCeleb2"), ("test", test, "VoxCeleb1")):
        wav_scp = {utterance: audio_path(path) for utterance, path in recordings.items()}
        check_audio(wav_scp, corpus)
        write_set(args.data_dir, name, wav_scp, {utterance: speaker_of(utterance) for utterance in wav_scp})
    for name, pairs in trials.items():
        path = Path(args.data_dir) / "test" / f"trials_{name}"
        write_text(path, "".join(f"{left} {right} {kind}\n" for (left, right), kind in pairs.items()))
        log(
            f"wrote {path}: {len(pairs):,} trials, {sum(kind == 'target' for kind in pairs.values()):,} of "
            "them target"
        )


def existing(path: str, corpus: str) -> Path:
    """Return a corpus root as an absolute path.

    Raises:
        UserError: there is no such folder.
    """
    root = Path(os.path.abspath(path))
    if not root.is_dir():
        option = f"--corpus {corpus.lower()}=DIR"
        raise UserError(
            f"{corpus} not found: no folder {root}. Request it at {PAGE} and give the folder with {option}"
        )
    return root


def speaker_of(utterance: str) -> str:
    return utterance.partition("-")[0]


def find_utterances(root: Path, corpus: str) -> dict[str, Path]:
    """Return the recordings of a corpus by utterance.

    Raises:
        UserError: none, or some only as .m4a.
    """
    found: dict[str, tuple[int, str]] = {}
    compressed: dict[str, str] = {}
    for file in list_files(root):
        match = RECORDING.fullmatch(file)
        if not match or (corpus == "VoxCeleb2" and TEST_PART.search(match["folder"] or "")):
            continue
        utterance = f"{match['speaker']}-{match['video']}-{match['number']}"
        if match["extension"] == "m4a":
            compressed[utterance] = match["folder"] or ""
        else:
            candidate = (EXTENSIONS.index(match["extension"]), file)
            found[utterance] = min(found.get(utterance, candidate), candidate)
    only = sorted(compressed.keys() - found.keys())
    if only:
        raise UserError(
            f"{corpus}: {len(only):,} of {len(found) + len(only):,} recordings exist only as .m4a, "
            "which cannot be read here. Convert them, which takes hours and can be resumed, and run this "
            f"again:\n  {conversion(root / compressed[only[0]])}"
        )
    if not found:
        raise UserError(
            f"{root} does not look like {corpus}: no folder of it holds <speaker>/<video>/<number>.wav (or "
            f".flac), with speakers such as id10001. Request it at {PAGE}"
        )
    return {utterance: root / file for utterance, (_, file) in found.items()}


def conversion(folder: Path) -> str:
    """Return the shell command that converts the .m4a files in ``folder`` to FLAC, in a folder beside it, and
    skips those already converted.
    """
    convert = (
        'o="../flac/$1.flac"; [ -s "$o" ] || { mkdir -p "${o%/*}" && ffmpeg -nostdin -v error -y -i '
        '"$1.m4a" -ac 1 -ar 16000 '
        '-sample_fmt s16 -f flac "$o.part" && mv "$o.part" "$o"; }'
    )
    return (
        f"cd '{folder}' && find . -name '*.m4a' | sed 's/\\.m4a$//' | xargs -P \"$(nproc)\" -I@ sh -c "
        f"'{convert}' sh @"
    )


def find_list(root: Path, name: str) -> Path:
    """Return the path of a trial list.

    Raises:
        UserError: neither in the root nor in its folder meta.
    """
    for path in (root / name, root / "meta" / name):
        if path.exists():
            return path
    raise UserError(
        f"no list of trials {root / name}; get it with: curl -o '{root / name}' {PAGE}meta/{name}"
    )


def read_trials(path: Path, whole: int) -> dict[tuple[str, str], str]:
    """Read a list as published; return (utterance, utterance) -> target or nontarget.

    Raises:
        UserError: a line of another form, or one that contradicts another.
    """
    trials: dict[tuple[str, str], str] = {}
    lines = read_lines(path)
    for number, line in enumerate(lines, 1):
        match = TRIAL.fullmatch(line.strip())
        if not match:
            raise UserError(
                f"{path}, line {number}: expected '1 id10270/VIDEO/00001.wav id10270/VIDEO/00017.wav', got "
                f"'{line}'"
            )
        target, *names = match.groups()
        kind = "target" if target == "1" else "nontarget"
        pair = ("-".join(names[:3]), "-".join(names[3:]))
        if trials.setdefault(pair, kind) != kind:
            raise UserError(
                f"{path}, line {number}: '{line}' contradicts a line before it; get the list again"
            )
    if len(lines) != whole:
        log(f"{path}: {len(lines):,} trials of the list's {whole:,}: a part")
    if len(trials) != len(lines):
        warn(f"{path}: {len(lines) - len(trials):,} duplicate trials are counted once")
    return trials


if __name__ == "__main__":
    main(__doc__, add_arguments, prepare)
