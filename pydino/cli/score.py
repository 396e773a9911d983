"""Score trials by cosine or PLDA, and measure the scores: EER, minDCF, 95 % intervals, DET curve.

steps/score.sh --centring centred --train-dir $dir/xvectors_train --utt2spk data/test/utt2spk \\
  data/test/trials $dir/xvectors_test $dir/xvectors_test $dir/scores/test.cosine.centred.txt

TRIALS has lines `enroll test [target|nontarget]`; without the third field there are scores, but nothing to
measure. SCORES gets a line `enroll test score` for each trial, in the order of TRIALS; beside it go
STEM.result.json and STEM.det.json. Where ENROLL_DIR holds a table `spk2utt`, its first column names the
models, each the mean of the raw embeddings of its utterances (PLDA also uses how many there were); otherwise
the first field of a trial is an utterance. Where enrolment and test utterances are in two data directories,
--utt2spk is given once for each. PLDA has its own centring, so it takes embeddings raw; where
steps/train_plda.sh was skipped, so is this.

Scores are normalised by their scores with a cohort of other speakers, such as the training set
(pydino/backend/score_normalisation.py has the formulas; docs/scoring.md says when it helps). No label is
needed; with --cohort-clusters the cohort is the centroids of clusters. Utterances of the trials that are in
the cohort are left out of it.
"""

from pathlib import Path
from types import SimpleNamespace

from pydino.backend import CENTRINGS, NORMALISATIONS
from pydino.base import CLUSTERS, Step, UserError, log, strongest_labels, warn
from pydino.cli import evaluate_scores
from pydino.cli._arguments import add_cmd, add_utterances, integer, option, refuse_unused
from pydino.cli._backend_labels import labels_of_plda, labels_of_table
from pydino.cli._embeddings import cached, read_embeddings, read_overlap
from pydino.cli._scoring import score_trials
from pydino.cli._steps import check_files, command_line, marks_of, options_of, run_or_submit, why_skipped
from pydino.kaldi.trials import read_trials, rounded_scores, write_scores


def add_arguments(parser):
    option(parser, "--backend", "cosine", choices=["cosine", "plda"])
    text = "mean.vec, transform.mat and plda, from steps/train_plda.sh"
    option(parser, "--plda-dir", None, text, metavar="DIR")
    option(parser, "--centring", "raw", "of embeddings, before a cosine", choices=CENTRINGS)
    text = "unlabelled embeddings for centring and whitening; may be given several times"
    option(parser, "--train-dir", [], text, metavar="DIR")
    option(parser, "--wccn-dir", None, "transform.mat, from steps/train_wccn.sh", metavar="DIR")
    text = "the folders hold crops (steps/extract_crops.sh): a score is the mean over all pairs of crops"
    option(parser, "--crops", False, text)
    option(parser, "--normalisation", "none", "of scores, by a cohort", choices=NORMALISATIONS)
    text = "embeddings of the cohort, of other speakers; may be given several times"
    option(parser, "--cohort-dir", [], text, metavar="DIR")
    text = "utt2cluster, from steps/cluster.sh: the cohort is the centroids of clusters"
    option(parser, "--cohort-clusters", None, text, metavar="FILE")
    option(parser, "--top", 300, "highest cohort scores that as-norm uses", type=integer(2), metavar="N")
    add_utterances(parser, "of --train-dir and --cohort-dir")
    evaluate_scores.add_measuring_arguments(parser)
    add_cmd(parser)
    for name in ("trials", "enroll_dir", "test_dir", "scores"):
        parser.add_argument(name, metavar=name.upper())


def run(args):
    declared = steps(args)
    if not declared:
        for path in (args.scores, *_beside(args.scores)):
            Path(path).unlink(missing_ok=True)
        log(f"skipped: {_skipped(args)}")
        return
    log_file = Path(args.scores).parent / "log" / f"score.{_stem(args.scores)}.log"
    run_or_submit("score", declared[0], args, lambda: _make(args, declared[0]), log_file)


def steps(args) -> list[Step]:
    """Return the step, or nothing where PLDA or the trials were skipped."""
    _check(args)
    if _skipped(args):
        return []
    enroll, test, scores = Path(args.enroll_dir), Path(args.test_dir), Path(args.scores)
    others = [Path(folder) for folder in (*args.train_dir, *args.cohort_dir)]
    scp = [folder / "xvector.scp" for folder in dict.fromkeys((enroll, test, *others))]
    clusters = [args.cohort_clusters] if args.cohort_clusters else []
    listed = [args.utterances] if args.utterances else []
    check_files(args.trials, *scp, *args.utt2spk, *clusters, *listed)
    result, det, mark = _beside(scores)
    names = "backend centring crops normalisation task trials_name resamples seed"
    folders = [Path(folder) for folder in (args.plda_dir, args.wccn_dir) if folder]
    return [
        Step(
            mark,
            args.scores,
            version=3,
            options={
                **options_of(args, *names.split()),
                "top": args.top if args.normalisation == "as-norm" else None,
                "train": " ".join(args.train_dir),
                "cohort": " ".join(args.cohort_dir),
            },
            reads=[args.trials, *scp, *args.utt2spk, *clusters, *listed],
            optional=[
                enroll / "spk2utt",
                test / "meta.yaml",
                *(folder / "meta.yaml" for folder in folders),
                *(folder / "crop2utt" for folder in (enroll, test, *others) if args.crops),
                *(Path(table).parent / CLUSTERS for table in clusters),
            ],
            after=marks_of(enroll, test, *others, *folders),
            removes=[result, det],
            outputs=[scores],
        )
    ]


def _check(args) -> None:
    if args.backend == "plda":
        if args.centring != "raw":
            raise UserError(
                f"--centring {args.centring} is for cosine; PLDA has its own centring: omit --centring"
            )
        if args.crops:
            raise UserError("--crops is for cosine: omit it, or --backend plda")
        if not args.plda_dir:
            raise UserError(
                "--backend plda needs --plda-dir, made by steps/train_plda.sh UTT2SPK XVECTOR_DIR PLDA_DIR"
            )
    else:
        refuse_unused(args, "--plda-dir", why="without --backend plda")
    if args.centring == "raw":
        what = "for PLDA, which has its own centring" if args.backend == "plda" else "with --centring raw"
        refuse_unused(args, "--train-dir", why=what)
    elif not args.train_dir:
        raise UserError(
            f"--centring {args.centring} needs --train-dir, a folder of unlabelled training embeddings"
        )
    if args.centring != "wccn":
        refuse_unused(args, "--wccn-dir", why="without --centring wccn")
    elif not args.wccn_dir:
        raise UserError("--centring wccn needs --wccn-dir, made by steps/train_wccn.sh CROPS_DIR WCCN_DIR")
    if args.centring == "raw" and args.normalisation == "none":
        refuse_unused(args, "--utterances", why="without --train-dir and --cohort-dir")
    if args.normalisation != "as-norm":
        refuse_unused(args, "--top", why="without --normalisation as-norm")
    if args.normalisation == "none":
        refuse_unused(args, "--cohort-dir", "--cohort-clusters", why="without --normalisation")
    elif not args.cohort_dir:
        raise UserError(
            f"--normalisation {args.normalisation} needs --cohort-dir, embeddings of other speakers than "
            "those of the trials, such as the training set; no labels are needed"
        )


def _skipped(args) -> str:
    """The reason why there is no PLDA, or are no trials (of clusters), or an empty string."""
    return why_skipped(Path(args.trials).parent, *([args.plda_dir] if args.plda_dir else []))


def _stem(scores) -> str:
    return Path(scores).name.removesuffix(".txt")


def _beside(scores) -> tuple[Path, Path, Path]:
    """The result, the DET curve and the mark of a score file."""
    folder, stem = Path(scores).parent, _stem(scores)
    return folder / f"{stem}.result.json", folder / f"{stem}.det.json", folder / f".done.{stem}"


def _make(args, step) -> None:
    trials, test = cached(read_trials, args.trials), read_embeddings(args.test_dir)
    _warn_of_overlap({args.enroll_dir, args.test_dir})
    scores = score_trials(args, trials, test)
    write_scores(args.scores, trials, scores)
    if trials.values is None:
        log(
            f"{args.trials} has no third field (target or nontarget): scores are written, error rates are not"
        )
        return
    result, det, _ = _beside(args.scores)
    spk2utt = Path(args.enroll_dir) / "spk2utt"
    evaluate_scores.measure(
        SimpleNamespace(**{**vars(args), "centring": _treatment(args, test.meta)}),
        trials,
        rounded_scores(scores, out=scores),
        result=result,
        det=det,
        meta=test.meta,
        labels=_labels(args),
        enroll_spk2utt=spk2utt if spk2utt.exists() else None,
        command=command_line("score", args),
    )
    step.outputs += [result, det]


def _treatment(args, meta: dict) -> str:
    """``treatment`` of the results: what was done to embeddings and scores, besides the back-end."""
    parts = [args.centring]
    parts += ["crops"] if args.crops else []
    parts += [args.normalisation] if args.normalisation != "none" else []
    return ", ".join(parts) + (" + statistics" if meta.get("beside") else "")


def _labels(args) -> str:
    """What labels the back-end has seen: PLDA's, and those of clusters in the cohort."""
    return strongest_labels(
        "none",
        *([labels_of_plda(args.plda_dir)] if args.backend == "plda" else []),
        *([labels_of_table(args.cohort_clusters)] if args.cohort_clusters else []),
    )


def _warn_of_overlap(folders) -> None:
    """Warn of sets with utterances that the model was trained on: their speakers are not new to it."""
    for folder in sorted(folders):
        heard = read_overlap(folder).utterances
        if heard:
            warn(
                f"the model was trained on {len(heard)} utterances of {folder} (in_training.txt names them), "
                "so the error rates of these trials are too low; steps/make_train_set.sh --exclude DATA "
                "takes them out of a training set"
            )
