"""What is known of an earlier, unfinished attempt at the same jobs, so that a rerun does only those that failed or are missing.

A record beside the log (``log/make.JOB.log``: ``log/make.jobs.json``) exists while an attempt has begun and not ended well: it is
written before the first job starts and removed after the last has succeeded. It holds a digest of all that makes the jobs what they
are. A job of the same attempt whose log ends well is done; this is how it cannot be mistaken:

* The logs of all jobs are moved aside (``.1``) before the record is written, so a log that lies there is of this attempt.
* The digest holds the command as it was given, the range, the log, the folder, and ``PYDINO_MADE_FROM``, in which a step passes on
  the digest of everything its output is made from (``pydino mark check`` prints it): other inputs or options are another attempt.
* Without ``PYDINO_MADE_FROM`` nobody knows whether the inputs are the same, and no job counts as done. Nor does any with
  ``PYDINO_FORCE=true``.
* After the last job has succeeded the record is gone: a step calls its wrapper again only if its done-mark is stale or its output lost.
"""

import hashlib
import json
import os
from pathlib import Path

from pydino.base import UserError, read_json, write_json

from .log import ended_well, put_aside
from .options import JobRequest
from .script import substitute


def beside_log(request: JobRequest, ending: str) -> Path:
    """Return a path beside the log for what all jobs share: ``log/make.JOB.log`` and ``.jobs.json`` give ``log/make.jobs.json``."""
    folder, name = os.path.split(request.log)
    if request.variable:
        name = substitute(name, request.variable, "")
        while folder and substitute(folder, request.variable, "") != folder:  # split4/JOB/log
            folder, inner = os.path.split(folder)
            name = f"{substitute(inner, request.variable, '')}.{name}"
    stem = ".".join(filter(None, name.removesuffix(".log").split("."))) or "all"
    return Path(folder or ".", stem + ending)


class Attempt:
    """The record of one attempt. ``jobs`` is the back-end's own part of it, kept as it is: for Slurm, what was submitted."""

    def __init__(self, request: JobRequest):
        self.request = request
        self.path = beside_log(request, ".jobs.json")
        self.known_inputs = os.environ.get("PYDINO_MADE_FROM", "")
        self.forced = os.environ.get("PYDINO_FORCE") == "true"
        what = [request.command, request.variable, request.first, request.last, request.log, os.getcwd(), self.known_inputs]
        self.digest = hashlib.sha256(json.dumps(what).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.jobs: list[dict] = []
        self.resumed = False
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        try:
            record = read_json(self.path)
            self.jobs, digest = list(record["jobs"]), record["digest"]
        except (UserError, KeyError, TypeError):
            return  # not ours, or of another version: as if it were not there
        self.resumed = digest == self.digest and not self.forced

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
        numbers = [self.request.first, self.request.last]
        write_json(self.path, {"digest": self.digest, "command": " ".join(self.request.command), "range": numbers, "jobs": self.jobs})

    def close(self) -> None:
        """All jobs have succeeded: the next call is another attempt."""
        self.path.unlink(missing_ok=True)
