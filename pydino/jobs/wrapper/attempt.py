"""The record of an unfinished attempt at some jobs, so that a rerun does only those that failed or are
missing.

It lies beside the log (``log/make.JOB.log``: ``log/make.jobs.json``) from before the first job starts until
the last has succeeded, and holds a digest of everything that determines the jobs: the command as given, the
range, the log, the folder, and ``PYDINO_MADE_FROM``, the digest of all that a step makes its output from
(``Step.digest``). The logs of all jobs are moved aside before the record is written, so a log found beside
one with the same digest belongs to this attempt, and if it ends well its job is done.

Without ``PYDINO_MADE_FROM`` it is unknown whether the inputs are the same, and no job counts as done. With
``--force`` (``PYDINO_FORCE``, a token of the call) only what was done under the same token counts.

A lock beside the record keeps a second run from the same jobs and logs: it waits while the first lives.
(``x.JOB.log`` and ``x.log`` share a record, and a lock.)
"""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from pydino.base import Lock, UserError, force_token, is_forced, read_json, write_json

from .command import substitute
from .log import cannot_write, ended_with, is_device, put_aside
from .request import JobRequest


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
        jobs: the back-end's own part of the record: for Slurm, what was submitted.
        resumed: the record is that of an earlier, unfinished run of the same jobs.
    """

    def __init__(self, request: JobRequest):
        self.request = request
        self.path = beside_log(request, ".jobs.json")
        self.known_inputs = os.environ.get("PYDINO_MADE_FROM", "")
        numbers = (request.first, request.last)
        what = [request.command, request.variable, *numbers, request.log, os.getcwd(), self.known_inputs]
        self.digest = hashlib.sha256(json.dumps(what).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.jobs: list[dict] = []
        self.resumed = False
        self._lock = Lock(self.path.with_name(f".{self.path.name.removesuffix('.json')}.lock"))

    def __enter__(self):
        if is_device(self.request.log):
            return self  # nothing lies beside /dev/null, and all may write to it
        try:
            if self._lock.acquire():
                self._lock.wait(self.request.log)
        except OSError as error:
            raise cannot_write(self.request.log, error) from error
        with suppress(UserError, KeyError, TypeError, AttributeError):  # missing or unreadable
            record = read_json(self.path)
            same = record["digest"] == self.digest and not is_forced(record.get("forced"))
            self.jobs, self.resumed = list(record["jobs"]), same
        return self

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The lock, for processes that are to hold it as well."""
        return () if self._lock.descriptor is None else (self._lock.descriptor,)

    def __exit__(self, *_):
        self._lock.release()

    def todo(self) -> list[int]:
        """Return the jobs that are not known to be done."""
        if not (self.resumed and self.known_inputs):
            return list(self.request.numbers)
        return [number for number in self.request.numbers if ended_with(self.request.log_of(number)) != 0]

    def start(self) -> None:
        """Start over: put the logs aside, then write the record."""
        for number in self.request.numbers:
            put_aside(self.request.log_of(number))
        self.jobs, self.resumed = [], True
        self.write()

    def write(self) -> None:
        """Write the record as it is now."""
        if is_device(self.request.log):
            return
        forced = {"forced": force_token()} if force_token() else {}
        write_json(self.path, {"digest": self.digest, "jobs": self.jobs, **forced})

    def close(self) -> None:
        """All jobs have succeeded: the next call is another attempt."""
        self.path.unlink(missing_ok=True)
