"""The script of a Slurm job: the command of every task, between a head and a foot like those of a local
log.
"""

import os
import re
import shlex

from ..wrapper.attempt import beside_log
from ..wrapper.request import JobRequest

# Which environment jobs get is up to the site (--export); these they need in any case.
_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LC_ALL", "PYTHONUTF8", "OMP_WAIT_POLICY")

_BODY = r"""
id=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
date_format='+%a %b %e %H:%M:%S %Z %Y'
node=${SLURMD_NODENAME:-$(hostname)}
printf '# %s\n# Running on %s, Slurm job %s\n# Started at %s\n#\n' \
  "$command" "$node" "$id" "$(date "$date_format")"
cd -- "$folder" || { echo "the node has no $folder: it has to be on a disk that all nodes share"; exit 1; }
SECONDS=0
# TERM (scancel, a time limit, a pre-emption) reaches the command too: it is given the time to save, and
# the log its foot.
trap : TERM
bash -o pipefail -c "$command" < /dev/null
code=$?
exec 3>&1
[ -z "$(tail -c 1 /proc/self/fd/3 2>/dev/null)" ] || echo
echo "# Accounting: time=$SECONDS threads=$threads"
echo "# Ended (code $code) at $(date "$date_format"), elapsed time $SECONDS seconds"
exit "$code"
"""


def script_path(request: JobRequest) -> str:
    """Return the absolute path of the script, beside the log."""
    return os.path.abspath(beside_log(request, ".slurm.sh"))


def job_script(request: JobRequest, numbers: list[int], submitted_with: list[str]) -> str:
    """Return the text of a script that runs the task that ``SLURM_ARRAY_TASK_ID`` names, or the only one.

    The commands are written out, one a task, so that nothing is substituted on the node.
    """
    name = re.sub(r"[^\w.-]", "_", beside_log(request, "").name)  # a site's own option takes precedence
    tasks = [f"{number}) command={_quote(request.command_of(number))} ;;\n" for number in numbers]
    return "".join(
        [
            f"#!/usr/bin/env bash\n#SBATCH --job-name={name}\n",
            "# Written by run_slurm.sh, which submitted it with:\n",
            "".join(f"# {line}\n" for line in shlex.join(submitted_with).splitlines()),
            exports(),
            f"export OMP_NUM_THREADS={request.num_threads}\nthreads=$OMP_NUM_THREADS\n",
            f"folder={_quote(os.getcwd())}\n",
            f"case ${{SLURM_ARRAY_TASK_ID:-{numbers[0]}}} in\n",
            *tasks,
            "esac",
            _BODY,
        ]
    )


def exports() -> str:
    """Return the lines that give a job the variables of this environment that it needs."""
    names = [name for name in os.environ if name in _VARIABLES or name.startswith("PYDINO_")]
    return "".join(
        f"export {name}={_quote(os.environ[name])}\n" for name in sorted(names) if name != "PYDINO_MADE_FROM"
    )


def _quote(text: str) -> str:
    """Quote for bash; sbatch takes a carriage return anywhere in a script for a DOS line end, and refuses
    it.
    """
    return shlex.quote(text).replace("\r", "'$'\\r''")
