"""Run a pipeline that survives the closing of its terminal (./run.sh --detach): by a controller on this
machine, a Slurm job, or a chain of them.

pydino detach --wrapper "run_slurm.sh --mem 2G" exp -- ./run.sh --stage 2
pydino detach --chain "2 3 4" --gpu-stages 4 --train-cmd "run_slurm.sh --mem 2G" --cuda-cmd "run_slurm.sh
--mem 8G" exp -- ./run.sh
"""

import argparse
import re
import shutil
from pathlib import Path

from pydino.base import UserError, warn
from pydino.cli._arguments import option, remainder
from pydino.jobs.pipeline.controller import SlurmJob, control, detach_here, detach_to_slurm
from pydino.jobs.pipeline.record import LOG, refuse_if_running
from pydino.jobs.resources import program_of
from pydino.jobs.signals import Interrupted

# Options of run.sh that the controller's call of it must not have.
_OURS = ("--detach", "--chain")
_STAGES = ("--stage", "--stop-stage")


def add_arguments(parser):
    option(parser, "--wrapper", "run_local.sh", "how the controller runs", metavar="CMD")
    option(parser, "--chain", None, "one Slurm job a stage instead of a controller", metavar="STAGES")
    option(parser, "--gpu-stages", "", "those of --chain that get --ngpu GPUs", metavar="STAGES")
    option(parser, "--train-cmd", "", "for --chain: what a job of the other stages asks for", metavar="CMD")
    option(parser, "--cuda-cmd", "", "for --chain: what a job of --gpu-stages asks for", metavar="CMD")
    option(parser, "--nj", 1, "for --chain: cores of each job")
    option(parser, "--ngpu", 0, "for --chain: GPUs of each job")
    # this is the controller
    parser.add_argument("--control", choices=["local", "slurm", "stage"], help=argparse.SUPPRESS)
    # whether a run in the foreground may start
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("exp", metavar="EXP", help="the folder exp of the recipe")
    parser.add_argument("command", nargs="...", metavar="COMMAND", help="run.sh, with its options")


def run(args):
    if args.check:
        refuse_if_running(Path(args.exp))
        return 0
    command = remainder(args.command)
    if not command:
        raise UserError("there is no command to run")
    if args.control:
        return control(Path(args.exp), command, args.control)
    if not shutil.which(command[0]):
        raise UserError(
            f"cannot run {command[0]}: there is no such program, or it is not executable (chmod +x)"
        )
    try:
        print(_detach(args, Path(args.exp), without(command, _OURS, bare=True)))
    except Interrupted as interrupted:
        warn(f"{interrupted.name} received: not detached")
        return 128 + interrupted.number
    return 0


def _detach(args, exp: Path, command: list[str]) -> str:
    """Detach the command and return a message."""
    status = "./run.sh --status shows its state"
    if args.chain is not None:
        for wrapper in (args.train_cmd, args.cuda_cmd):
            if not _is_run_slurm(wrapper):
                advice = "choose backend=slurm there, or omit --chain"
                raise UserError(f"--chain is for Slurm, and cmd.sh has '{wrapper}'; {advice}")
        stages = [
            SlurmJob(
                f"stage {n}", _of_stage(args, command, n), _resources(args, n in args.gpu_stages.split())
            )
            for n in args.chain.split()
        ]
        jobs = detach_to_slurm(exp, command, stages, chain=True)
        numbers = " ".join(jobs)
        return f"submitted {len(jobs)} jobs, one a stage: {numbers}; logs are {exp}/run.stageN.log; {status}"
    if _is_run_slurm(args.wrapper):
        (job,) = detach_to_slurm(exp, command, [SlurmJob("controller", command, args.wrapper.split()[1:])])
        return f"submitted Slurm job {job}, {_runs(exp)}; {status}; scancel {job} ends it and its jobs"
    pid = detach_here(exp, command)
    return f"process {pid}, {_runs(exp)}; {status}; kill {pid} ends it and its jobs"


def _runs(exp: Path) -> str:
    return f"which runs the pipeline; log is in {exp / LOG}"


def _is_run_slurm(wrapper: str) -> bool:
    return program_of(wrapper) == "run_slurm.sh"


def _resources(args, gpu: bool) -> list[str]:
    """Return the wrapper's options for a job that does a whole stage: what its jobs would get together."""
    given = (args.cuda_cmd if gpu else args.train_cmd).split()[1:]
    words = [part for word in given for part in (word.split("=", 1) if word.startswith("--") else [word])]
    words += ["--num-threads", str(args.nj)]
    if gpu and args.ngpu:
        return [*words, "--gpu", str(args.ngpu)]
    mem = words[words.index("--mem") + 1 :][:1] if "--mem" in words else []
    if mem and (match := re.fullmatch(r"([\d.]+)([A-Za-z]?)", mem[0])):
        words += ["--mem", f"{float(match[1]) * args.nj:g}{match[2]}"]
    return words


def _of_stage(args, command: list[str], stage: str) -> list[str]:
    ngpu = args.ngpu if stage in args.gpu_stages.split() else 0  # a node may have more than are the job's
    own = ["--stage", stage, "--stop-stage", stage, "--nj", str(args.nj), "--ngpu", str(ngpu)]
    return [*without(command, (*_STAGES, "--nj", "--ngpu")), *own]


def without(command: list[str], names: tuple[str, ...], bare: bool = False) -> list[str]:
    """Return a call without some of its options.

    Args:
        command: program and options, ``--name value`` or ``--name=value``.
        names: of the options to remove.
        bare: they are true or false, and may stand without a value.
    """
    kept, words = [], list(command)
    while words:
        word = words.pop(0)
        if word.partition("=")[0].replace("_", "-") not in names:
            kept.append(word)
        elif "=" not in word and words and (not bare or words[0] in ("true", "false")):
            words.pop(0)
    return kept
