"""Run commands on this machine, each with a log, behind the command line of Kaldi's run.pl.

utils/run_local.sh [options] [JOB=1:N] LOG [--] COMMAND [argument ...]

  --num-threads N    threads of each job (default 1), its OMP_NUM_THREADS: at most cores / N jobs run at once
  --mem 4G           memory of each job: no more run at once than there is room for
  --max-jobs-run N   at most N jobs at once, whatever the cores
  --gpu N            GPUs of each job (default 0), reserved by a lock, its CUDA_VISIBLE_DEVICES
  --retries N        run a failed job again, up to N times (default 0)
  --time 2:00:00  --config FILE   for queueing systems; checked, and without effect here

JOB (any name will do) is replaced by the job's number in LOG and COMMAND where it is a word of its own:
x.JOB.ark, split4/JOB/, x_JOB.log; not in JOBS or MYJOB, and not in the name of a folder that exists as it
is written (/data/my JOB dir/).

An argument that is exactly an operator of the shell is one in the job, unless -- stands before COMMAND:
  \\| \\|\\| \\&\\& \\; \\& \\> \\>\\> \\< 2\\> 2\\>\\&1 \\>/dev/null \\( \\)
Every other argument reaches the program as it is, whatever it holds: '$x', '*', 'a;b', '>file' and 'a | b'
are plain text. (run.pl has the shell read arguments without blanks.) For shell text, use bash -c 'TEXT'. A
failing member of a pipe fails the job.

An earlier log is kept as LOG.1. When a step runs again after a failure and is made from the same things as
before, only the jobs that failed or are missing are run.
"""

from pydino.cli import _wrapper
from pydino.jobs import parse_request, run_local

_PROGRAM = "run_local.sh"


def add_arguments(parser):
    _wrapper.add_arguments(parser, _PROGRAM)


def run(args):
    return _wrapper.run(args, _PROGRAM, lambda arguments: run_local(parse_request(arguments), _PROGRAM))
