"""Waiting for tasks: their logs, on the shared disk, are read often, and Slurm is asked seldom.

Slurm is asked after 5 s, then ever more seldom, up to every ``poll`` seconds; and at once when the logs of
all tasks have a foot. How a task ended is what Slurm says once the task has left the queue: one that is
pre-empted may write a foot with code 0, and start again.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress

from ..wrapper.log import ended_with
from ..wrapper.request import JobRequest
from .scheduler import FINAL, Ending, Slurm, Task, Unreachable, doubled

_FIRST_QUESTION = 5.0  # seconds
_SETTLING = 0.3  # seconds from the last foot to a question; to the next twice as long, and so on
_LOOK = 0.5  # seconds between two looks at the logs
_PATIENCE = 60.0  # seconds until a task that has left the queue must be accounted for
_QUIET = 60.0  # seconds in the queue before a message says why


class Waiter:
    """The tasks of one request that have not ended; ``tasks`` maps each to the number of its job."""

    def __init__(self, request: JobRequest, slurm: Slurm, poll: float, say: Callable[[str], None]):
        self.request, self.slurm, self.poll, self.say = request, slurm, poll, say
        self.tasks: dict[Task, int] = {}
        self.seen: dict[Task, str] = {}  # the state in which a task was last in the queue
        # size and time of a log, and the code in its foot
        self.read: dict[Task, tuple[tuple, int | None]] = {}
        self.unfinished: Task | None = None  # one whose log has no foot: with it, no other need be looked at

    def wait(self) -> dict[int, Ending]:
        """Wait until every task has ended; return the endings of those that failed, by job number."""
        failed, missing = {}, {}
        pauses, settling = doubled(min(_FIRST_QUESTION, self.poll), self.poll), None
        said = (time.monotonic(), "")
        while self.tasks:
            if self._all_logs_end():
                settling = settling or doubled(_SETTLING, self.poll)
                time.sleep(next(settling))
            else:
                settling = None
                self._read_for(min(next(pauses), _PATIENCE / 6 if missing else self.poll))
            live = self.ask(self.slurm.live, list(dict.fromkeys(job for job, _ in self.tasks)))
            gone = [task for task in self.tasks if task not in live]
            endings = self.ask(self.slurm.endings, gone) if gone else {}
            for task in gone:
                since = missing.setdefault(task, time.monotonic())
                if ending := self._judge(task, endings.get(task), time.monotonic() - since):
                    number = self.tasks.pop(task)
                    if ending.state != "COMPLETED":
                        failed[number] = ending
            for task in live:
                missing.pop(task, None)
                self.seen[task] = live[task][0]
            said = self._say_waiting(live, said)
        return failed

    def _read_for(self, seconds: float) -> None:
        """Return after some time, or when the logs of all tasks have a foot."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._all_logs_end():
            time.sleep(min(left, _LOOK))

    def _all_logs_end(self) -> bool:
        if self.unfinished not in self.tasks or self._code(self.unfinished) is not None:
            self.unfinished = next((task for task in self.tasks if self._code(task) is None), None)
        return self.unfinished is None

    def _code(self, task: Task) -> int | None:
        """Return the exit code in the foot of a task's log, which is read when it has changed."""
        before, code = self.read.get(task, ((), None))
        log = self.request.log_of(self.tasks.get(task, task[1] or self.request.first))
        with suppress(OSError), open(log, "rb") as stream:  # to open it renews what a network disk remembers
            found = os.fstat(stream.fileno())
            if (now := (found.st_size, found.st_mtime_ns)) != before:
                code = ended_with(log)
                self.read[task] = (now, code)
        return code

    def _judge(self, task: Task, ending: Ending | None, seconds: float) -> Ending | None:
        """Return how a task ended that has left the queue, or None while that is not known. The log decides
        where Slurm has forgotten the task, or reports it as running though its queue does not have it (an
        accounting that missed the end does so for ever).
        """
        if ending and ending.state in FINAL:
            return ending
        if seconds < _PATIENCE / 10:
            return None
        code = self._code(task)
        if code is not None:
            return Ending("FAILED" if code else "COMPLETED", code)
        # the controller keeps nothing about tasks that were cancelled while they waited
        if self.seen.get(task) == "PENDING" and not os.path.exists(self.request.log_of(self.tasks[task])):
            return Ending("GONE")
        return Ending("UNKNOWN") if seconds > _PATIENCE else None

    def ask(self, question, *arguments):
        """Return the scheduler's answer, however long it takes: jobs run on while the controller is away."""
        pauses, silent = doubled(min(2.0, self.poll), max(60.0, self.poll)), False
        while True:
            try:
                answer = question(*arguments)
            except Unreachable as error:
                if not silent:
                    self.say(
                        f"Slurm does not answer ({error}); jobs that run are not affected, waiting for it"
                    )
                silent = True
                time.sleep(next(pauses))
            else:
                if silent:
                    self.say("Slurm answers again")
                return answer

    def _say_waiting(self, live: dict, said: tuple[float, str]) -> tuple[float, str]:
        """Say now and then why nothing runs: a job that can never start looks like one that runs."""
        all_wait = live and all(state == "PENDING" for state, _ in live.values())
        text = ", ".join(sorted({reason for _, reason in live.values()}))
        if not all_wait or time.monotonic() - said[0] < _QUIET or text == said[1]:
            return said
        self.say(f"{len(live)} jobs wait in the queue, none runs: {text} (squeue --me; docs/slurm.md)")
        return time.monotonic(), text
