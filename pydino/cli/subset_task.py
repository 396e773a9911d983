"""Make a task folder of a share of the labels, to see what fewer of them cost.

steps/subset_task.sh --share 0.1 --seed 0 data/tasks/emotion exp/studies/labels/tasks/emotion_0.1

Of the training part and of the development part of each fold, a share of the units (utterances, recordings or
subjects) is kept, of each class by itself and at least one of each. A larger share of the same seed holds
every smaller one. Test parts stay whole. The fold of the classifier that is given away, final, is left out.
"""

from dataclasses import replace
from pathlib import Path

from pydino.base import Step, UserError, log
from pydino.cli._arguments import option
from pydino.cli._steps import check_files, options_of


def add_arguments(parser):
    option(parser, "--share", 1.0, "of the labelled units, above 0 and up to 1")
    option(parser, "--seed", 0, "of the units that are kept")
    parser.add_argument("source", metavar="TASK_DIR", help="made by steps/make_task.sh")
    parser.add_argument("target", metavar="NEW_TASK_DIR")


def run(args):
    (step,) = steps(args)
    if step.is_done():
        return
    if Path(args.source).resolve() == Path(args.target).resolve():
        raise UserError(f"{args.target} is read and would be written; give another folder")
    from pydino.downstream import read_task, write_task
    from pydino.downstream.label_share import folds_with_fewer_labels

    with step:
        task = read_task(args.source)
        folds = folds_with_fewer_labels(task, args.share, args.seed)
        tables = {
            "utt2label": task.labels,
            "utt2spk": task.speakers,
            "utt2unit": task.units,
            "utt2set": task.sets,
            **({"utt2group": task.groups} if task.groups else {}),
        }
        division = task.config.division
        if args.share < 1:
            division += f"; {100 * args.share:g} % of the labels to train and to choose by, seed {args.seed}"
        write_task(args.target, replace(task.config, division=division), tables, folds)
        names = [*tables, *(f"fold.{name}" for name in folds), "task.yaml"]
        step.outputs = [Path(args.target) / name for name in names]
        kept = [sum(part == "train" for part in fold.values()) for fold in folds.values()]
        log(f"{args.target}: {min(kept)} to {max(kept)} utterances to train on, in {len(folds)} folds")


def steps(args) -> list[Step]:
    """Return the step."""
    if not 0 < args.share <= 1:
        raise UserError(f"--share must be above 0 and up to 1, got {args.share:g}")
    source, target = Path(args.source), Path(args.target)
    check_files(source / "task.yaml")
    tables = ["task.yaml", "utt2label", "utt2spk", "utt2unit", "utt2set"]
    return [
        Step(
            target / ".done",
            args.target,
            options=options_of(args, "share", "seed"),
            reads=[source / name for name in tables] + sorted(source.glob("fold.*")),
            optional=[source / "utt2group"],
        )
    ]
