"""What is known of an earlier, unfinished attempt at the same jobs, so that a rerun does only those that
failed or are missing.

A record beside the log (``log/make.JOB.log``: ``log/make.jobs.json``) exists while an attempt has begun and
not ended well: it is written before the first job starts and removed after the last has succeeded. It holds a
digest of all that makes the jobs what they are. A job of the same attempt whose log ends well is done; this
is how it cannot be mistaken:

* The logs of all jobs are moved aside (``.1``) before the record is written, so a log that lies there is of
  this attempt.
* The digest holds the command as it was given, the range, the log, the folder, and ``PYDINO_MADE_FROM``, in
  which a step passes on the digest of everything its output is made from (``Step.digest``):
  other inputs or options are another attempt.
* Without ``PYDINO_MADE_FROM`` nobody knows whether the inputs are the same, and no job counts as done. With
  ``--force`` (``PYDINO_FORCE``, a token of the call) only what was done under the same token does.
* After the last job has succeeded the record is gone: a step calls its wrapper again only if its done-mark is
  stale or its output lost.

A lock beside the record keeps a second run from the same jobs and logs as long as the first is alive.
(``x.JOB.log`` and ``x.log`` have one record, and one lock.)
"""

import fcntl
import hashlib
import json
import os
import socket
from pathlib import Path

from pydino.base import UserError, force_token, is_forced, read_json, write_json

from .log import ended_well, is_device, put_aside
from .options import JobRequest
from .script import substitute


def beside_log(request: JobRequest, ending: str) -> Path:
    """Return a path beside the log for what all jobs share: ``log/make.JOB.log`` and ``.jobs.json`` give
    ``log/make.jobs.json``.
    """
    folder, name = os.path.split(request.log)
    if request.variable:
        name = substitute(name, request.variable, "")
        while folder and substitute(folder, request.variable, "") != folder:  # split4/JOB/log
            folder, inner = os.path.split(folder)
            name = f"{substitute(inner, request.variable, '')}.{name}"
    stem = ".".join(filter(None, name.removesuffix(".log").split("."))) or "all"
    return Path(folder or ".", stem + ending)


class Attempt:
    """The record of one attempt, for as long as the ``with`` block lasts.

    Attributes:
        jobs: the back-end's own part of it, kept as it is: for Slurm, what was submitted.
        resumed: the record is of an earlier, unfinished run of the same.
    """

    def __init__(self, request: JobRequest):
        self.request = request
        self.path = beside_log(request, ".jobs.json")
        self.known_inputs = os.environ.get("PYDINO_MADE_FROM", "")
        what = [
            request.command,
            request.variable,
            request.first,
            request.last,
            request.log,
            os.getcwd(),
            self.known_inputs,
        ]
        self.digest = hashlib.sha256(json.dumps(what).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.jobs: list[dict] = []
        self.resumed = False
        self._lock = None

    def __enter__(self):
        if is_device(self.request.log):
            return self  # nothing lies beside /dev/null, and all may write to it
        self._lock = self._take_lock(self.path.with_name(f".{self.path.name.removesuffix('.json')}.lock"))
        if self.path.exists():
            self._read()
        return self

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The lock, for those who are to hold it beside us."""
        return (self._lock.fileno(),) if self._lock else ()

    def __exit__(self, *_):
        if self._lock is not None:
            Path(self._lock.name).unlink(missing_ok=True)  # a job may have removed its folder
            self._lock.close()

    def _take_lock(self, path: Path):
        """Return an open file whose lock keeps others away.

        Raises:
            UserError: another run has it, or the folder cannot be written.
        """
        while True:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                held = open(path, "a+")
            except OSError as error:
                where = f"cannot write the log {self.request.log}: {error.strerror}"
                raise UserError(f"{where}; free some space or choose another place") from error
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                held.seek(0)
                who = held.read().strip() or "another process"
                raise UserError(
                    f"{who} is at the jobs of {self.request.log}: wait for it, or end it"
                ) from None
            except OSError:
                pass  # a filesystem without locks
            try:
                if os.path.samestat(os.stat(path), os.fstat(held.fileno())):
                    break
            except FileNotFoundError:
                pass
            held.close()  # the one before was just removing it
        held.truncate(0)
        held.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        held.flush()
        return held

    def _read(self) -> None:
        try:
            record = read_json(self.path)
            self.jobs, self.resumed = (
                list(record["jobs"]),
                record["digest"] == self.digest and not is_forced(record.get("forced")),
            )
        except (UserError, KeyError, TypeError, AttributeError):
            pass  # it cannot be read: nothing is known

    def todo(self) -> list[int]:
        """Return the jobs that are not known to be done."""
        if not (self.resumed and self.known_inputs):
            return list(self.request.numbers)
        return [number for number in self.request.numbers if not ended_well(self.request.log_of(number))]

    def begin(self) -> None:
        """Begin afresh: put the logs aside, then write the record."""
        for number in self.request.numbers:
            put_aside(self.request.log_of(number))
        self.jobs, self.resumed = [], True
        self.write()

    def write(self) -> None:
        """Write the record as it is now."""
        if is_device(self.request.log):
            return
        numbers = [self.request.first, self.request.last]
        command = " ".join(self.request.command).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        forced = {"forced": force_token()} if force_token() else {}
        write_json(
            self.path,
            {"digest": self.digest, "command": command, "range": numbers, "jobs": self.jobs, **forced},
        )

    def close(self) -> None:
        """All jobs have succeeded: the next call is another attempt."""
        self.path.unlink(missing_ok=True)
