"""Run commands on this machine, each with a log, behind the command line of Kaldi's run.pl.

utils/run_local.sh [options] [JOB=1:N] LOG COMMAND [argument ...]

  --num-threads N    threads of each job (default 1): at most cores / N jobs run at once, OMP_NUM_THREADS=N in each
  --max-jobs-run N   at most N jobs at once, whatever the cores
  --gpu N            GPUs of each job (default 0), lent under a lock and shown to it as CUDA_VISIBLE_DEVICES
  --mem 4G  --time 2:00:00  --config FILE   read by queueing systems; checked, and without effect here

JOB (any name will do) is replaced by the job's number in LOG and COMMAND where it is a word of its own: x.JOB.ark, split4/JOB/,
x_JOB.log; not in JOBS or MYJOB, and not in the name of a folder that exists as it is written (/data/my JOB dir/).
Pipes and redirections of the job are escaped: \\|, \\>, \\<. A failing member of a pipe fails the job.
An earlier log is kept as LOG.1.
"""

import argparse
import sys

from pydino.base import UserError
from pydino.jobs import parse_request, run_local

_PROGRAM = "run_local.sh"


def add_arguments(parser):
    parser.usage = "run_local.sh [options] [JOB=1:N] LOG COMMAND [argument ...]"
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(args):
    arguments = args.arguments[1:] if args.arguments[:1] == ["--"] else args.arguments
    try:
        return run_local(parse_request(arguments), _PROGRAM)
    except UserError as error:
        print(f"{_PROGRAM}: {error}", file=sys.stderr)
        return 1
