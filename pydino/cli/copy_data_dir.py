"""Copy a Kaldi data directory, optionally with affixes for the names of utterances and speakers; then
check the copy.

Recordings keep their names where there are segments. Where utterances get other names, utt2uniq has
the former ones.
"""

import shlex
from pathlib import Path

from pydino.base import UserError, log
from pydino.cli import parser_of, validate_data_dir
from pydino.cli._arguments import option
from pydino.kaldi import copy

AFFIXES = ("utt-prefix", "utt-suffix", "spk-prefix", "spk-suffix")


def add_arguments(parser):
    parser.add_argument("source", metavar="SOURCE", help="data directory")
    parser.add_argument("destination", metavar="DESTINATION", help="data directory to be written")
    for name in AFFIXES:
        unit, affix = name.split("-")
        option(parser, f"--{name}", "", f"{affix} of the new {unit} ids (default: none)", metavar="TEXT")
    text = "options of validate_data_dir.sh for the copy"
    option(parser, "--validate-opts", "", text, metavar="'OPTION ...'")


def run(args):
    try:
        given = shlex.split(args.validate_opts)
    except ValueError as error:
        raise UserError(f"--validate-opts {args.validate_opts}: {error}") from None
    affixes = [getattr(args, name.replace("-", "_")) for name in AFFIXES]
    count = copy(args.source, args.destination, *affixes)
    log(f"copied {count} utterances from {args.source} to {args.destination}")
    optional = {"feats": "feats.scp", "text": "text", "wav": "wav.scp"}
    missing = [name for name, file in optional.items() if not (Path(args.destination) / file).exists()]
    options = [f"--no-{name}" for name in missing] + given
    return validate_data_dir.run(
        parser_of("validate-data-dir", validate_data_dir).parse_args([*options, args.destination])
    )
