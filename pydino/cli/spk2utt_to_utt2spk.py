"""Turn spk2utt into utt2spk, both in order of appearance: spk2utt_to_utt2spk [SPK2UTT] > UTT2SPK (standard
input by default).
"""

import sys

from pydino.base import UserError, split_fields

from .utt2spk_to_spk2utt import lines_of


def add_arguments(parser):
    text = "file, - for standard input"
    parser.add_argument("spk2utt", metavar="SPK2UTT", nargs="?", default="-", help=text)


def run(args):
    for number, line in enumerate(lines_of(args.spk2utt), 1):
        speaker, *utterances = split_fields(line) or [""]
        if not utterances:
            raise UserError(
                f"{args.spk2utt}, line {number}: expected <speaker-id> <utterance-id> ..., got "
                f"'{line.strip()}'"
            )
        sys.stdout.writelines(f"{utterance} {speaker}\n" for utterance in utterances)
