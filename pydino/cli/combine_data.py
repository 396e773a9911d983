"""Combine Kaldi data directories into one: combine_data.sh [options] DESTINATION SOURCE ...

A file that some sources lack is left out, with a line that says so. An utterance in two sources is an error.
"""

from pydino.base import log, warn
from pydino.cli._arguments import option
from pydino.kaldi import combine
from pydino.kaldi.data_dir import named


def add_arguments(parser):
    parser.add_argument("destination", metavar="DESTINATION", help="data directory to be written")
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help="data directories")
    option(parser, "--skip-fix", False, "keep what is not in every file")


def run(args):
    kept, dropped = combine(args.destination, args.sources, skip_fix=args.skip_fix)
    if dropped:
        warn(f"dropped {len(dropped)} utterances that are not in every file: {named(sorted(dropped))}")
    log(f"combined {len(args.sources)} directories into {args.destination}: {kept} utterances")
