"""Write a part of a Kaldi data directory to another directory.

subset_data_dir.sh [--speakers|--shortest|--first|--last|--per-spk] SOURCE N DESTINATION
subset_data_dir.sh --spk-list FILE SOURCE DESTINATION
subset_data_dir.sh --utt-list FILE SOURCE DESTINATION

Without an option the N utterances are evenly spaced: the same at every run.
"""

from pydino.base import UserError, log
from pydino.kaldi import subset


def add_arguments(parser):
    way = parser.add_mutually_exclusive_group()
    for by, text in {
        "speakers": "whole speakers, drawn by a hash of their names, until there are N utterances",
        "shortest": "the N shortest",
        "first": "the first N",
        "last": "the last N",
        "per-spk": "N of each speaker, or as many as there are",
    }.items():
        way.add_argument(f"--{by}", dest="by", action="store_const", const=by, help=text)
    text = "utterances of the speakers that FILE lists in its first field"
    way.add_argument("--spk-list", metavar="FILE", help=text)
    way.add_argument("--utt-list", metavar="FILE", help="utterances that FILE lists in its first field")
    parser.add_argument("places", nargs="+", metavar="SOURCE [N] DESTINATION")


def run(args):
    by_list = args.spk_list is not None or args.utt_list is not None
    if len(args.places) != (2 if by_list else 3):
        expected = "SOURCE DESTINATION" if by_list else "SOURCE N DESTINATION"
        raise UserError(f"expected {expected}, got {len(args.places)} arguments: {' '.join(args.places)}")
    source, destination = args.places[0], args.places[-1]
    count = None
    if not by_list:
        if not args.places[1].isdecimal():
            raise UserError(f"the number of utterances '{args.places[1]}' is not a whole number")
        count = int(args.places[1])
    before, after = subset(
        source,
        destination,
        count=count,
        by=args.by or "spread",
        speakers=args.spk_list,
        utterances=args.utt_list,
    )
    log(f"reducing #utt from {before} to {after}: {destination}")
