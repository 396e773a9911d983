"""Measure scores: equal error rate, detection costs, Cllr, intervals, DET curve.

Writes SCORES' measures to RESULT (a list of results, one a measure) and, with --det, the points of the DET
curve. Scores and trials are joined by key. The equal error rate is interpolated between operating points,
with ties merged; the minimum costs are normalised, over all thresholds (docstrings of
pydino/backend/metrics.py). Of log-likelihood ratios (--llr) the costs at Bayes' thresholds, Cllr and its
minimum are measured too (pydino/backend/score_calibration.py).
Intervals are 95 %, by bootstrap over speakers; without --utt2spk, over utterances, which is too narrow where
a speaker has several. steps/score.sh does this with the scores that it makes.
"""

import shlex

import numpy as np

from pydino.backend import TrialCurve, bootstrap_trials, percentile_interval, thin_curve, trials_to_resample
from pydino.backend.metrics import equal_error_rate_of, min_dcf_of
from pydino.backend.score_calibration import llr_measures
from pydino.base import UserError, log, read_yaml, split_fields, warn, write_json
from pydino.cli._arguments import option, refuse_unused
from pydino.cli._results import value_text, write_results
from pydino.kaldi import read_table, read_utt2label
from pydino.kaldi.trials import join_scores, read_scores, read_trials

P_TARGETS = (0.01, 0.05)


def add_measuring_arguments(parser):
    """Declare what scoring and measuring have in common."""
    text = "speakers to draw for the intervals, one file a set; without it, utterances are drawn"
    option(parser, "--utt2spk", [], text, metavar="FILE")
    option(parser, "--trials-name", None, "test_set of the results (default: data in meta.yaml)")
    option(parser, "--task", "sv", "task of the results")
    option(parser, "--resamples", 1000, "of the bootstrap")
    option(parser, "--seed", 0, "of the bootstrap")


def add_arguments(parser):
    add_measuring_arguments(parser)
    text = "utterances of models that are not utterances themselves"
    option(parser, "--enroll-spk2utt", None, text, metavar="FILE")
    option(parser, "--meta", None, "meta.yaml of the test embeddings: model, seed, train_set", metavar="YAML")
    option(parser, "--det", None, "write the points of the DET curve", metavar="JSON")
    option(parser, "--backend", "cosine", "recorded in the results")
    option(parser, "--centring", "raw", "recorded in the results")
    text = "the scores are log-likelihood ratios, natural logarithm: measure actDCF and Cllr"
    option(parser, "--llr", False, text)
    option(parser, "--labels", "none", "labels the back-end was trained on: none, pseudo, train")
    for name in ("trials", "scores", "result"):
        parser.add_argument(name, metavar=name.upper())


def run(args):
    if not args.utt2spk:
        refuse_unused(args, "--enroll-spk2utt", why="without --utt2spk, whose speakers its models have")
    trials = read_trials(args.trials)
    if trials.values is None:
        raise UserError(
            f"{args.trials} has no third field: error rates need target or nontarget on every line"
        )
    measure(
        args,
        trials,
        join_scores(read_scores(args.scores), trials, args.scores, args.trials),
        result=args.result,
        det=args.det,
        meta=(read_yaml(args.meta) if args.meta else None) or {},
        labels=args.labels,
        enroll_spk2utt=args.enroll_spk2utt,
        command=shlex.join(["pydino", "evaluate-scores", *args.arguments]),
        llr=args.llr,
    )


def measure(
    args, trials, scores, *, result, det, meta, labels, enroll_spk2utt, command, llr=False, also=None
) -> None:
    """Write RESULT and the DET curve of scores (N,) in the order of the trials, which have labels.

    Args:
        llr: the scores are log-likelihood ratios.
        also: further entries of the results, or others for some of those that ``meta`` gives.

    Raises:
        UserError: only one kind of trials, scores that are all equal, speakers that are not known.
    """
    is_target = trials.values
    if is_target.all() or not is_target.any():
        kind = "target" if is_target.any() else "nontarget"
        raise UserError(
            f"{args.trials}: all {len(trials)} trials are {kind}; error rates need both kinds: add the other"
        )
    if scores.min() == scores.max():
        raise UserError(
            f"{args.scores}: all {len(scores)} scores are {scores[0]:g}: the embeddings do not differ. A "
            "collapsed training does that; look at the entropy and the spread in its log.jsonl"
        )
    curve = TrialCurve(scores, is_target)
    miss, false_alarm = curve.rates()
    left, right, drawn, count = _units(args, trials, enroll_spk2utt)
    drawn_from = trials_to_resample(is_target, args.seed)
    if drawn_from is None:
        resampled = curve, left, right
    else:
        resampled = TrialCurve(scores[drawn_from], is_target[drawn_from]), left[drawn_from], right[drawn_from]
        log(f"intervals are computed from {len(drawn_from)} of the {len(trials)} trials, drawn at random")
    rates, costs = bootstrap_trials(*resampled, P_TARGETS, args.resamples, args.seed)
    rate, interval = 100 * float(equal_error_rate_of(miss, false_alarm)), percentile_interval(100 * rates)
    if interval is None:
        warn(f"too few {drawn} ({count}) for confidence intervals")
    measures = [("eer", rate, "percent", interval)]
    for p_target, cost in zip(P_TARGETS, costs, strict=True):
        measures.append(
            (f"mindcf_{p_target:g}", min_dcf_of(miss, false_alarm, p_target), "", percentile_interval(cost))
        )
    if llr:
        drawn_llrs = llr_measures(scores, is_target, left, right, P_TARGETS, args.resamples, args.seed)
        measures += [(metric, value, "", ci) for metric, value, ci in drawn_llrs]
    name = args.trials_name or meta.get("data") or str(args.trials)
    common = {
        "task": args.task,
        "backend": args.backend,
        "treatment": args.centring,
        "labels": labels,
        "test_set": name,
        "n": len(trials),
        "interval": f"95 %, {args.resamples} resamples of {count} {drawn}, seed {args.seed}"
        + ("" if drawn_from is None else f", from {len(drawn_from)} trials"),
        **(also or {}),
    }
    write_results(result, meta, common, measures, command)
    if det:
        det_miss, det_false_alarm = thin_curve(miss, false_alarm)
        write_json(
            det,
            {
                "trials": name,
                "model": meta.get("model") or "unknown",
                "backend": args.backend,
                "treatment": args.centring,
                "false_alarm": np.round(det_false_alarm, 7).tolist(),
                "miss": np.round(det_miss, 7).tolist(),
                "scores": str(args.scores),
                "trials_file": str(args.trials),
            },
        )
    log(
        f"{name}: {args.backend} {args.centring}: EER {value_text(rate, interval)} %, "
        + ", ".join(
            f"minDCF({p:g}) {value_text(m[1], m[3], 3)}"
            for p, m in zip(P_TARGETS, measures[1:3], strict=True)
        )
        + "".join(f", {m[0]} {value_text(m[1], m[3], 3)}" for m in measures[3:])
        + f" ({int(is_target.sum())} target, {int((~is_target).sum())} nontarget trials; intervals over "
        f"{count} {drawn})"
    )


def _units(args, trials, enroll_spk2utt) -> tuple[np.ndarray, np.ndarray, str, int]:
    """Return the numbers of what is drawn for either side of each trial, its name, and how many there are."""
    if not args.utt2spk:
        log("without --utt2spk, intervals are over utterances, as if no two came from one speaker")
        models, tests, drawn = trials.models, trials.tests, "utterances"
    else:
        speaker_of, tables = _speakers(args.utt2spk), " and ".join(args.utt2spk)
        members = (
            {model: split_fields(text) for model, text in read_table(enroll_spk2utt).items()}
            if enroll_spk2utt
            else {}
        )
        where = (tables, args.trials, enroll_spk2utt)
        models = [
            _speaker_of_model(model, members.get(model, [model]), speaker_of, *where)
            for model in trials.models
        ]
        tests = [_speaker_of_model(test, [test], speaker_of, *where) for test in trials.tests]
        drawn = "speakers"
    names = sorted({*models, *tests})
    number = {name: i for i, name in enumerate(names)}
    left = np.array([number[name] for name in models], dtype=np.int32)[trials.rows]
    right = np.array([number[name] for name in tests], dtype=np.int32)[trials.columns]
    if drawn == "speakers":
        odd = np.flatnonzero((left == right) != trials.values)
        if len(odd):
            warn(f"{args.trials}: {len(odd)} labels do not agree with {tables}, first: {trials.name(odd[0])}")
        if len(names) == 1:
            raise UserError(
                f"{tables}: all trials are of the single speaker {names[0]}; verification needs two or more"
            )
    return left, right, drawn, len(names)


def _speakers(paths: list[str]) -> dict[str, str]:
    """Return the speakers of the utterances of all tables.

    Raises:
        UserError: two tables name different speakers for one utterance.
    """
    speaker_of: dict[str, str] = {}
    for path in paths:
        for utterance, speaker in read_utt2label(path).items():
            if (other := speaker_of.setdefault(utterance, speaker)) != speaker:
                raise UserError(
                    f"{path}: the speaker of {utterance} is {speaker}, but {other} in another --utt2spk "
                    f"({' '.join(paths)}); correct one of them"
                )
    return speaker_of


def _speaker_of_model(
    model: str, utterances: list[str], speaker_of: dict, tables: str, trials, enroll_spk2utt
) -> str:
    unknown = [utterance for utterance in utterances if utterance not in speaker_of]
    if unknown:
        hint = "" if enroll_spk2utt else " (models of several utterances need spk2utt)"
        raise UserError(
            f"{tables} does not know {unknown[0]}, which {trials} names{hint}; add it, or give the utt2spk "
            "of its set with another --utt2spk"
        )
    speakers = {speaker_of[utterance] for utterance in utterances}
    if len(speakers) > 1:
        raise UserError(
            f"{enroll_spk2utt}: model {model} has utterances of several speakers: "
            f"{', '.join(sorted(speakers)[:3])}"
        )
    return speakers.pop()
