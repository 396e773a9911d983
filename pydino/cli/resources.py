"""Print what the jobs of a wrapper can have, for shell scripts: values on one line, in the order of their
names.

pydino resources [--cmd CMD] [--processes P] local|cores|gpus|threads ...

  local    true where CMD runs its jobs on this machine (run_local.sh, run.pl)
  cores    CPU cores that this process may use here
  gpus     GPUs to use by default: those of this machine that jobs may use; of a cluster one, if it has any
  threads  threads to use by default in a job of P processes
"""

from pydino.cli._arguments import option
from pydino.jobs.machine import num_cores
from pydino.jobs.resources import num_gpus, num_threads, runs_here

_VALUES = {
    "local": lambda args: str(runs_here(args.cmd)).lower(),
    "cores": lambda args: num_cores(),
    "gpus": lambda args: num_gpus(args.cmd),
    "threads": lambda args: num_threads(args.cmd, args.processes),
}


def add_arguments(parser):
    option(parser, "--cmd", "run_local.sh", "a wrapper, with its options")
    option(parser, "--processes", 1, "of the job", metavar="P")
    parser.add_argument("names", nargs="+", choices=_VALUES, metavar="NAME", help=", ".join(_VALUES))


def run(args):
    print(*(_VALUES[name](args) for name in args.names))
