"""Submit a training as a job, show its lines, and forward signals to it. No torch: it only waits."""

import hashlib
import json
import os
import re
import signal
import time
from pathlib import Path

from pydino.base import UserError, cluster_files, read_yaml

from .resources import num_threads, program_of, runs_here
from .submit import OWN_WRAPPERS, Follower, environment, run_wrapper

# Lines of the log that are shown: the training's own, and its launcher's.
_SHOWN = re.compile(r"^([0-9: -]+)?pydino (train|launch): ")
# What the wrapper is sent for each signal; Slurm's jobs go on after HUP.
_SIGNALS = {
    signal.SIGINT: signal.SIGTERM,
    signal.SIGTERM: signal.SIGTERM,
    signal.SIGHUP: signal.SIGHUP,
    signal.SIGUSR1: signal.SIGUSR1,
}


def submit_training(args) -> int:
    """Run ``pydino train`` with ``args`` (of its command line) as a job of ``args.cmd`` until it has ended;
    return its exit status, or 128 and the number of a signal. The run is saved before it ends.

    Raises:
        UserError: there is no such wrapper, or several nodes are wanted without a scheduler.
    """
    here = runs_here(args.cmd)
    if here and args.num_nodes > 1:
        raise UserError(
            f"--num-nodes {args.num_nodes} needs a scheduler that has several machines, and '{args.cmd}' "
            "runs jobs on this one; choose the back-end slurm in cmd.sh, or omit --num-nodes"
        )
    processes = args.ngpu or args.num_processes
    threads = args.num_threads or num_threads(args.cmd, processes)
    options = ["--num-threads", str(threads)]
    options += ["--gpu", str(args.ngpu)] if args.ngpu else []
    options += ["--num-nodes", str(args.num_nodes)] if args.num_nodes > 1 else []
    variables = _environment(args)
    words = _launched(args, processes, threads, here)
    if program_of(args.cmd) not in OWN_WRAPPERS and variables.get("PYDINO_FORCE"):
        # a site's wrapper may pass no variables on to its jobs
        words = ["env", f"PYDINO_FORCE={variables['PYDINO_FORCE']}", *words]
    log = Path(args.exp, "log", "train.log")
    status, received = run_wrapper(
        args.cmd,
        options,
        log,
        words,
        _SIGNALS,
        while_it_runs=Follower(log, _SHOWN).show,
        env=variables,
        # Ctrl-C in a terminal reaches every process there: the job is to get the SIGTERM of this one alone
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    return 128 + received if received else status


def _launched(args, processes: int, threads: int, here: bool) -> list[str]:
    """Return the command of the job: the launcher, and what each of its processes runs."""
    options = ["--config", args.config] if args.config else []
    options += [word for override in args.set for word in ("--set", override)]
    options += ["--seed", str(args.seed)]
    options += [word for path in args.labels for word in ("--labels", path)]
    options += ["--clusters", args.clusters] if args.clusters else []
    options += ["--init", args.init] if args.init else []
    options += ["--init-optimiser", "true"] if args.init_optimiser else []
    options += ["--ngpu", str(args.ngpu), "--num-threads", str(threads)]
    options += ["--data-workers", str(args.data_workers)] if args.data_workers is not None else []
    options += ["--allow-pipes", str(args.allow_pipes).lower()]
    launch = ["pydino", "launch", "--scheduler", "none" if here else "auto", "--processes", str(processes)]
    launch += ["--num-nodes", str(args.num_nodes), "--max-restarts", str(args.max_restarts)]
    return [*launch, "--", "train", *options, args.data, args.exp]


def _environment(args) -> dict[str, str]:
    """Return the variables of the wrapper."""
    digest = hashlib.sha256()  # a job of another configuration is another job
    if args.config:
        digest.update(json.dumps(read_yaml(args.config), sort_keys=True, default=str).encode())
    for path in (
        Path(args.data) / "utt2spk",
        *args.labels,
        *(cluster_files(args.clusters) if args.clusters else []),
    ):
        digest.update(Path(path).read_bytes())
    variables = environment(digest.hexdigest()[:16])
    # For sbatch, through whatever wrapper calls it (a site's own options come later and win): two minutes
    # before the time limit the steps of the job receive SIGUSR1; Slurm may queue it again; its log is then
    # continued.
    variables.setdefault("SBATCH_SIGNAL", "USR1@120")
    variables |= {"SBATCH_REQUEUE": "1", "SBATCH_OPEN_MODE": "append"}
    if args.force:  # a token of this call: a job that a scheduler starts again discards nothing once more
        variables.setdefault("PYDINO_FORCE", f"{time.strftime('%Y%m%d%H%M%S')}-{os.getpid()}")
    return variables
