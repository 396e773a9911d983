"""Train and test a classifier on frozen embeddings by cross-validation that keeps speakers apart.

steps/train_classifier.sh --task emotion --utt2spk data/emodb/utt2spk \\
  $dir/xvectors_emodb data/emodb/utt2emotion $dir/transfer/emotion

Classes: logistic regression; unweighted average recall, micro- and macro-F1, accuracy. Numbers: ridge
regression; mean absolute error. LABELS has a line `utt label` for each utterance, or `spk label` for each
speaker of --utt2spk. OUT_DIR gets predictions.txt (`utt label prediction`), utt2fold and TASK.result.json.
Intervals are 95 %, by bootstrap over speakers.
"""

import math
from pathlib import Path

import numpy as np

from pydino.backend import percentile_interval
from pydino.base import Step, UserError, log, nearest, warn, write_text
from pydino.cli._arguments import add_cmd, add_max_drop, option
from pydino.cli._embeddings import read_embeddings
from pydino.cli._results import value_text, write_results
from pydino.cli._steps import check_files, command_line, marks_of, run_or_submit
from pydino.cli.train_plda import labelled_places
from pydino.kaldi import read_utt2label

# Units of numbers by the name of the task.
UNITS = {"age": "years"}


def add_arguments(parser):
    parser.add_argument("--task", required=True, help="name in the results, such as emotion")
    option(parser, "--kind", "class", choices=["class", "number"])
    option(parser, "--folds", "speaker", "a number, or speaker: one out up to 10, else 10 folds")
    text = "without it, every utterance counts as a speaker of its own"
    option(parser, "--utt2spk", None, text, metavar="FILE")
    option(parser, "--unit", None, "of a number (default: years for age)")
    add_max_drop(parser, 0.05, "utterances that may lack a label or an embedding")
    option(parser, "--resamples", 1000, "of the bootstrap")
    option(parser, "--seed", 0, "of folds and bootstrap")
    add_cmd(parser)
    for name in ("xvector_dir", "labels", "out_dir"):
        parser.add_argument(name, metavar=name.upper())


def run(args):
    (step,) = steps(args)
    log_file = Path(args.out_dir) / "log" / "train_classifier.log"
    run_or_submit("train-classifier", step, args, lambda: _make(args), log_file)


def steps(args) -> list[Step]:
    """Return the step."""
    xvectors, out = Path(args.xvector_dir), Path(args.out_dir)
    reads = [xvectors / "xvector.scp", args.labels, *([args.utt2spk] if args.utt2spk else [])]
    check_files(*reads)
    return [
        Step(
            out / ".done",
            args.out_dir,
            version=2,
            options={
                "task": args.task,
                "kind": args.kind,
                "folds": args.folds,
                "unit": args.unit,
                "max_drop": args.max_drop,
                "resamples": args.resamples,
                "seed": args.seed,
            },
            reads=reads,
            optional=[xvectors / "meta.yaml"],
            after=marks_of(xvectors),
            outputs=[out / name for name in ("predictions.txt", "utt2fold", f"{args.task}.result.json")],
        )
    ]


def _make(args) -> None:
    from pydino.downstream import (
        assign_folds,
        bootstrap_classes,
        bootstrap_error,
        class_measures,
        default_fold_count,
        predict_classes,
        predict_numbers,
        speaker_confusions,
    )

    embeddings = read_embeddings(args.xvector_dir)
    speaker_of = _speakers(args, embeddings)
    label_of = _utterance_labels(args, embeddings, speaker_of)
    kept = labelled_places(embeddings, label_of, args.labels, args.max_drop)
    keys, vectors = [embeddings.keys[i] for i in kept], embeddings.vectors[kept]
    texts = [label_of[key] for key in keys]
    speaker_names, speakers = np.unique([speaker_of[key] for key in keys], return_inverse=True)
    if len(speaker_names) < 2:
        raise UserError(
            f"{args.labels}: all {len(keys)} utterances are of the single speaker {speaker_names[0]}; folds "
            "need two or more"
        )
    folds = _fold_count(args, default_fold_count(len(speaker_names)), len(speaker_names))
    if args.kind == "class":
        classes, labels = np.unique(texts, return_inverse=True)
        _check_classes(args.labels, classes, labels, speaker_names, speakers)
        fold_of = assign_folds(speakers, folds, labels, args.seed)
        _check_folds(args, classes, labels, fold_of)
        predicted = predict_classes(vectors, labels, speakers, fold_of, args.seed)
        confusions = speaker_confusions(labels, predicted, speakers, len(classes))
        resampled = bootstrap_classes(confusions, args.resamples, args.seed)
        measures = [
            (name, 100 * value, "percent", percentile_interval(100 * resampled[name]))
            for name, value in class_measures(confusions.sum(axis=0)).items()
        ]
        predictions, said = classes[predicted], f"{len(classes)} classes"
    else:
        values = _numbers(args.labels, keys, texts)
        fold_of = assign_folds(speakers, folds, None, args.seed)
        predicted = predict_numbers(vectors, values, speakers, fold_of, args.seed)
        errors = np.abs(values - predicted)
        interval = percentile_interval(bootstrap_error(errors, speakers, args.resamples, args.seed))
        unit = args.unit if args.unit is not None else UNITS.get(args.task, "")
        measures = [("mae", errors.mean(), unit, interval)]
        predictions, said = [f"{value:.4f}" for value in predicted], f"standard deviation {values.std():.2f}"
    out = Path(args.out_dir)
    lines = (f"{key} {text} {guess}\n" for key, text, guess in zip(keys, texts, predictions, strict=True))
    write_text(out / "predictions.txt", "".join(lines))
    write_text(out / "utt2fold", "".join(f"{key} {fold}\n" for key, fold in zip(keys, fold_of, strict=True)))
    common = {
        "task": args.task,
        "backend": "logreg" if args.kind == "class" else "ridge",
        "treatment": "raw",
        "labels": "train",
        "test_set": embeddings.meta.get("data") or str(args.xvector_dir),
        "n": len(keys),
        "folds": folds,
        "interval": f"95 %, {args.resamples} resamples of {len(speaker_names)} speakers, seed {args.seed}",
    }
    write_results(
        out / f"{args.task}.result.json",
        embeddings.meta,
        common,
        measures,
        command_line("train-classifier", args),
    )
    log(
        f"{args.task}: "
        + ", ".join(f"{name} {value_text(value, interval)}" for name, value, _, interval in measures)
        + f" ({len(keys)} utterances of {len(speaker_names)} speakers, {folds} folds, {said})"
    )


def _speakers(args, embeddings) -> dict[str, str]:
    if args.utt2spk is None:
        warn(
            "without --utt2spk every utterance counts as a speaker of its own: one person may be on both "
            "sides of a fold"
        )
        return {key: key for key in embeddings.keys}
    speaker_of = read_utt2label(args.utt2spk)
    unknown = [key for key in embeddings.keys if key not in speaker_of]
    if unknown:
        raise UserError(
            f"{args.utt2spk}: {len(unknown)} utterances of {embeddings.folder} have no speaker, first: "
            f"{unknown[0]}; add them"
        )
    return speaker_of


def _utterance_labels(args, embeddings, speaker_of) -> dict[str, str]:
    """Labels by utterance; a table keyed by speaker is spread over the speaker's utterances."""
    table = read_utt2label(args.labels)
    utterances, speakers = set(embeddings.keys), {speaker_of[key] for key in embeddings.keys}
    if any(key in utterances for key in table) or not any(key in speakers for key in table):
        if not any(key in utterances for key in table):
            first = next(iter(table), "")
            raise UserError(
                f"{args.labels}: no key is an utterance of {embeddings.folder} or one of its speakers, "
                "first: "
                f"{first}{nearest(first, embeddings.keys[:5000])}; speakers need --utt2spk"
            )
        return table
    unlabelled = sorted(speaker for speaker in speakers if speaker not in table)
    if unlabelled:
        log(
            f"{args.labels} is keyed by speaker; {len(unlabelled)} of {len(speakers)} speakers are not in "
            f"it, first: {unlabelled[0]}"
        )
    return {key: table[speaker_of[key]] for key in embeddings.keys if speaker_of[key] in table}


def _fold_count(args, default: int, speakers: int) -> int:
    if args.folds == "speaker":
        return default
    if not args.folds.isdecimal() or not 2 <= int(args.folds) <= speakers:
        raise UserError(
            f"--folds {args.folds}: give speaker, or a number from 2 to the number of speakers, {speakers}"
        )
    return int(args.folds)


def _check_classes(path, classes, labels, speaker_names, speakers) -> None:
    if len(classes) < 2:
        raise UserError(
            f"{path}: every utterance has the label {classes[0]}; a classifier needs two classes or more"
        )
    for number, name in enumerate(classes):
        holders = np.unique(speakers[labels == number])
        if len(holders) == 1:
            raise UserError(
                f"{path}: only the speaker {speaker_names[holders[0]]} has the class {name}: it cannot be "
                "learnt from other speakers; merge the class, or take it out of the labels"
            )


def _check_folds(args, classes, labels, fold_of) -> None:
    for fold in np.unique(fold_of):
        absent = np.setdiff1d(np.arange(len(classes)), labels[fold_of != fold])
        if len(absent):
            raise UserError(
                f"{args.labels}: all speakers of the class {classes[absent[0]]} fell into one of the folds, "
                "so it cannot be learnt for it; give more --folds, or another --seed"
            )


def _numbers(path, keys, texts) -> np.ndarray:
    values = np.empty(len(texts))
    for i, text in enumerate(texts):
        try:
            values[i] = float(text)
        except ValueError:
            values[i] = math.nan
        if not math.isfinite(values[i]):
            raise UserError(
                f"{path}: the label of {keys[i]} is '{text}', not a number; correct it, or use --kind class"
            )
    return values
