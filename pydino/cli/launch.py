"""Start the processes of a command that trains: on this machine, or in a Slurm job on every node of it. Steps
use it inside their job.

pydino launch [--processes P] [--num-nodes N] [--max-restarts R] [--scheduler auto|none] -- VERB [arguments]

In the batch script of a Slurm job (--scheduler auto), it starts one step with torchrun on every node. When
the job is to end before the training does (SIGUSR1 before the time limit, a pre-emption), the trainers save
and the job goes back into the queue. --scheduler none: the job, if there is one, runs more than this
training, and is left alone.
"""

import argparse
import os

from pydino.base import UserError
from pydino.cli._arguments import integer, option, remainder
from pydino.jobs.launch.batch import launch_job
from pydino.jobs.launch.node import launch_here, launch_node


def add_arguments(parser):
    option(parser, "--processes", 1, "on each node", type=integer(1), metavar="P")
    option(parser, "--num-nodes", 1, "of the job", type=integer(1), metavar="N")
    option(parser, "--max-restarts", 50, "of the job, at most", type=integer(0), metavar="R")
    option(parser, "--scheduler", "auto", "auto: Slurm, in a job of it", choices=["auto", "none"])
    # of the first node: this is one node's launcher
    parser.add_argument("--meet", metavar="ADDRESS:PORT", help=argparse.SUPPRESS)
    # where the first node records a signal
    parser.add_argument("--signal-file", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs="...", metavar="VERB ...", help="the command that trains")


def run(args):
    command = remainder(args.command)
    if not command:
        raise UserError("there is no command to start; pydino launch --help shows how")
    if args.meet:
        node = int(os.environ["SLURM_NODEID"])
        return launch_node(command, args.processes, args.num_nodes, node, args.meet, args.signal_file)
    if args.scheduler == "auto" and "SLURM_JOB_ID" in os.environ:
        return launch_job(command, args.processes, args.num_nodes, args.max_restarts)
    if args.num_nodes > 1:
        raise UserError(f"--num-nodes {args.num_nodes} is for jobs of a scheduler; this is one machine")
    return launch_here(command, args.processes)
