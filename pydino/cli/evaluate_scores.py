"""Measure scores: equal error rate, minimum detection costs, intervals, DET curve.

Writes SCORES' measures to RESULT (a list of results, one a measure) and, with --det, the points of the DET
curve. Scores and trials are joined by key. The equal error rate is interpolated between operating points,
with ties merged; the costs are normalised, over all thresholds (docstrings of pydino/backend/metrics.py).
Intervals are 95 %, by bootstrap over speakers; without --utt2spk, over utterances, which is too narrow where
a speaker has several.
"""

import numpy as np

from pydino.backend import TrialCurve, bootstrap_trials, percentile_interval, thin_curve
from pydino.backend.metrics import equal_error_rate_of, min_dcf_of
from pydino.base import UserError, log, read_yaml, split_fields, warn, write_json
from pydino.cli._embeddings import read_grouping
from pydino.cli._results import value_text, write_results
from pydino.kaldi import read_table
from pydino.kaldi.trials import join_scores, read_scores, read_trials

P_TARGETS = (0.01, 0.05)


def add_arguments(parser):
    parser.add_argument(
        "--utt2spk", metavar="FILE", help="speakers to draw; without it, utterances are drawn"
    )
    parser.add_argument(
        "--enroll-spk2utt", metavar="FILE", help="utterances of models that are no utterances themselves"
    )
    parser.add_argument(
        "--meta", metavar="YAML", help="meta.yaml of the test embeddings: model, seed, train_set"
    )
    parser.add_argument("--det", metavar="JSON", help="write the points of the DET curve")
    parser.add_argument("--task", default="sv", help="(default: %(default)s)")
    parser.add_argument("--backend", default="cosine", help="said in the results (default: %(default)s)")
    parser.add_argument("--treatment", default="raw", help="said in the results (default: %(default)s)")
    parser.add_argument(
        "--labels",
        default="none",
        help="labels the back-end was trained on: none, pseudo, train (default: %(default)s)",
    )
    parser.add_argument("--trials-name", help="test_set of the results (default: data in meta.yaml)")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("trials", metavar="TRIALS")
    parser.add_argument("scores", metavar="SCORES")
    parser.add_argument("result", metavar="RESULT")


def run(args):
    trials = read_trials(args.trials)
    if trials.values is None:
        raise UserError(
            f"{args.trials} has no third field: error rates need target or nontarget on every line"
        )
    is_target = trials.values
    scores = join_scores(read_scores(args.scores), trials, args.scores, args.trials)
    if is_target.all() or not is_target.any():
        kind = "target" if is_target.any() else "nontarget"
        raise UserError(
            f"{args.trials}: all {len(trials)} trials are {kind}; error rates need both kinds: add the other"
        )
    if scores.min() == scores.max():
        raise UserError(
            f"{args.scores}: all {len(scores)} scores are {scores[0]:g}: the embeddings do not differ. A "
            "collapsed training does that; "
            "look at the entropy and the spread in its log.jsonl"
        )
    curve = TrialCurve(scores, is_target)
    miss, false_alarm = curve.rates()
    left, right, drawn, count = _units(args, trials)
    rates, costs = bootstrap_trials(curve, left, right, P_TARGETS, args.resamples, args.seed)
    rate, interval = 100 * float(equal_error_rate_of(miss, false_alarm)), percentile_interval(100 * rates)
    if interval is None:
        warn(f"too few {drawn} ({count}) for confidence intervals")
    measures = [("eer", rate, "percent", interval)]
    for p_target, cost in zip(P_TARGETS, costs, strict=True):
        measures.append(
            (f"mindcf_{p_target:g}", min_dcf_of(miss, false_alarm, p_target), "", percentile_interval(cost))
        )
    meta = (read_yaml(args.meta) if args.meta else None) or {}
    name = args.trials_name or meta.get("data") or str(args.trials)
    common = {
        "task": args.task,
        "backend": args.backend,
        "treatment": args.treatment,
        "labels": args.labels,
        "test_set": name,
        "n": len(trials),
        "interval": f"95 %, {args.resamples} resamples of {count} {drawn}, seed {args.seed}",
    }
    write_results(args.result, meta, common, measures)
    if args.det:
        det_miss, det_false_alarm = thin_curve(miss, false_alarm)
        write_json(
            args.det,
            {
                "trials": name,
                "model": meta.get("model") or "unknown",
                "backend": args.backend,
                "treatment": args.treatment,
                "false_alarm": np.round(det_false_alarm, 7).tolist(),
                "miss": np.round(det_miss, 7).tolist(),
                "scores": str(args.scores),
                "trials_file": str(args.trials),
            },
        )
    log(
        f"{name}: {args.backend} {args.treatment}: EER {value_text(rate, interval)} %, "
        + ", ".join(
            f"minDCF({p:g}) {value_text(m[1], m[3], 3)}" for p, m in zip(P_TARGETS, measures[1:], strict=True)
        )
        + f" ({int(is_target.sum())} target, {int((~is_target).sum())} nontarget trials; intervals over "
        f"{count} {drawn})"
    )


def _units(args, trials) -> tuple[np.ndarray, np.ndarray, str, int]:
    """Number what is drawn on either side of each trial; say what it is and how many there are."""
    if args.utt2spk is None:
        log("without --utt2spk, intervals are over utterances, as if no two came from one speaker")
        models, tests, drawn = trials.models, trials.tests, "utterances"
    else:
        speaker_of = read_grouping(args.utt2spk)
        members = (
            {model: split_fields(text) for model, text in read_table(args.enroll_spk2utt).items()}
            if args.enroll_spk2utt
            else {}
        )
        models = [
            _speaker_of_model(model, members.get(model, [model]), speaker_of, args) for model in trials.models
        ]
        tests = [_speaker_of_model(test, [test], speaker_of, args) for test in trials.tests]
        drawn = "speakers"
    names = sorted({*models, *tests})
    number = {name: i for i, name in enumerate(names)}
    left = np.array([number[name] for name in models])[trials.rows]
    right = np.array([number[name] for name in tests])[trials.columns]
    if drawn == "speakers":
        odd = np.flatnonzero((left == right) != trials.values)
        if len(odd):
            warn(
                f"{args.trials}: {len(odd)} labels do not agree with {args.utt2spk}, first: "
                f"{trials.name(odd[0])}"
            )
        if len(names) == 1:
            raise UserError(
                f"{args.utt2spk}: all trials are of the single speaker {names[0]}; verification needs two "
                "or more"
            )
    return left, right, drawn, len(names)


def _speaker_of_model(model: str, utterances: list[str], speaker_of: dict, args) -> str:
    unknown = [utterance for utterance in utterances if utterance not in speaker_of]
    if unknown:
        hint = "" if args.enroll_spk2utt else " (models of several utterances need --enroll-spk2utt)"
        raise UserError(f"{args.utt2spk} does not know {unknown[0]}, which {args.trials} names{hint}; add it")
    speakers = {speaker_of[utterance] for utterance in utterances}
    if len(speakers) > 1:
        raise UserError(
            f"{args.enroll_spk2utt}: model {model} has utterances of several speakers: "
            f"{', '.join(sorted(speakers)[:3])}"
        )
    return speakers.pop()
