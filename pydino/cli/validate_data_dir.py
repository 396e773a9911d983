"""Check a Kaldi data directory; every error is named, exit status 1 if there is one.

"no" means that the file is not required; it is still checked where it is there.
"""

import sys

from pydino.kaldi import validate

_PROGRAM = "validate_data_dir.sh"
_MAX_SHOWN = 50


def add_arguments(parser):
    parser.add_argument("data", metavar="DATA", help="data directory")
    for name, text in {
        "no-feats": "feats.scp need not be there",
        "no-text": "text need not be there",
        "no-wav": "wav.scp need not be there",
        "no-spk-sort": "utt2spk need not be sorted by speaker",
        "non-print": "text may hold characters that cannot be printed",
        "deep": "also open the heads of recordings and archives: rates, channels, lengths",
    }.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)


def run(args):
    errors = validate(
        args.data,
        feats=not args.no_feats,
        text=not args.no_text,
        wav=not args.no_wav,
        spk_sort=not args.no_spk_sort,
        deep=args.deep,
        non_print=args.non_print,
    )
    for error in errors[:_MAX_SHOWN]:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
    if len(errors) > _MAX_SHOWN:
        print(f"{_PROGRAM}: and {len(errors) - _MAX_SHOWN} more", file=sys.stderr)
    if errors:
        print(f"{_PROGRAM}: {args.data} is not a valid data directory: {len(errors)} errors", file=sys.stderr)
        return 1
    print(f"{_PROGRAM}: Successfully validated data-directory {args.data}", file=sys.stderr)
    return 0
