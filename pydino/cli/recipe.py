"""Check the options of run.sh and its recipe (conf/recipe.yaml), and print them resolved, as assignments
for bash.

The context that pydino for-each takes is one of them.
"""

import dataclasses
import json
import os
import shlex
import subprocess
import sys

from pydino.base import UserError, set_program
from pydino.recipe import Run, RunOptions, resolve
from pydino.recipe.options import check_in_place

from . import boolean


def add_arguments(parser):
    for option in dataclasses.fields(RunOptions):
        name = f"--{option.name.replace('_', '-')}"
        if option.type is bool:
            parser.add_argument(name, type=boolean, default=False)
        elif option.type is str:
            default = None if option.default is dataclasses.MISSING else option.default
            parser.add_argument(name, default=default, required=default is None)
        else:
            parser.add_argument(name, action="append", default=[])
    parser.add_argument("--backend", default="local", help="of cmd.sh: local or slurm (default: %(default)s)")
    parser.add_argument("--cuda-cmd", default="run_local.sh", help="of cmd.sh: how training is run")


def run(args):
    set_program("run.sh")
    options = RunOptions(
        **{field.name: getattr(args, field.name) for field in dataclasses.fields(RunOptions)}
    )
    try:
        wanted = resolve(options, several_machines=not _is_local(args.cuda_cmd))
        work = os.path.abspath(options.work_dir or options.corpus_dir)
        try:
            os.makedirs(work, exist_ok=True)
            os.chdir(work)
        except OSError as error:
            raise UserError(
                f"cannot make the folder {work}: {error.strerror}; give --work-dir a place where you may "
                "write"
            ) from None
        check_in_place(wanted)
    except UserError as error:
        print(f"run.sh: {error}", file=sys.stderr)
        return 1
    values = {
        "work_dir": work,
        "ngpu": options.ngpu if options.ngpu != "-1" else str(_gpus(args.backend)),
        **{f"recipe[{name}]": value for name, value in _summary(wanted).items()},
    }
    for name, value in values.items():
        print(f"{name}={shlex.quote(value)}")
    return 0


def _summary(wanted: Run) -> dict[str, str]:
    """What run.sh itself says or asks for."""
    recipe = wanted.recipe
    return {
        "name": recipe.name,
        "tag": wanted.tag,
        "stages": " ".join(map(str, recipe.stages)),
        "to_run": " ".join(str(stage) for stage in recipe.stages if wanted.runs(stage)),
        "sets": ",".join(recipe.sets),
        "train_sets": ",".join(recipe.train_set.sets),
        "supervised": ",".join(recipe.supervised.models),
        "context": json.dumps(dataclasses.asdict(wanted), ensure_ascii=False),
    }


def _is_local(wrapper: str) -> bool:
    return os.path.basename((wrapper.split() or [""])[0]) in ("run_local.sh", "run.pl")


def _gpus(backend: str) -> int:
    """How many GPUs to use where the user does not say: those of this machine, or one of a cluster that has
    some.
    """
    if backend != "slurm":
        from pydino.jobs.gpus import visible_gpus

        return len(visible_gpus())
    try:
        listing = subprocess.run(
            ["sinfo", "-h", "-o", "%G"], capture_output=True, text=True, timeout=60
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return int("gpu" in listing)
