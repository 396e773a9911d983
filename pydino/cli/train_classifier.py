"""Train and test a classifier on frozen embeddings, over the folds of a task.

steps/train_classifier.sh --classifier svm data/tasks/emotion $dir/xvectors_emodb $dir/transfer/emotion/svm

Classes: logreg (logistic regression), svm (linear), plda, mlp (one hidden layer). Numbers: ridge. What
regularises it is chosen inside the training part of each fold, by subject. TASK_DIR is made by
steps/make_task.sh; each of its data directories has an XVECTOR_DIR. OUT_DIR gets posteriors.txt,
predictions.txt, confusion.json and TASK.result.json, as docs/formats.md has them, and classifier/, a model
folder that classifies recordings, trained on all that the task has (not with plda).
"""

from pathlib import Path

import numpy as np

from pydino.base import Step, UserError, log, warn
from pydino.cli._arguments import add_cmd, add_max_drop, add_varied, option, options_of_study, varied_of
from pydino.cli._embeddings import check_silence, read_embeddings, read_overlap
from pydino.cli._steps import check_files, command_line, marks_of, options_of, run_or_submit
from pydino.recipe import CLASSIFIERS, STATISTICS


def add_arguments(parser):
    known = [name for of_kind in CLASSIFIERS.values() for name in of_kind]
    option(parser, "--classifier", "", "default: logreg, or ridge for numbers", choices=known)
    text = "embeddings of a set that stand beside the others', such as those of fbank-stats; repeatable"
    option(parser, "--append", [], text, metavar="XVECTOR_DIR")
    add_max_drop(parser, 0.05, "the task's utterances that may lack an embedding")
    option(parser, "--resamples", 1000, "of the bootstrap over speakers")
    option(parser, "--seed", 0, "of the bootstrap, and of what draws at random")
    add_varied(parser)
    add_cmd(parser)
    parser.add_argument("task_dir", metavar="TASK_DIR")
    parser.add_argument("xvector_dirs", metavar="XVECTOR_DIR", nargs="+", help="of each set of the task")
    parser.add_argument("out_dir", metavar="OUT_DIR")


def run(args):
    (step,) = steps(args)
    log_file = Path(args.out_dir) / "log" / "train_classifier.log"
    run_or_submit("train-classifier", step, args, lambda: _make(args, step), log_file)


def steps(args) -> list[Step]:
    """Return the step."""
    task, out = Path(args.task_dir), Path(args.out_dir)
    folders = [Path(folder) for folder in (*args.xvector_dirs, *args.append)]
    reads = [folder / "xvector.scp" for folder in folders]
    check_files(task / "task.yaml", *reads)
    return [
        Step(
            out / ".done",
            args.out_dir,
            version=4,
            options=options_of(args, "classifier", "max_drop", "resamples", "seed") | options_of_study(args),
            configs=[task / "task.yaml"],
            reads=[*reads, task / "utt2label", task / "utt2spk", *sorted(task.glob("fold.*"))],
            optional=[folder / "meta.yaml" for folder in folders],
            after=[task / ".done", *marks_of(*folders)],
            removes=[*out.glob("*.result.json")],
        )
    ]


def _make(args, step) -> None:
    from pydino.cli._final_classifier import write_final
    from pydino.cli._task_results import is_first, task_outputs, write_task_outputs
    from pydino.downstream import cross_predict, read_task, refuse_overlap

    task, out = read_task(args.task_dir), Path(args.out_dir)
    backend = args.classifier or ("logreg" if task.config.kind == "class" else "ridge")
    if (backend == "ridge") != (task.config.kind == "number"):
        raise UserError(f"--classifier {backend}: the task {task.path} has labels of kind {task.config.kind}")
    overlaps = [read_overlap(folder) for folder in args.xvector_dirs]
    refuse_overlap(task, task.tested, overlaps, task.config.transductive, is_first(out))
    vectors, meta = _vectors(args, task)
    if args.varied:
        meta = meta | {"varied": (meta.get("varied") or {}) | varied_of(args), "seed": args.seed}
    outputs = cross_predict(task, backend, vectors, args.seed)
    treatment = "with statistics" if args.append else "raw"
    write_task_outputs(
        out,
        task,
        outputs,
        meta,
        backend=backend,
        treatment=treatment,
        command=command_line("train-classifier", args),
        resamples=args.resamples,
        seed=args.seed,
    )
    step.outputs = task_outputs(out, task)
    others = {read_embeddings(folder).meta.get("model") for folder in args.append} - {STATISTICS[0]}
    if others:
        log(f"{out}: no classifier folder, as it cannot compute the vectors of --append: not {STATISTICS[0]}")
    else:
        step.outputs += write_final(
            out / "classifier", task, backend, vectors, meta, bool(args.append), args.seed
        )


def _vectors(args, task) -> tuple[dict[str, np.ndarray], dict]:
    """Utterance of the task -> its vector, with those of ``--append`` beside it; whose the embeddings are."""
    sets = [read_embeddings(folder) for folder in args.xvector_dirs]
    beside = [read_embeddings(folder) for folder in args.append]
    for folder in (*sets, *beside):
        check_silence(folder, task)
    if len(dims := {folder.dim for folder in sets}) > 1:
        raise UserError(f"{sets[0].folder} and the others have embeddings of {sorted(dims)} dimensions")
    found = _of_utterances(sets, task, args.max_drop)
    if not beside:
        return found, sets[0].meta
    added = _of_utterances(beside, task, args.max_drop)
    both = {name: np.concatenate([found[name], added[name]]) for name in found if name in added}
    return both, sets[0].meta


def _of_utterances(sets, task, max_drop: float) -> dict[str, np.ndarray]:
    found = {
        key: vector
        for folder in sets
        for key, vector in zip(folder.keys, folder.vectors, strict=True)
        if key in task.labels
    }
    absent = [name for name in task.labels if name not in found]
    if absent:
        said = (
            f"{len(absent)} of {len(task.labels)} utterances of {task.path} have no embedding in "
            f"{' '.join(str(folder.folder) for folder in sets)} (first: {absent[0]})"
        )
        if len(absent) > max_drop * len(task.labels):
            raise UserError(f"{said}; extract them, or allow more with --max-drop")
        warn(f"dropped: {said}")
    return found
