"""Run commands: many at once, each with a log, behind the command line of Kaldi's ``run.pl``.

:mod:`.options` reads that command line, :mod:`.script` makes one job's shell command of it, :mod:`.log` writes what stands at the
head and the foot of a log; :mod:`.local` is a back-end that runs the jobs on this machine. Another back-end needs only to replace
the last. No torch here: a wrapper has to start at once.
"""

from .local import run_local
from .options import JobRequest, parse_request
from .script import shell_command, substitute

__all__ = ["JobRequest", "parse_request", "run_local", "shell_command", "substitute"]
