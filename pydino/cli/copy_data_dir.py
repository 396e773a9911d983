"""Copy a Kaldi data directory, with affixes for the names of utterances and speakers if wanted; then check
the copy.

Recordings keep their names where there are segments. Where utterances get other names, utt2uniq says what
they were.
"""

import argparse
import shlex
from pathlib import Path

from pydino.base import UserError, log
from pydino.cli import validate_data_dir
from pydino.kaldi import copy


def add_arguments(parser):
    parser.add_argument("source", metavar="SOURCE", help="data directory")
    parser.add_argument("destination", metavar="DESTINATION", help="data directory to be written")
    for unit in ("utt", "spk"):
        for affix in ("prefix", "suffix"):
            parser.add_argument(
                f"--{unit}-{affix}",
                default="",
                metavar="TEXT",
                help=f"{affix} of the new {unit} ids (default: none)",
            )
    parser.add_argument(
        "--validate-opts",
        default="",
        metavar="'OPTION ...'",
        help="options of validate_data_dir.sh for the copy",
    )


def run(args):
    count = copy(
        args.source, args.destination, args.utt_prefix, args.utt_suffix, args.spk_prefix, args.spk_suffix
    )
    log(f"copied {count} utterances from {args.source} to {args.destination}")
    optional = {"feats": "feats.scp", "text": "text", "wav": "wav.scp"}
    missing = [name for name, file in optional.items() if not (Path(args.destination) / file).exists()]
    options = [f"--no-{name}" for name in missing] + shlex.split(args.validate_opts)
    parser = argparse.ArgumentParser(
        prog="copy_data_dir.sh --validate-opts", allow_abbrev=False, exit_on_error=False
    )
    validate_data_dir.add_arguments(parser)
    try:
        checked, unknown = parser.parse_known_args([*options, args.destination])
    except argparse.ArgumentError as error:
        raise UserError(f"--validate-opts: {error}") from error
    if unknown:
        raise UserError(f"--validate-opts: unknown option '{unknown[0]}'")
    return validate_data_dir.run(checked)
