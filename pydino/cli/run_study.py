"""Run a study in the folder of its recipe: the cells of a grid, their table, and their figure.

../../steps/run_study.sh --nj 2 --model MODEL_DIR conf/studies/chunks.yaml

STUDY says what is varied (docs/transfer.md). Cells run side by side as the jobs of an array, each by the
ordinary steps, so that nothing is done twice and a call that was killed resumes. Needs the recipe's stages 0
to 2 (features of the task's sets), and 3 to 4 or 9 where its models are those of the recipe.
exp/studies/NAME gets cells/CELL/TASK/seedN with the files of any back-end, and RESULTS.md, study.svg,
results.json.
"""

import dataclasses
import shlex
import sys
from pathlib import Path

from pydino.base import ConfigError, UserError, load_config, log
from pydino.cli._arguments import PROJECT, WRAPPERS, integer, option
from pydino.cli.for_each import Failed, run_calls, signals_passed_on
from pydino.jobs.signals import Interrupted
from pydino.recipe import RunOptions, resolve
from pydino.recipe.study import Study
from pydino.recipe.study_calls import TRAIN_SSL, Jobs, StudyPlan


def add_arguments(parser):
    text = "recipe folder, with conf/ (default: the one whose conf/studies has STUDY)"
    option(parser, "--corpus-dir", "", text, metavar="DIR")
    option(parser, "--recipe-file", "", "(default: CORPUS_DIR/conf/recipe.yaml)", metavar="YAML")
    text = "a trained model folder instead of the recipe's models; may be repeated"
    option(parser, "--model", [], text, metavar="MODEL_DIR")
    text = "what the recipe's models start from, a release or model folder, as in run.sh --init"
    option(parser, "--init", "", text, metavar="DIR")
    option(parser, "--tag", "", "of the recipe's models, exp/MODEL_TAG (default: the recipe's name)")
    option(parser, "--nj", 1, "parallel jobs of an extraction", type=integer(1), metavar="N")
    option(parser, "--ngpu", 0, "GPUs of a training; 0: the CPU", type=integer(0), metavar="N")
    option(parser, "--num-threads", 1, "CPU threads of a training", type=integer(1), metavar="N")
    option(parser, "--cmd", "run_local.sh", WRAPPERS)
    option(parser, "--resamples", 1000, "of the bootstrap over speakers", type=integer(0))
    option(parser, "--dry-run", False, "print the commands, and run none")
    parser.add_argument("study", metavar="STUDY", help="conf/studies/NAME.yaml")


def run(args):
    plan = _plan(args)
    if args.dry_run:
        settings = {one.folder: ["epochs=AS_MANY_STEPS"] for one in plan.trainings()}
        sections = (plan.task_calls(), plan.data_calls(), plan.model_calls(settings), plan.cell_calls())
        for call in (call for section in sections for call in section):
            print(f"  {shlex.join(call.words)}")
        return 0
    plan.check()
    _check_settings(plan)
    count = len(plan.runs())
    log(f"{plan.study.name}: {len(plan.cells)} cells, {count} runs with all tasks and seeds")
    options = ["--num-threads", str(args.num_threads)] + (["--gpu", str(args.ngpu)] if args.ngpu else [])
    logs = f"{plan.folder}/log"
    try:
        with signals_passed_on() as received:
            run_calls([plan.task_calls(), plan.data_calls()], args.cmd, f"{logs}/tasks", received)
            models = plan.model_calls(_settings(plan))
            if models:
                run_calls([models], args.cmd, f"{logs}/models", received, options)
            run_calls([plan.cell_calls()], args.cmd, f"{logs}/cells", received, options)
    except Failed as failed:
        print(failed, file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        return 128 + interrupted.number
    _measure(plan, args.resamples)
    return 0


def _plan(args) -> StudyPlan:
    path = Path(args.study)
    study = load_config(Study, path)
    try:
        study = dataclasses.replace(study, name=study.name or path.stem)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    corpus_dir = Path(args.corpus_dir) if args.corpus_dir else path.resolve().parent.parent.parent
    if not args.recipe_file and not (corpus_dir / "conf/recipe.yaml").is_file():
        raise UserError(
            f"no {corpus_dir}/conf/recipe.yaml: the recipe of the study is that of the folder above its "
            "conf/studies, or of --corpus-dir"
        )
    options = RunOptions(
        str(corpus_dir),
        str(PROJECT / "conf"),
        args.recipe_file,
        stage="10",
        stop_stage="10",
        seeds=" ".join(map(str, study.seeds)),
        model=args.model,
        init=args.init,
        tag=args.tag,
    )
    try:
        return StudyPlan(resolve(options, False), study, Jobs(args.nj, args.ngpu, args.num_threads))
    except UserError as error:
        raise type(error)(f"{path}: {error}") from None


def _check_settings(plan: StudyPlan) -> None:
    """Check the configuration of every cell before any of them runs."""
    from pydino.recipe.tasks import TUNING
    from pydino.train.methods import load_training_config

    for cell in plan.cells:
        for name in TUNING.get(cell.mode, ()):
            load_training_config(plan.run.config(name), cell.settings)


def _settings(plan: StudyPlan) -> dict[str, list[str]]:
    """Folder of a training -> what gives it as many steps as the recipe's training has: its epochs, and what
    is scheduled in epochs, are longer by as much as its training set is smaller.
    """
    trainings = plan.trainings()
    if not trainings:
        return {}
    from pydino.train.methods import load_training_config

    whole = _utterances(TRAIN_SSL)
    found = {}
    for one in trainings:
        config = load_training_config(one.system.config)[1]
        of_whole, of_part = (steps_of_epoch(n, config.batch_size) for n in (whole, _utterances(one.data)))
        found[one.folder] = list(longer(config, of_whole / of_part))
    return found


def _utterances(data: str) -> int:
    return len(Path(data, "utt2spk").read_text(encoding="utf-8").splitlines())


def steps_of_epoch(utterances: int, batch_size: int) -> float:
    """Return the steps of an epoch; a batch is never larger than the training set."""
    return utterances / min(batch_size, utterances)


def longer(config, factor: float, prefix: str = ""):
    """Yield ``KEY=VALUE`` for every number of epochs in a configuration, each ``factor`` times as many."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from longer(value, factor, f"{prefix}{field.name}.")
        elif (field.name == "epochs" or field.name.endswith("_epochs")) and value:
            more = value * factor
            text = f"{max(1, round(more))}" if isinstance(value, int) else f"{more:.10g}"
            yield f"{prefix}{field.name}={text}"


def _measure(plan: StudyPlan, resamples: int) -> None:
    from pydino.report.studies import measure_study, write_study

    runs = [
        (cell.varied, task.name, [plan.out(cell, task, seed) for seed in plan.study.seeds])
        for cell in plan.cells
        for task in plan.tasks
    ]
    reference = plan.study.reference_of(plan.axes)
    axes = {axis: list(labels) for axis, labels in plan.axes.items()}
    measured = measure_study(plan.study.name, axes, reference, plan.study.seeds, runs, resamples)
    write_study(plan.folder, measured)
    log(f"{plan.folder}/RESULTS.md, {plan.folder}/study.svg")
