"""Run commands: many at once, each with a log, behind the command line of Kaldi's ``run.pl``.

:mod:`.options` reads that command line, :mod:`.script` makes one job's shell command of it, :mod:`.log`
writes what stands at the head and the foot of a log, :mod:`.attempt` knows what an earlier run has done
already, :mod:`.report` names what failed. Two back-ends stand on these: :mod:`.local` runs the jobs on this
machine, :mod:`.slurm` submits them. No torch here: a wrapper has to start at once.
"""

from .local import run_local
from .options import JobRequest, parse_request
from .script import shell_command, substitute
from .slurm import run_slurm, site_names

__all__ = [
    "JobRequest",
    "parse_request",
    "run_local",
    "run_slurm",
    "shell_command",
    "site_names",
    "substitute",
]
