"""Train and test a classifier on frozen embeddings by cross-validation that keeps speakers apart.

steps/train_classifier.sh --task emotion --utt2spk data/emodb/utt2spk \\
  $dir/xvectors_emodb data/emodb/utt2emotion $dir/transfer/emotion

Classes: logistic regression; unweighted average recall, micro- and macro-F1, accuracy. Numbers: ridge
regression; mean absolute error. LABELS has a line `utt label` for each utterance, or `spk label` for each
speaker of --utt2spk. OUT_DIR gets predictions.txt (`utt label prediction`), utt2fold and TASK.result.json.
Intervals are 95 %, by bootstrap over speakers.
"""

from pathlib import Path

import numpy as np

from pydino.base import Step, UserError, log, nearest, warn, write_text
from pydino.cli._arguments import add_cmd, add_max_drop, option
from pydino.cli._embeddings import read_embeddings
from pydino.cli._results import value_text, write_results
from pydino.cli._steps import check_files, command_line, marks_of, options_of, run_or_submit
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
            options=options_of(args, "task", "kind", "folds", "unit", "max_drop", "resamples", "seed"),
            reads=reads,
            optional=[xvectors / "meta.yaml"],
            after=marks_of(xvectors),
            removes=[out / f"{args.task}.result.json"],
            outputs=[out / name for name in ("predictions.txt", "utt2fold", f"{args.task}.result.json")],
        )
    ]


def _make(args) -> None:
    from pydino.downstream import (
        LabelledEmbeddings,
        cross_validate_classes,
        cross_validate_numbers,
        default_fold_count,
    )

    embeddings = read_embeddings(args.xvector_dir)
    speaker_of = _speakers(args, embeddings)
    label_of = _utterance_labels(args, embeddings, speaker_of)
    kept = embeddings.labelled(label_of, args.labels, args.max_drop)
    keys = [embeddings.keys[i] for i in kept]
    names, speakers = np.unique([speaker_of[key] for key in keys], return_inverse=True)
    if len(names) < 2:
        raise UserError(
            f"{args.labels}: all {len(keys)} utterances are of the single speaker {names[0]}; folds need two "
            "or more"
        )
    folds = _fold_count(args, default_fold_count(len(names)), len(names))
    texts = [label_of[key] for key in keys]
    data = LabelledEmbeddings(keys, embeddings.vectors[kept], texts, speakers, names, args.labels)
    if args.kind == "class":
        done = cross_validate_classes(data, folds, args.resamples, args.seed)
    else:
        unit = args.unit if args.unit is not None else UNITS.get(args.task, "")
        done = cross_validate_numbers(data, folds, args.resamples, args.seed, unit)
    out = Path(args.out_dir)
    lines = (
        f"{key} {text} {guess}\n" for key, text, guess in zip(keys, texts, done.predictions, strict=True)
    )
    write_text(out / "predictions.txt", "".join(lines))
    write_text(
        out / "utt2fold", "".join(f"{key} {fold}\n" for key, fold in zip(keys, done.fold_of, strict=True))
    )
    common = {
        "task": args.task,
        "backend": "logreg" if args.kind == "class" else "ridge",
        "treatment": "raw",
        "labels": "train",
        "test_set": embeddings.meta.get("data") or str(args.xvector_dir),
        "n": len(keys),
        "folds": folds,
        "interval": f"95 %, {args.resamples} resamples of {len(names)} speakers, seed {args.seed}",
    }
    path, command = out / f"{args.task}.result.json", command_line("train-classifier", args)
    write_results(path, embeddings.meta, common, done.measures, command)
    log(
        f"{args.task}: "
        + ", ".join(f"{name} {value_text(value, interval)}" for name, value, _, interval in done.measures)
        + f" ({len(keys)} utterances of {len(names)} speakers, {folds} folds, {done.about})"
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
