"""Calibrate scores, or fuse several score files, to log-likelihood ratios, and measure them.

steps/calibrate.sh --dev-trials data/dev/trials --dev-scores $dir/scores/dev.cosine.raw.txt \\
  data/test/trials $dir/scores/test.cosine.raw.txt $dir/scores/test.cosine.raw.calibrated.txt

Fits one weight for each score file and an offset by logistic regression on the development trials, and
applies them to SCORES. OUT gets a line `enroll test llr` for each trial: natural logarithms, so that for a
prior p and equal costs a pair is accepted where llr >= log((1 - p) / p). Beside it go STEM.calibration.json
(the weights), and, where TRIALS has labels, STEM.result.json and STEM.det.json with actDCF, Cllr and its
minimum besides EER and minDCF. Trials and scores are joined by key.

Several systems are fused by giving --dev-scores and SCORES once for each, in one order. Quality measures
(--quality, --norms) are fused too, each as the smaller of both sides and their difference. Where one of the
scores is that of a PLDA (--plda-dir) that steps/train_plda.sh skipped, or steps/make_crop_trials.sh skipped
the development trials, this is skipped as well.

Without labels, the development trials are those of steps/make_crop_trials.sh, of crops or of clusters; the
results then have the labels of these, none or pseudo. With any other list they are said to have been made
with labels. Trials of crops allow no quality measure: crops and whole utterances differ in length and norm
whoever speaks.
"""

from argparse import Namespace
from pathlib import Path

import numpy as np

from pydino.base import Step, UserError, log, read_json, strongest_labels, warn, write_json
from pydino.cli import evaluate_scores
from pydino.cli._arguments import add_cmd, option
from pydino.cli._quality import Quality, add_quality_arguments, quality_files
from pydino.cli._steps import check_files, command_line, options_of, run_or_submit, why_skipped
from pydino.kaldi.trials import join_scores, read_scores, read_trials, rounded_scores, write_scores

_DESCRIBED = ("model", "encoder", "system", "model_labels", "train_set", "config", "backend", "treatment")


def add_arguments(parser):
    option(
        parser, "--dev-trials", None, "trials with labels that the weights are fitted on", metavar="TRIALS"
    )
    text = "scores of these trials, once for each of SCORES and in the same order"
    option(parser, "--dev-scores", [], text, metavar="SCORES")
    text = "of scores by PLDA: where steps/train_plda.sh has skipped it, nothing is calibrated"
    option(parser, "--plda-dir", [], text, metavar="DIR")
    option(parser, "--prior", 0.05, "probability of a target for which the fit matters most")
    add_quality_arguments(parser)
    evaluate_scores.add_measuring_arguments(parser)
    add_cmd(parser)
    parser.add_argument("trials", metavar="TRIALS")
    parser.add_argument("given", metavar="SCORES", nargs="+", help="of TRIALS")
    parser.add_argument("scores", metavar="OUT", help="calibrated scores")


def run(args):
    declared = steps(args)
    if not declared:
        for path in (Path(args.scores), *_beside(args.scores).values()):
            path.unlink(missing_ok=True)
        log(f"skipped: {_skipped(args)}")
        return
    (step,) = declared
    log_file = Path(args.scores).parent / "log" / f"calibrate.{_stem(args.scores)}.log"
    run_or_submit("calibrate", step, args, lambda: _make(args, step), log_file)


def steps(args) -> list[Step]:
    """Return the step, or nothing where a PLDA of the scores or the trials were skipped."""
    if not 0 < args.prior < 1:
        raise UserError(f"--prior {args.prior:g}: it must be between 0 and 1")
    if not args.dev_trials or len(args.dev_scores) != len(args.given):
        raise UserError(
            f"{len(args.given)} score files ({' '.join(args.given)}) need --dev-trials, and --dev-scores "
            f"once for each; got {len(args.dev_scores)}"
        )
    if _skipped(args):
        return []
    reads = [args.dev_trials, *args.dev_scores, args.trials, *args.given, *args.utt2spk, *quality_files(args)]
    check_files(*reads)
    out = Path(args.scores)
    beside = _beside(out)
    return [
        Step(
            out.parent / f".done.{_stem(out)}",
            args.scores,
            options={
                **options_of(args, "prior", "task", "trials_name", "resamples", "seed", "dev_trials"),
                "dev-scores": " ".join(args.dev_scores),
                "scores": " ".join(args.given),
            },
            reads=reads,
            optional=[f"{args.dev_trials}.json", *(_beside(path)["result"] for path in args.given)],
            removes=list(beside.values()),
            outputs=[out, beside["calibration"]],
        )
    ]


def _skipped(args) -> str:
    """The reason why a PLDA of the scores was not trained, or trials were not made, or an empty string."""
    return why_skipped(*args.plda_dir, *([Path(args.dev_trials).parent] if args.dev_trials else []))


def _stem(scores) -> str:
    return Path(scores).name.removesuffix(".txt")


def _beside(scores) -> dict[str, Path]:
    names = ("result", "det", "calibration")
    return {name: Path(scores).parent / f"{_stem(scores)}.{name}.json" for name in names}


def _make(args, step) -> None:
    from pydino.backend.score_calibration import cllr, fit_calibration, min_cllr

    made = _made_from(args.dev_trials)
    dev, trials, quality = read_trials(args.dev_trials), read_trials(args.trials), Quality(args)
    _check_crops(args, made, quality)
    if dev.values is None or dev.values.all() or not dev.values.any():
        raise UserError(f"{args.dev_trials}: a calibration needs target and nontarget trials")
    columns = _columns(args.dev_scores, dev, args.dev_trials, quality)
    fitted = fit_calibration(columns, dev.values, args.prior)
    names = [*args.dev_scores, *quality.names]
    _warn(args, fitted, names, columns, "crops" in made)
    llrs = rounded_scores(fitted(_columns(args.given, trials, args.trials, quality)))
    write_scores(args.scores, trials, llrs)
    beside, on_dev = _beside(args.scores), fitted(columns)
    record = {
        "weights": dict(zip(names, fitted.weights.tolist(), strict=True)),
        "offset": fitted.offset,
        "prior": args.prior,
        "dev_trials": args.dev_trials,
        "targets": int(dev.values.sum()),
        "nontargets": int((~dev.values).sum()),
        "labels": made["labels"],
        "dev_cllr": cllr(on_dev, dev.values),
        "dev_min_cllr": min_cllr(on_dev, dev.values),
    }
    write_json(beside["calibration"], record)
    log(
        f"{args.scores}: {len(trials)} log-likelihood ratios; {len(names)} weights fitted on "
        f"{record['targets']} target and {record['nontargets']} nontarget trials, Cllr "
        f"{record['dev_cllr']:.3f}"
    )
    if trials.values is not None:
        _measure(args, trials, llrs, made, beside, quality.said)
        step.outputs += [beside["result"], beside["det"]]


def _columns(paths: list[str], trials, trials_path, quality) -> np.ndarray:
    scores = [join_scores(read_scores(path), trials, path, trials_path) for path in paths]
    return np.column_stack([*scores, quality(trials, trials_path)])


def _warn(args, fitted, names: list[str], columns: np.ndarray, crops: bool) -> None:
    """Say what makes a calibration doubtful."""
    if fitted.separable:
        warn(
            f"{args.dev_trials}: the scores separate its trials without an error, so the scale of the "
            "log-likelihood ratios has no foundation; use a longer or harder list"
        )
    for name, weight, column in zip(names, fitted.weights, columns.T, strict=True):
        if weight == 0 and np.ptp(column) == 0:
            warn(f"{name} is the same for all trials of {args.dev_trials} and is not used")
        elif weight < 0 and name in args.dev_scores:
            why = "its target trials do not score higher"
            if crops and len(args.dev_scores) > 1:
                why = "the fusion may tell crops from whole utterances by it; leave it out"
            warn(f"{name} has a negative weight ({weight:.3g}): {why}")


def _made_from(dev_trials) -> dict:
    """What the trials were made from; the labels of a list from elsewhere are true ones."""
    beside = Path(f"{dev_trials}.json")
    return read_json(beside) if beside.is_file() else {"labels": "train"}


def _check_crops(args, made: dict, quality) -> None:
    """Of trials of crops, all target trials are between crops and all others between whole utterances."""
    if "crops" not in made:
        return
    if quality.names:
        raise UserError(
            f"{args.dev_trials}: its target trials are between crops and the others between whole "
            "utterances, which a quality measure tells apart whoever speaks; use a development list, or "
            "trials of clusters"
        )


def _warn_of_own_clusters(args, made: dict, labels: list[str]) -> None:
    if "clusters" in made and "crops" not in made and "pseudo" in labels:
        warn(
            f"{args.dev_trials} is of clusters, and so is the back-end of the scores: where they are the "
            "same, it knows the answers, and its log-likelihood ratios will be far too large; use trials of "
            "crops (steps/make_crop_trials.sh)"
        )


def _measure(args, trials, llrs, made: dict, beside: dict[str, Path], quality: str) -> None:
    described = [_described(path) for path in args.given]
    joined = {key: " + ".join(dict.fromkeys(str(one[key]) for one in described)) for key in _DESCRIBED}
    for key in ("backend", "treatment"):  # the first treatment is of the first back-end
        joined[key] = " + ".join(str(one[key]) for one in described)
    of_scores = [one["labels"] for one in described]
    _warn_of_own_clusters(args, made, of_scores)
    labels = strongest_labels(made["labels"], *of_scores)
    seeds, varied = ([one[key] for one in described] for key in ("seed", "varied"))
    meta = {key: joined[key] for key in _DESCRIBED}
    meta |= {"seed": seeds[0] if len({*seeds}) == 1 else None, "varied": varied[0]}
    evaluate_scores.measure(
        Namespace(
            **vars(args)
            | {
                "backend": joined["backend"],
                "centring": f"{joined['treatment']}, calibrated{_how(made, quality)}",
                "trials_name": args.trials_name or described[0]["test_set"],
            }
        ),
        trials,
        llrs,
        result=beside["result"],
        det=beside["det"],
        meta=meta,
        labels=labels,
        enroll_spk2utt=args.enroll_spk2utt[-1] if args.enroll_spk2utt else None,
        command=command_line("calibrate", args),
        llr=True,
        also={"config": joined["config"]},
    )


def _how(made: dict, quality: str) -> str:
    """What distinguishes a calibration from others of the same scores, in ``treatment``."""
    source = next((name for name in ("crops", "clusters") if name in made), "")
    return (f" on {source}" if source else "") + (f" with {quality}" if quality else "")


def _described(scores) -> dict:
    """What the results beside a score file say of it."""
    path = _beside(scores)["result"]
    unknown = {key: "unknown" for key in _DESCRIBED} | {"labels": "none", "seed": None, "varied": {}}
    first = read_json(path)[0] if path.is_file() else {}
    return unknown | {"test_set": None} | first
