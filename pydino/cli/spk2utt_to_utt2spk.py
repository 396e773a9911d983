"""Turn spk2utt into utt2spk, both in order of appearance: spk2utt_to_utt2spk [SPK2UTT] > UTT2SPK (standard
input by default).
"""

import sys

from pydino.base import UserError

from .utt2spk_to_spk2utt import read_lines


def add_arguments(parser):
    parser.add_argument(
        "spk2utt", metavar="SPK2UTT", nargs="?", default="-", help="file, - for standard input"
    )


def run(args):
    for number, line in enumerate(read_lines(args.spk2utt), 1):
        speaker, *utterances = line.split() or [""]
        if not utterances:
            raise UserError(
                f"{args.spk2utt}, line {number}: expected <speaker-id> <utterance-id> ..., got "
                f"'{line.strip()}'"
            )
        sys.stdout.writelines(f"{utterance} {speaker}\n" for utterance in utterances)
