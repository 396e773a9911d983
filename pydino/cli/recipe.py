"""Check the options of run.sh and its recipe (conf/recipe.yaml), and print them resolved, as assignments
for bash.

The context that pydino for-each takes is one of them.
"""

import dataclasses
import json
import os
import shlex
import sys

from pydino.base import UserError, set_program
from pydino.jobs.resources import num_gpus, runs_here
from pydino.recipe import Run, RunOptions, resolve
from pydino.recipe.options import check_in_place, recipe_path

from ._arguments import option
from ._configurations import check_configurations


def add_arguments(parser):
    for field in dataclasses.fields(RunOptions):
        name = f"--{field.name.replace('_', '-')}"
        if field.type is str and field.default is dataclasses.MISSING:
            parser.add_argument(name, required=True)
        else:
            option(parser, name, {bool: False, str: field.default}.get(field.type, []))
    option(parser, "--cuda-cmd", "run_local.sh", "of cmd.sh: how training is run")


def run(args):
    set_program("run.sh")
    options = RunOptions(
        **{field.name: getattr(args, field.name) for field in dataclasses.fields(RunOptions)}
    )
    try:
        wanted = resolve(options, several_machines=not runs_here(args.cuda_cmd))
        file = recipe_path(options)
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
        if not options.list:
            check_configurations(wanted)
    except UserError as error:
        print(f"run.sh: {error}", file=sys.stderr)
        return 1
    values = {
        "work_dir": work,
        "recipe[file]": file,
        "ngpu": options.ngpu if options.ngpu != "-1" else str(num_gpus(args.cuda_cmd)),
        **{f"recipe[{name}]": value for name, value in _summary(wanted).items()},
    }
    for name, value in values.items():
        print(f"{name}={shlex.quote(value)}")
    return 0


def _summary(wanted: Run) -> dict[str, str]:
    """What run.sh itself uses."""
    recipe = wanted.recipe
    return {
        "name": recipe.name,
        "tag": wanted.tag,
        "stages": " ".join(map(str, recipe.stages)),
        "to_run": " ".join(str(stage) for stage in recipe.stages if wanted.runs(stage)),
        "sets": ",".join(recipe.sets),
        "train_sets": ",".join(recipe.train_set.sets),
        "supervised": ",".join(recipe.supervised.models),
        "rounds": " ".join(one.name for one in recipe.rounds),
        "context": json.dumps(dataclasses.asdict(wanted), ensure_ascii=False),
    }
