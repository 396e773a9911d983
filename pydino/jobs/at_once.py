"""Programs that wait for jobs on a cluster, run at once, their lines told apart by labels."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping

from .signals import signal_when_parent_dies

_MOST = 16  # programs at once: each takes about 50 MB of memory on the machine where run.sh runs


class AtOnce:
    """Programs that run side by side. What they print goes to standard error, each line after its label.

    Args:
        chains: label -> commands, of which each is run when the one before has succeeded.
        received: signals that have arrived, which programs in this process group have got, too; no other is
            started then.
    """

    def __init__(self, chains: Mapping[str, list[list[str]]], received: list[int]):
        self.waiting, self.received = [(label, list(chain)) for label, chain in chains.items()], received
        self.running: list[tuple[str, list[list[str]], subprocess.Popen, threading.Thread]] = []
        self.failed: list[str] = []  # labels
        self._start()

    def _start(self) -> None:
        while self.waiting and len(self.running) < _MOST and not self.received:
            label, (command, *rest) = self.waiting.pop(0)
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                preexec_fn=signal_when_parent_dies,  # as when a terminal is lost: the jobs go on
            )
            reader = threading.Thread(target=_relay, args=(process.stdout, label), daemon=True)
            reader.start()
            self.running.append((label, rest, process, reader))
            if self.received:  # while it was being started
                self.send(self.received[0])

    def send(self, number: int) -> None:
        """Send a signal to all that run."""
        for _, _, process, _ in self.running:
            process.send_signal(number)

    def wait(self) -> list[str]:
        """Wait until all have ended, also when some have failed; return the labels of those that failed."""
        while self.running:
            for one in [one for one in self.running if one[2].poll() is not None]:
                label, rest, process, reader = one
                self.running.remove(one)
                reader.join(timeout=1)  # not for what it may have left behind
                if process.returncode:
                    self.failed.append(label)
                elif rest:
                    self.waiting.insert(0, (label, rest))
            self._start()
            time.sleep(0.1)
        return self.failed


def _relay(stream, label: str) -> None:
    for line in stream:
        sys.stderr.write(f"{label}: {line}")
        sys.stderr.flush()
