"""Measure the snapshots of a training run, while it goes on or afterwards: scores without labels, a verdict,
and on trials verification and nearest neighbours.

steps/monitor.sh --data data/train_ssl exp/dino_mini/seed0
steps/monitor.sh --data data/test --trials data/test/trials --watch true exp/dino_mini/seed0

Each snapshot (EXP/snapshots/epochNNNN, and the final models) embeds a fixed list of views of training
utterances, EXP/monitor/views.json, which is made from DATA when there is none. A line gives self-EER, LiDAR,
RankMe and the stability of clusters; a table shows them beside the curves of a healthy and of a collapsed
run, and the last line says whether the run is healthy. No label is read.

With --trials, DATA is that of the trials, whose utterances each model embeds once too: equal error rate
(cosine), and how often the ten nearest neighbours elect the right label. Scores without labels are added if
EXP has the list.

EXP/monitor.jsonl and TensorBoard (EXP/tensorboard/monitor) get the same figures; what is in monitor.jsonl is
not measured again. Training never reads them. Choose no snapshot by the trials that you report on.

With --cmd, as steps/monitor.sh calls it, this is a job of that wrapper, whose log is EXP/log/monitor.log;
where a finished run has its scores without labels, there is none. It can be killed and restarted at any time.
"""

import hashlib
import os
import re
import time
from pathlib import Path

from pydino.base import Step, UserError, log, read_json_lines, warn
from pydino.cli._arguments import WRAPPERS, add_device, integer, option
from pydino.cli._steps import check_files, command_line, job_command, without_cmd
from pydino.jobs.submit import submit
from pydino.kaldi import read_utt2label
from pydino.kaldi.trials import read_trials

_SHOWN = re.compile(r"^[0-9: -]+pydino monitor: |^  ")


def add_arguments(parser):
    parser.add_argument("exp", metavar="EXP", help="folder of a training run")
    text = (
        "without --trials: the directory that the run was trained on (default: that of the list in EXP); "
        "with --trials: theirs, with feats.scp, and vad.scp where the model needs it"
    )
    option(parser, "--data", None, text, metavar="DATA")
    text = "lines `enroll test target|nontarget` of utterances of DATA"
    option(parser, "--trials", None, text, metavar="TRIALS")
    text = "with --trials, what neighbours vote on (default: DATA/utt2spk)"
    option(parser, "--labels", None, text, metavar="UTT2LABEL")
    text = "print the folder of the model that the scores without labels prefer"
    option(parser, "--choose", False, text)
    option(parser, "--watch", False, "wait for more until the run is finished")
    option(parser, "--interval", 30.0, "between looks, when watching (default: 30)", metavar="SECONDS")
    option(parser, "--allow-pipes", False, "run the commands in wav.scp, for a run on recordings")
    add_device(parser)
    option(parser, "--threads", 1, "CPU threads (default: 1, to leave the others to the training)")
    option(parser, "--gpu", 0, "1 or more: embed on a GPU, which the job requests", type=integer(0))
    text = "warn instead of failing (run.sh: the training that is measured is whole)"
    option(parser, "--may-fail", False, text)
    option(parser, "--cmd", None, WRAPPERS)


def steps(args) -> list[Step]:
    """Return the step of the scores without labels; they have a mark once the run is finished.

    Raises:
        UserError: it is not.
    """
    exp = Path(args.exp)
    done = exp / ".done.train"
    check_files(done)
    outputs = [exp / name for name in ("monitor.jsonl", "monitor/health.json")]
    views = exp / "monitor/views.json"
    return [Step(exp / ".done.monitor", outputs[0], optional=[views], after=[done], outputs=outputs)]


def run(args):
    if not Path(args.exp).is_dir():
        raise UserError(f"no such folder {args.exp}; steps/train.sh makes it, a moment after it starts")
    if args.cmd is None:
        _measure(args)
        return
    finished = Path(args.exp, ".done.train").exists()
    # Kept until the job has ended, as it has the lock.
    held = steps(args) if finished and not (args.trials or args.choose) else []
    if any(step.is_done() for step in held):
        return
    options = ["--gpu", "1"] if args.gpu else []
    command = job_command("monitor", *without_cmd(args.arguments))
    if not args.trials:
        # Without a verdict in it the report says "not measured".
        Path(args.exp, "monitor").mkdir(exist_ok=True)
    try:
        submit(args.cmd, f"{args.exp}/log/monitor.log", command, options=options, shown=_SHOWN)
    except UserError as error:
        if not args.may_fail:
            raise
        warn(
            f"{args.exp} is not measured, its models are whole: {error}\n"
            f"To measure it, in {os.getcwd()}:\n  {command_line('monitor', args)}"
        )


def _measure(args) -> None:
    import torch

    from pydino.train.evaluation import Journal, measure, measure_untrained
    from pydino.train.exp_dir import DONE, is_at_work
    from pydino.train.label_free import LabelFree
    from pydino.train.snapshots import snapshots

    torch.set_num_threads(args.threads)
    exp = Path(args.exp)
    args.device = "cuda" if args.gpu else args.device
    evaluations = _evaluations(args, exp)
    journal = Journal(exp)
    for evaluation in evaluations:
        if isinstance(evaluation, LabelFree):
            measure_untrained(evaluation, journal)
    found, idle = 0, False
    skipped: set[Path] = set()
    while True:
        # Checked before the snapshots: what is written in between is for the next round.
        finished = (exp / DONE).exists()
        there = snapshots(exp, finished or not args.watch)
        found += sum(measure(there, evaluation, journal, skipped) for evaluation in evaluations)
        if finished or not args.watch:
            break
        idle, was_idle = not is_at_work(exp), idle
        if idle and not was_idle:
            log(f"no training is running in {exp}; waiting for one to resume it (Ctrl-C ends this)")
        time.sleep(args.interval)
    if not found:
        why = f"no model in {exp}/snapshots and no final model; train with snapshot_epochs: 5, or wait for it"
        if args.trials or args.choose or not read_json_lines(exp / "log.jsonl"):
            raise UserError(f"{exp} has nothing to measure: {why}")
        log(f"the verdict is by the log of the training alone: {why}")
    for evaluation in evaluations:
        if isinstance(evaluation, LabelFree):
            _conclude(exp, journal, evaluation, args.choose)
            if finished:
                steps(args)[0].finish()
            return
    log(
        f"no scores without labels, and no verdict: run pydino monitor {exp} --data DATA, with the directory "
        "that it was trained on"
    )


def _evaluations(args, exp: Path) -> list:
    """What is measured: trials, views of training utterances, or both."""
    from pydino.data.view_list import list_path
    from pydino.train.evaluation import Evaluation
    from pydino.train.label_free import LabelFree

    if not args.trials:
        if args.labels:
            raise UserError(
                "--labels are what neighbours vote on, of the utterances of --trials; give --trials too"
            )
        return [LabelFree(exp, args.data, args.device, args.allow_pipes)]
    if not args.data:
        raise UserError(f"--trials {args.trials}: give --data DATA, the data directory that they are of")
    args.labels = args.labels or f"{args.data}/utt2spk"
    found: list = [Evaluation(args.data, *_trials_and_labels(args), args.device, _about(args))]
    if list_path(exp).exists():
        found.append(LabelFree(exp, None, args.device, args.allow_pipes))
    elif args.choose:
        raise UserError(
            f"--choose: {exp} has no scores without labels; run pydino monitor {exp} --data DATA first, with "
            "the directory that it was trained on"
        )
    return found


def _conclude(exp: Path, journal, evaluation, choose: bool) -> None:
    """Show the curves beside those of the package, judge the run, and choose a snapshot if asked to."""
    from pydino.report.reference_curves import beside_reference, with_log
    from pydino.train.health import best_snapshot, judge_run

    lines = [line for line in journal.lines if line["digest"] == evaluation.about["digest"]]
    health = judge_run(exp, lines)
    table = beside_reference(with_log(lines, read_json_lines(exp / "log.jsonl")), health.epochs)
    log(f"{exp}, and in brackets a healthy and a collapsed run of egs/mini:\n{table}")
    log(health.sentence)
    if choose:
        print(exp / best_snapshot([line for line in lines if (exp / line["model"]).is_dir()]))


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
