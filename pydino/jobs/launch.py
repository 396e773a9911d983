"""Start the processes that train, on one machine or on every node of a Slurm job, and see to it that they hear what they are asked.

A job that is to end before its time (a time limit, a pre-emption) gets a signal. The trainers save and end on SIGTERM and SIGUSR1; what
stands between them and the scheduler may not hand these on:

* Slurm (``--signal=USR1@120``, ``scancel --signal``) signals every process of a job's steps, and none of its batch script.
* torchrun takes SIGTERM, SIGINT, SIGHUP, SIGQUIT, and what ``--signals-to-handle`` adds; any other signal ends it and leaves the trainers
  behind. One that it takes goes on to the process group of each trainer, whom it kills 30 s later
  (``TORCH_ELASTIC_SHUTDOWN_TIMEOUT``, from PyTorch 2.13 on). It exits with 1 whatever the trainers exit with.
* A shell that waits for a command hands on nothing.

So a launcher stands on each node above torchrun. It hands every signal on to the trainers themselves (who may hear it twice), and
remembers that there was one: its exit status tells a run that was saved from one that failed.
"""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

from pydino.base import end_with_parent

from .addresses import free_port, interface_towards

ASKED_TO_END = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
# Exit status of one node's launcher. srun's own is the highest of all nodes: a failure has to outweigh the signals (128 + number) that
# then end the other nodes.
FAILED = 200
_SAVING_SECONDS = 600  # torchrun's patience; the scheduler has its own


def trainer(command: list[str], processes: int, nodes: int = 1, node: int = 0, meet: str | None = None) -> list[str]:
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
    start += ["--signals-to-handle", "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"]
    if nodes == 1:
        address, port = "127.0.0.1", str(free_port(os.getpid()))
    else:
        address, _, port = meet.rpartition(":")
    start += ["--nnodes", str(nodes), "--node-rank", str(node), "--master-addr", address, "--master-port", port]
    return [*start, "-m", "pydino", *command]


def trainer_environment(meet: str | None = None) -> dict[str, str]:
    """Return the variables for :func:`trainer`: gloo is told the interface by which the first node is reached, where nobody has chosen one.

    By itself it takes the interface that the machine's name resolves to, which may be the loopback.
    """
    environment = {**os.environ, "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(_SAVING_SECONDS)}
    address = meet.rpartition(":")[0].strip("[]") if meet else "127.0.0.1"
    if "GLOO_SOCKET_IFNAME" not in environment and (interface := interface_towards(address)):
        environment["GLOO_SOCKET_IFNAME"] = interface
    return environment


class Supervision:
    """Runs a command and hands signals on. ``heard`` is the first signal that asked for an end; 0: none."""

    def __init__(self):
        self.heard = 0
        self._process = None

    def run(self, command: list[str], environment: dict[str, str] | None = None, through: bool = False) -> int:
        """Run it to its end and return its exit status; negative if a signal ended it.

        Args:
            command: program and arguments.
            environment: of the command; default: this one's.
            through: signals are for the children of the command (torchrun's trainers), not for itself.
        """
        with self._hearing(through):
            self._process = subprocess.Popen(command, env=environment, preexec_fn=end_with_parent)
            if self.heard:  # between the handler's setting and the start
                self._tell(self.heard, through)
            return self._process.wait()

    @contextmanager
    def _hearing(self, through: bool):
        def hear(number, _):
            self.heard = self.heard or number
            self._tell(number, through)

        # A signal that the caller ignores stays ignored (nohup). After Ctrl-C, which goes to all of a terminal's, there is only to wait.
        wanted = {number: hear for number in ASKED_TO_END if signal.getsignal(number) is not signal.SIG_IGN}
        wanted[signal.SIGINT] = lambda number, _: setattr(self, "heard", self.heard or number)
        before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _tell(self, number: int, through: bool) -> None:
        if self._process is None:
            return
        number = signal.SIGTERM if number == signal.SIGHUP else number
        for pid in (children(self._process.pid) if through else []) or [self._process.pid]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass


def children(parent: int) -> list[int]:
    """Return the processes that ``parent`` started."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", "rb") as stream:
                fields = stream.read().rpartition(b")")[2].split()  # the name before may hold blanks and brackets
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(pid))
    return found


def launch_here(command: list[str], processes: int) -> int:
    """Train on this machine. Return the exit status: 128 and the signal's number for a run that was asked to end, whatever of."""
    supervision = Supervision()
    code = supervision.run(trainer(command, processes), trainer_environment(), through=processes > 1)
    if code and supervision.heard:
        return 128 + supervision.heard
    return code if code >= 0 else 128 - code


def launch_node(command: list[str], processes: int, nodes: int, node: int, meet: str) -> int:
    """Train on one node of several. Return 0, 128 and the number of the signal that asked for an end, or FAILED."""
    supervision = Supervision()
    code = supervision.run(trainer(command, processes, nodes, node, meet), trainer_environment(meet), through=processes * nodes > 1)
    code = 128 - code if code < 0 else code
    if code and supervision.heard:
        return 128 + supervision.heard
    return code if code in (0, *(128 + number for number in ASKED_TO_END)) else FAILED
