"""Turn utt2spk into spk2utt, both in order of appearance: utt2spk_to_spk2utt [UTT2SPK] > SPK2UTT (standard
input by default).
"""

import sys

from pydino.base import UserError


def add_arguments(parser):
    parser.add_argument(
        "utt2spk", metavar="UTT2SPK", nargs="?", default="-", help="file, - for standard input"
    )


def run(args):
    members: dict[str, list[str]] = {}
    for number, line in enumerate(read_lines(args.utt2spk), 1):
        fields = line.split()
        if len(fields) != 2:
            raise UserError(
                f"{args.utt2spk}, line {number}: expected <utterance-id> <speaker-id>, got '{line.strip()}'"
            )
        members.setdefault(fields[1], []).append(fields[0])
    sys.stdout.writelines(f"{speaker} {' '.join(utterances)}\n" for speaker, utterances in members.items())


def read_lines(name: str) -> list[str]:
    """Return the lines of a file, or of standard input if it is called ``-``."""
    try:
        if name == "-":
            return sys.stdin.readlines()
        with open(name, encoding="utf-8") as stream:
            return stream.readlines()
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from error
