"""Repair a Kaldi data directory in place: sort its files and keep the utterances that every file knows.

The files it changes are kept in DATA/.backup. A key with two different values is an error: which is right,
you decide.
"""

import sys

from pydino.base import Lock, lock_path
from pydino.cli._arguments import option
from pydino.kaldi.fix import describe, fix


def add_arguments(parser):
    parser.add_argument("data", metavar="DATA", help="data directory")
    for unit, name in (("utt", "utterance"), ("spk", "speaker")):
        text = f"label maps of {name}s that every {name} must be in"
        option(parser, f"--{unit}-extra-files", "", text, metavar="'F ...'")


def run(args):
    with Lock(lock_path(args.data)).wait(args.data):
        report = fix(args.data, args.utt_extra_files.split(), args.spk_extra_files.split())
    for line in describe(report, args.data):
        print(f"fix_data_dir.sh: {line}", file=sys.stderr)
