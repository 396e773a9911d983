"""Measure the snapshots of a training run, while it goes on or afterwards: verification and nearest
neighbours.

pydino monitor exp/dino_mini/seed0 --data data/test --trials data/test/trials --watch true

Each snapshot's teacher and student (EXP/snapshots/epochNNNN, and the final models) embed every utterance of
the trials once. A line says the equal error rate (cosine) and how often the ten nearest neighbours elect the
right label; EXP/monitor.jsonl and TensorBoard (EXP/tensorboard/monitor) get the same. What is in
monitor.jsonl is not measured again.

This reads labels, and may: training never reads what is written here. Choose no snapshot by the trials that
you report on.
"""

import hashlib
import time
from pathlib import Path

from pydino.base import UserError, log
from pydino.cli._arguments import add_device, option
from pydino.kaldi import read_utt2label
from pydino.kaldi.trials import read_trials


def add_arguments(parser):
    parser.add_argument("exp", metavar="EXP", help="folder of a training run")
    text = "data directory with feats.scp, and vad.scp where the model needs it"
    parser.add_argument("--data", required=True, metavar="DATA", help=text)
    text = "lines `enroll test target|nontarget` of utterances of DATA"
    parser.add_argument("--trials", required=True, metavar="TRIALS", help=text)
    option(parser, "--labels", None, "what neighbours vote on (default: DATA/utt2spk)", metavar="UTT2LABEL")
    option(parser, "--watch", False, "wait for more until the run is finished")
    option(parser, "--interval", 30.0, "between looks, when watching (default: 30)", metavar="SECONDS")
    add_device(parser)
    option(parser, "--threads", 1, "CPU threads (default: 1, to leave the others to the training)")


def run(args):
    import torch

    from pydino.train.evaluation import Evaluation, Journal, measure
    from pydino.train.exp_dir import DONE, is_at_work
    from pydino.train.snapshots import snapshots

    torch.set_num_threads(args.threads)
    exp, args.labels = Path(args.exp), args.labels or f"{args.data}/utt2spk"
    if not exp.is_dir():
        raise UserError(f"no such folder {exp}; steps/train.sh makes it, a moment after it starts")
    evaluation = Evaluation(args.data, *_trials_and_labels(args), args.device, _about(args))
    journal = Journal(exp)
    found, idle = 0, False
    skipped: set[Path] = set()
    while True:
        # Checked before the snapshots: what is written in between is for the next round.
        finished = (exp / DONE).exists()
        for snapshot in snapshots(exp, finished or not args.watch):
            found += measure(snapshot, evaluation, journal, skipped)
        if finished or not args.watch:
            break
        idle, was_idle = not is_at_work(exp), idle
        if idle and not was_idle:
            log(f"no training is running in {exp}; waiting for one to resume it (Ctrl-C ends this)")
        time.sleep(args.interval)
    if not found:
        raise UserError(
            f"{exp} has nothing to measure: no model in {exp}/snapshots and no final model; train with "
            "snapshot_epochs: 5, or wait for the end"
        )


def _trials_and_labels(args) -> tuple:
    trials, label_of = read_trials(args.trials), read_utt2label(args.labels)
    if trials.values is None or trials.values.all() or not trials.values.any():
        raise UserError(
            f"{args.trials}: an equal error rate needs target and nontarget trials, with the word in the "
            "third field"
        )
    labels = [label_of[key] for key in {*trials.models, *trials.tests} if key in label_of]
    if len(set(labels)) == len(labels):
        raise UserError(
            f"{args.labels}: no two utterances of {args.trials} have the same label; give --labels UTT2LABEL"
        )
    return trials, label_of


def _about(args) -> dict[str, str]:
    """What a figure depends on besides the model: contents, so that corrected files count as others."""
    files = (args.trials, args.labels)
    digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] for path in files]
    about = {"data": args.data, "trials": args.trials, "labels": args.labels}
    return {**about, "digest": "-".join(digests)}
