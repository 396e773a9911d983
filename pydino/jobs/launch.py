"""Start the processes that train, on one machine or on every node of a Slurm job, and see to it that they
hear what they are asked.

A job that is to end before its time (a time limit, a pre-emption) gets a signal. The trainers save and end on
SIGTERM and SIGUSR1; what stands between them and the scheduler may not hand these on:

* Slurm (``--signal=USR1@120``, ``scancel --signal``) signals every process of a job's steps, and none of its
  batch script.
* torchrun takes SIGTERM, SIGINT, SIGHUP, SIGQUIT, and what ``--signals-to-handle`` adds, passes them on to
  the process groups of the trainers, and kills those 30 s later; any other signal ends it and leaves the
  trainers behind. It exits with 1 whatever they exit with. So it is started with handlers of ours
  (``pydino/cli/_torchrun.py``).
* A shell that waits for a command hands on nothing.

A launcher stands on each node above torchrun. It hands every signal on, and remembers that there was one: its
exit status tells a run that was saved from one that failed. A trainer may hear of the same thing several
times.
"""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from pydino.base import end_with_parent, warn

from .addresses import free_port, interface_towards

SAVE_AND_END = (signal.SIGTERM, signal.SIGUSR1)  # what a trainer understands
ASKED_TO_END = (*SAVE_AND_END, signal.SIGHUP)
# Exit status of one node's launcher. srun's own is the highest of all nodes: a failure has to outweigh the
# signals (128 + number) by which srun then ends the other nodes.
FAILED = 200


def trainer(
    command: list[str], processes: int, nodes: int = 1, node: int = 0, meet: str | None = None
) -> list[str]:
    """Return the command line that starts ``processes`` of ``pydino COMMAND`` on this machine.

    Args:
        command: verb and arguments.
        processes: on each node.
        nodes, node: how many nodes there are, and which this one is.
        meet: ADDRESS:PORT of the first node, where there are several.
    """
    if processes * nodes == 1:
        return [sys.executable, "-m", "pydino", *command]
    start = [sys.executable, "-m", "pydino.cli._torchrun", "--nproc-per-node", str(processes)]
    if nodes == 1:
        address, port = "127.0.0.1", str(free_port(os.getpid()))
    else:
        address, _, port = meet.rpartition(":")
    start += [
        "--nnodes",
        str(nodes),
        "--node-rank",
        str(node),
        "--master-addr",
        address,
        "--master-port",
        port,
    ]
    return [*start, "-m", "pydino", *command]


def trainer_environment(meet: str | None = None) -> dict[str, str]:
    """Return the variables for :func:`trainer`: gloo is told the interface by which the first node is
    reached, where nobody has chosen one.

    By itself it takes the interface that the machine's name resolves to, which may be the loopback.
    """
    environment = dict(os.environ)
    address = meet.rpartition(":")[0].strip("[]") if meet else "127.0.0.1"
    if "GLOO_SOCKET_IFNAME" not in environment and (interface := interface_towards(address)):
        environment["GLOO_SOCKET_IFNAME"] = interface
    return environment


class Supervision:
    """Runs a command and hands signals on. ``heard`` is the first signal that asked for an end; 0: none.
    ``what`` names the command.
    """

    def __init__(self, what: str = "a process that trains"):
        self.what = what
        self.heard = 0
        self._process = None

    def run(self, command: list[str], environment: dict[str, str] | None = None) -> int:
        """Run it to its end and return its exit status; negative if a signal ended it.

        Args:
            command: program and arguments.
            environment: of the command; default: this one's.
        """
        with self._hearing():
            self._process = subprocess.Popen(command, env=environment, preexec_fn=end_with_parent)
            if self.heard:  # between the handler's setting and the start
                self._tell(self.heard)
            code = self._process.wait()
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            warn(
                f"{self.what} was killed (signal 9): often the machine, or the job, was short of memory "
                "(--mem)"
            )
        return code

    @contextmanager
    def _hearing(self):
        def hear(number, _):
            self.heard = self.heard or number
            self._tell(number)

        # A signal that the caller ignores stays ignored (nohup). After Ctrl-C, which goes to all of a
        # terminal's, there is only to wait.
        wanted = {number: hear for number in ASKED_TO_END if signal.getsignal(number) is not signal.SIG_IGN}
        wanted[signal.SIGINT] = lambda number, _: setattr(self, "heard", self.heard or number)
        before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _tell(self, number: int) -> None:
        if self._process is None:
            return
        try:
            self._process.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)
        except ProcessLookupError:
            pass


def launch_here(command: list[str], processes: int) -> int:
    """Train on this machine. Return the exit status: 128 and the signal's number for a run that was asked to
    end, whatever of.
    """
    supervision = Supervision()
    code = supervision.run(trainer(command, processes), trainer_environment())
    if code and supervision.heard:
        return 128 + supervision.heard
    return code if code >= 0 else 128 - code


def launch_node(command: list[str], processes: int, nodes: int, node: int, meet: str, told: str) -> int:
    """Train on one node of a job. Return 0, FAILED or, on the first node, 128 and the number of the signal
    that asked for an end.

    srun ends the other nodes when one returns anything but 0: only the first may, whose trainer has saved by
        then. What srun returns is
    the highest of all nodes, and that may be of the signal by which it ended another. So the first node,
    which the job's batch script runs on, tells that also by a file.

    Args:
        told: the file.
    """
    supervision = Supervision()
    code = supervision.run(trainer(command, processes, nodes, node, meet), trainer_environment(meet))
    code = 128 - code if code < 0 else code
    number = supervision.heard or next((number for number in ASKED_TO_END if code == 128 + number), 0)
    if code and not number:
        return FAILED
    if code and node == 0:
        Path(told).write_text(str(int(number)))
        return 128 + number
    return 0
