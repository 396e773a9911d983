"""Turn utt2spk into spk2utt, both in order of appearance: utt2spk_to_spk2utt [UTT2SPK] > SPK2UTT (standard
input by default).
"""

import sys

from pydino.base import UserError, decode, read_lines, split_fields


def add_arguments(parser):
    text = "file, - for standard input"
    parser.add_argument("utt2spk", metavar="UTT2SPK", nargs="?", default="-", help=text)


def run(args):
    members: dict[str, list[str]] = {}
    for number, line in enumerate(lines_of(args.utt2spk), 1):
        fields = split_fields(line)
        if len(fields) != 2:
            raise UserError(
                f"{args.utt2spk}, line {number}: expected <utterance-id> <speaker-id>, got '{line.strip()}'"
            )
        members.setdefault(fields[1], []).append(fields[0])
    sys.stdout.writelines(f"{speaker} {' '.join(utterances)}\n" for speaker, utterances in members.items())


def lines_of(name: str) -> list[str]:
    """Return the lines of a file, or of standard input if it is called ``-``."""
    if name != "-":
        return read_lines(name)
    text = decode(sys.stdin.buffer.read(), "standard input")
    return text.removesuffix("\n").split("\n") if text else []
