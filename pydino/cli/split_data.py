"""Split a Kaldi data directory into parts for parallel jobs, DATA/split<N>/1 ... <N>; print the folder of the
parts.

Speakers stay whole. With --per-utt, or where there are fewer speakers than parts, the split is by utterance
and its folder is DATA/split<N>utt. A split that was made from the same text is left as it is.
"""

from pydino.kaldi import split


def add_arguments(parser):
    parser.add_argument("data", metavar="DATA", help="data directory")
    parser.add_argument("parts", metavar="N", type=int, help="number of parts")
    parser.add_argument("--per-utt", action="store_true", help="split by utterance, speakers may be divided")


def run(args):
    print(split(args.data, args.parts, per_utterance=args.per_utt))
