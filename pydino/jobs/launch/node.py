"""Start the training processes of one machine, and forward the signals that ask them to end.

A job that has to end early (a time limit, a pre-emption) gets a signal, on which the trainers save and end.
Slurm signals every process of a job's steps, but not its batch script; torchrun forwards some signals, and
kills 30 s later, so it is started with handlers of ours (``pydino/cli/_torchrun.py``); docs/nodes.md has the
table. A launcher runs on each node above torchrun. It forwards every signal, and its exit status
distinguishes a run that was saved from one that failed. A trainer may get the same request several times.
"""

import os
import signal
import sys
from pathlib import Path

from pydino.base import end_with_parent, warn

from ..signals import run_forwarding
from .addresses import free_port, interface_towards

SAVE_AND_END = (signal.SIGTERM, signal.SIGUSR1)  # what a trainer understands
ASKED_TO_END = (*SAVE_AND_END, signal.SIGHUP)
# Exit status of one node's launcher. srun's own is the highest of all nodes: a failure has to outweigh the
# signals (128 + number) by which srun then ends the other nodes.
FAILED = 200
# -P: modules in the current folder, such as random.py, are not imported in the place of others
_PYTHON = [sys.executable, "-P", "-m"]


def trainer(
    command: list[str], processes: int, nodes: int = 1, node: int = 0, meet: str | None = None
) -> list[str]:
    """Return the command line that starts ``processes`` of ``pydino COMMAND`` on this machine, which is
    number ``node`` of ``nodes``; ``meet`` is ADDRESS:PORT of the first, where there are several.
    """
    if processes * nodes == 1:
        return [*_PYTHON, "pydino", *command]
    address, _, port = (meet if nodes > 1 else f"127.0.0.1:{free_port(os.getpid())}").rpartition(":")
    options = f"--nproc-per-node {processes} --nnodes {nodes} --node-rank {node}".split()
    options += ["--master-addr", address, "--master-port", port, "-m"]
    return [*_PYTHON, "pydino.cli._torchrun", *options, "pydino", *command]


def trainer_environment(meet: str | None = None) -> dict[str, str]:
    """Return the variables for :func:`trainer`.

    gloo gets the interface by which the first node is reached, unless one is set: by default it takes the
    one that the machine's name resolves to, which may be the loopback. The Python of torchrun's processes
    does not import from the current folder.
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    address = meet.rpartition(":")[0].strip("[]") if meet else "127.0.0.1"
    if "GLOO_SOCKET_IFNAME" not in environment and (interface := interface_towards(address)):
        environment["GLOO_SOCKET_IFNAME"] = interface
    return environment


def supervise(
    command: list[str], what: str = "a training process", environment: dict[str, str] | None = None
) -> tuple[int, int]:
    """Run a command, ``what`` in messages, and forward the signals that ask it to end; return its exit
    status and the first of them, or 0.
    """
    # Ctrl-C reaches every process of a terminal: there is only to wait.
    signals = {number: number for number in SAVE_AND_END}
    signals |= {signal.SIGHUP: signal.SIGTERM, signal.SIGINT: None}
    code, received = run_forwarding(command, signals, env=environment, preexec_fn=end_with_parent)
    if code == 128 + signal.SIGKILL:
        reason = "often the machine, or the job, was short of memory (--mem)"
        warn(f"{what} was killed (signal 9): {reason}")
    return code, received


def launch_here(command: list[str], processes: int) -> int:
    """Train on this machine. Return the exit status: 128 and the signal's number for a run that was asked
    to end, whatever it then exited with.
    """
    code, received = supervise(trainer(command, processes), environment=trainer_environment())
    return 128 + received if code and received else code


def launch_node(
    command: list[str], processes: int, nodes: int, node: int, meet: str, signal_file: str
) -> int:
    """Train on one node of a job. Return 0, FAILED or, on the first node, 128 and the number of the signal
    that asked it to end.

    srun ends the other nodes when one returns anything but 0: only the first may, whose trainer has saved
    by then. srun returns the highest status of all nodes, which may be of the signal by which it ended
    another. So the first node, on which the job's batch script runs too, also writes the number to
    ``signal_file``.
    """
    command = trainer(command, processes, nodes, node, meet)
    code, received = supervise(command, environment=trainer_environment(meet))
    number = received or next((number for number in ASKED_TO_END if code == 128 + number), 0)
    if code and not number:
        return FAILED
    if code and node == 0:
        Path(signal_file).write_text(str(int(number)))
        return 128 + number
    return 0
