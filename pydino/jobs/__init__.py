"""Run commands: many at once, each with a log, behind the command line of Kaldi's ``run.pl``.

* ``wrapper/``: that command line, logs, the record of an unfinished attempt, and the local back-end;
* ``slurm/``: the Slurm back-end;
* ``launch/``: the processes of a distributed training, on one machine or every node of a job;
* ``pipeline/``: a recipe that runs detached from the terminal, and the status of its jobs.

Beside them: what this machine has (``machine``), which of it a wrapper's jobs can have (``resources``), its
processes, and signals. No torch here: a wrapper has to start at once.
"""

from .slurm.backend import run_slurm, site_names
from .wrapper.local import run_local
from .wrapper.request import JobRequest, parse_request

__all__ = ["JobRequest", "parse_request", "run_local", "run_slurm", "site_names"]
