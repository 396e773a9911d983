"""Run the steps of one group, one after another in this process; the first that fails ends it.

GROUPS is a JSON list of groups, a group a list of calls such as ["steps/score.sh", "--backend", "plda", ...].
One interpreter, one import of the libraries and one reading of the embeddings serve all steps of a group.
"""

from pydino.base import UserError, read_json
from pydino.cli._arguments import integer
from pydino.cli._steps import run_step


def add_arguments(parser):
    parser.add_argument("groups", metavar="GROUPS", help="JSON file")
    parser.add_argument("number", metavar="N", type=integer(1), help="which group, from 1")


def run(args):
    groups = read_json(args.groups)
    if args.number > len(groups):
        raise UserError(f"{args.groups} has {len(groups)} groups, there is no group {args.number}")
    for argv in groups[args.number - 1]:
        if status := run_step(argv):
            return status
    return 0
