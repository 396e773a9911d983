"""Checks before a classifier is fine-tuned, so that mistakes are not found by the jobs of the folds."""

from pathlib import Path

from pydino.base import UserError, read_yaml, warn
from pydino.cli._embeddings import check_silence, read_embeddings
from pydino.cli._steps import check_files, real_name
from pydino.jobs.submit import check_wrapper
from pydino.kaldi import read_table
from pydino.recipe import STATISTICS


def check_call(args, folds: list[str]) -> None:
    """Find mistakes in the arguments before anything is submitted.

    Args:
        args: of the verb finetune.
        folds: of the task.
    """
    if not args.config:
        raise UserError("give --config YAML, the training; for affine-then-all two of them, in order")
    for config in args.config:
        method = read_yaml(config).get("method")
        if method != "classifier":
            raise UserError(f"{config}: its method is {method!r}; fine-tuning takes method: classifier")
    names = [Path(config).stem for config in args.config]
    if len(set(names)) < len(names):
        raise UserError(f"--config: two files are called {names[0]}; their runs need folders of their own")
    check_files(*(f"{data}/feats.scp" for data in args.data))
    unknown = [fold for fold in args.fold if fold not in folds]
    if unknown:
        raise UserError(f"{args.task} has no fold '{unknown[0]}'; it has {', '.join(folds)}")
    check_wrapper(args.cmd)


def check_task(args) -> None:
    """Find mistakes that need the task's tables or the trainings' configurations."""
    from pydino.downstream import read_task
    from pydino.downstream.tuning import check_trainings

    task = read_task(args.task)
    check_trainings(trainings(args), task.config.kind)
    given = {real_name(data): read_table(Path(data, "feats.scp")) for data in args.data}
    if lacking := sorted(set(task.sets.values()) - given.keys()):
        raise UserError(f"{args.task}: its utterances are also of {', '.join(lacking)}; give that DATA, too")
    there = [key for key in task.labels if key in given[task.sets[key]]]
    if len(there) < len(task.labels):
        absent = next(key for key in task.labels if key not in given[task.sets[key]])
        said = (
            f"{len(task.labels) - len(there)} of {len(task.labels)} utterances of {args.task} have no "
            f"features in {' '.join(args.data)} (first: {absent})"
        )
        if len(there) < (1 - args.max_drop) * len(task.labels):
            raise UserError(f"{said}; make them, or allow more with --max-drop")
        warn(f"dropped: {said}")
    beside = [read_embeddings(folder) for folder in args.statistics]
    for embedded in beside:
        check_silence(embedded, task)
        if embedded.meta and (model := embedded.meta.get("model")) != STATISTICS[0]:
            raise UserError(f"--statistics {embedded.folder}: these are of {model}, not of {STATISTICS[0]}")
    known = {key for embedded in beside for key in embedded.keys}
    if beside and (absent := [key for key in there if key not in known]):
        raise UserError(f"--statistics: no vector for {len(absent)} utterances, such as {absent[0]}")


def trainings(args) -> list[tuple]:
    """The trainings, in order: name and configuration."""
    from pydino.train import load_training_config

    return [(Path(config).stem, load_training_config(config, args.set)[1]) for config in args.config]


def refuse_training_audio(args) -> None:
    """Refuse a model that was trained on test recordings of the task; random weights were not."""
    from pydino.cli._task_results import is_first
    from pydino.downstream import read_task, refuse_overlap
    from pydino.infer import overlap

    task, overlaps = read_task(args.task), []
    for data in args.data if args.mode != "from-scratch" else ():
        # what has no features has no hash, and is not tested
        there, name = read_table(Path(data, "feats.scp")), real_name(data)
        tested = [key for key in task.tested if task.sets[key] == name and key in there]
        overlaps.append(overlap(args.model, data, tested))
    refuse_overlap(task, task.tested, overlaps, task.config.transductive, is_first(args.out))
