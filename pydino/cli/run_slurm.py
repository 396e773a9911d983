"""Run commands as Slurm jobs, each with a log, behind the command line of Kaldi's slurm.pl.

utils/run_slurm.sh [options] [JOB=1:N] LOG [--] COMMAND [argument ...]

  --mem 4G           memory of each job
  --time 2:00:00     time limit of each job (also minutes, or days-hours)
  --num-threads N    cores of each job
  --gpu N            GPUs of each job
  --max-jobs-run N   at most N jobs at once
  --retries N        submit failed jobs again, up to N times (default 0); those that were out of memory or
                     time with twice the --mem or --time
  --config FILE      how options become sbatch's; default: PYDINO_SLURM_CONF, else the recipe's,
                     conf/slurm.conf here, that of the project
  and the options that this file describes

JOB=1:N becomes one array job. Each job's log has the head and the foot of a local one; beside it lies the
script (LOG without JOB, with the ending .slurm.sh) and, until all jobs have succeeded, a record by which
the same command finds them again (.jobs.json). Ctrl-C and TERM cancel the job. When the terminal or this
process dies, it goes on: run the same again to wait for it. JOB, operators and other arguments are as in
run_local.sh --help.
"""

import os
import signal

from pydino.cli import _wrapper
from pydino.jobs import parse_request, run_slurm, site_names
from pydino.jobs.pipeline.controller import OWN_FOLDER

_PROGRAM = "run_slurm.sh"


def add_arguments(parser):
    _wrapper.add_arguments(parser, _PROGRAM)


def run(args):
    if OWN_FOLDER in os.environ and "SLURM_JOB_ID" in os.environ:
        # In the job of a controller every process gets TERM, whatever is to become of the job; the
        # controller finds that out.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return _wrapper.run(
        args, _PROGRAM, lambda arguments: run_slurm(parse_request(arguments, site_names), _PROGRAM)
    )
