"""Repair a Kaldi data directory in place: sort its files and keep the utterances that every file knows.

The files it changes are kept in DATA/.backup. A key with two different values is an error: which is right,
you decide.
"""

import sys

from pydino.kaldi.fix import describe, fix


def add_arguments(parser):
    parser.add_argument("data", metavar="DATA", help="data directory")
    parser.add_argument(
        "--utt-extra-files",
        default="",
        metavar="'F ...'",
        help="label maps of utterances that every utterance must be in",
    )
    parser.add_argument(
        "--spk-extra-files",
        default="",
        metavar="'F ...'",
        help="label maps of speakers that every speaker must be in",
    )


def run(args):
    report = fix(args.data, args.utt_extra_files.split(), args.spk_extra_files.split())
    for line in describe(report, args.data):
        print(f"fix_data_dir.sh: {line}", file=sys.stderr)
