"""What the job wrappers' verbs share: their arguments are not argparse's, because COMMAND has options too."""

import argparse
import sys

from pydino.base import UserError


def add_arguments(parser, program: str) -> None:
    """Pass all arguments to the parser of the wrapper."""
    parser.usage = f"{program} [options] [JOB=1:N] LOG [--] COMMAND [argument ...]"
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(args, program: str, call) -> int:
    """Return what ``call(arguments)`` returns, or 1 after the message of a mistake in the wrapper's name."""
    arguments = args.arguments[1:] if args.arguments[:1] == ["--"] else args.arguments
    try:
        return call(arguments)
    except UserError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
