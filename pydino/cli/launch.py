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
from pydino.jobs.launch.batch import launch_job
from pydino.jobs.launch.node import launch_here, launch_node


def add_arguments(parser):
    parser.add_argument(
        "--processes", type=int, default=1, metavar="P", help="on each node (default: %(default)s)"
    )
    parser.add_argument(
        "--num-nodes", type=int, default=1, metavar="N", help="of the job (default: %(default)s)"
    )
    parser.add_argument(
        "--max-restarts", type=int, default=50, metavar="R", help="of the job, at most (default: %(default)s)"
    )
    parser.add_argument(
        "--scheduler",
        choices=["auto", "none"],
        default="auto",
        help="auto: Slurm, in a job of it (default: %(default)s)",
    )
    # of the first node: this is one node's launcher
    parser.add_argument("--meet", metavar="ADDRESS:PORT", help=argparse.SUPPRESS)
    # where the first node records a signal
    parser.add_argument("--signal-file", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="VERB ...", help="the command that trains"
    )


def run(args):
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise UserError("there is no command to start; pydino launch --help shows how")
    if args.processes < 1 or args.num_nodes < 1 or args.max_restarts < 0:
        raise UserError("--processes and --num-nodes begin with 1, --max-restarts with 0")
    if args.meet:
        node = int(os.environ["SLURM_NODEID"])
        return launch_node(command, args.processes, args.num_nodes, node, args.meet, args.signal_file)
    if args.scheduler == "auto" and "SLURM_JOB_ID" in os.environ:
        return launch_job(command, args.processes, args.num_nodes, args.max_restarts)
    if args.num_nodes > 1:
        raise UserError(f"--num-nodes {args.num_nodes} is for jobs of a scheduler; this is one machine")
    return launch_here(command, args.processes)
