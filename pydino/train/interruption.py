"""Requests to stop: a time limit, a pre-emption or a person sends a signal, and the run is saved before it
exits.
"""

import signal
from pathlib import Path

from pydino.base import log

from .distributed import DistributedContext, PendingFlag

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Interruption:
    """Handles SIGTERM and SIGUSR1 while it is entered. All processes agree on the step to stop after,
    whichever received the signal.

    Args:
        distributed: this process among others; they exchange one number a step, which is read a step later.
    """

    def __init__(self, distributed: DistributedContext):
        self._distributed, self._signal, self._answer = distributed, 0, PendingFlag(False)

    def __enter__(self):
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        self._signal = number

    def asked(self) -> bool:
        """Return whether any process has been asked to stop; every process calls it once a step, and several
        know a step later.
        """
        if self._distributed.size == 1:
            return self._signal != 0
        asked, self._answer = bool(self._answer), self._distributed.any_process(self._signal != 0)
        return asked

    def leave(self, exp: Path, step: int, saved: bool) -> None:
        """Log it and exit with 128 and the signal's number, as a program that the signal ended does."""
        name = signal.Signals(self._signal).name if self._signal else "a signal to another process"
        if self._distributed.first:
            again = (
                "start it again and it resumes"
                if saved
                else "started again it resumes from the checkpoint before, if there is one"
            )
            what = f"{'saved' if saved else 'NOT saved'}; {again}"
            log(f"stopped by {name} after step {step}, {what}: {exp}")
        self._distributed.wait()  # torchrun ends the others when the first of them is gone
        raise SystemExit(128 + (self._signal or signal.SIGTERM))
