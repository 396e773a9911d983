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
"""

import time
from pathlib import Path

import numpy as np

from pydino.backend import Plda, PldaChain, cosine_features, fit_centring, group_means, score_pairs
from pydino.base import Step, UserError, log, nearest, split_fields, warn
from pydino.cli import evaluate_scores
from pydino.cli._arguments import add_cmd, option
from pydino.cli._embeddings import cached, read_embeddings, read_overlap
from pydino.cli._steps import check_files, command_line, marks_of, options_of, run_or_submit
from pydino.kaldi import read_object, read_table
from pydino.kaldi.plda_file import read_plda
from pydino.kaldi.trials import read_trials, rounded_scores, write_scores


def add_arguments(parser):
    option(parser, "--backend", "cosine", choices=["cosine", "plda"])
    text = "mean.vec, transform.mat and plda, from steps/train_plda.sh"
    option(parser, "--plda-dir", None, text, metavar="DIR")
    text = "of embeddings, before a cosine"
    option(parser, "--centring", "raw", text, choices=["raw", "centred", "whitened"])
    text = "unlabelled embeddings for centring and whitening; may be given several times"
    option(parser, "--train-dir", [], text, metavar="DIR")
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
    """Return the step, or nothing where PLDA was skipped."""
    _check(args)
    if _skipped(args):
        return []
    enroll, test, scores = Path(args.enroll_dir), Path(args.test_dir), Path(args.scores)
    train = [Path(folder) for folder in args.train_dir]
    scp = [folder / "xvector.scp" for folder in (enroll, test, *train)]
    check_files(args.trials, *scp, *args.utt2spk)
    result, det, mark = _beside(scores)
    return [
        Step(
            mark,
            args.scores,
            version=2,
            options=options_of(args, "backend", "centring", "task", "trials_name", "resamples", "seed"),
            reads=[args.trials, *scp, *args.utt2spk],
            optional=[enroll / "spk2utt", test / "meta.yaml"],
            after=marks_of(enroll, test, *train, *([args.plda_dir] if args.plda_dir else [])),
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
        if not args.plda_dir:
            raise UserError(
                "--backend plda needs --plda-dir, made by steps/train_plda.sh UTT2SPK XVECTOR_DIR PLDA_DIR"
            )
    else:
        args.plda_dir = None
    if args.centring == "raw":
        args.train_dir = []  # nothing is estimated
    elif not args.train_dir:
        raise UserError(
            f"--centring {args.centring} needs --train-dir, a folder of unlabelled training embeddings"
        )


def _skipped(args) -> str:
    """The reason why PLDA was not trained, or an empty string."""
    path = Path(args.plda_dir or "", "skipped")
    return path.read_text(encoding="utf-8").strip() if args.plda_dir and path.exists() else ""


def _stem(scores) -> str:
    return Path(scores).name.removesuffix(".txt")


def _beside(scores) -> tuple[Path, Path, Path]:
    """The result, the DET curve and the mark of a score file."""
    folder, stem = Path(scores).parent, _stem(scores)
    return folder / f"{stem}.result.json", folder / f"{stem}.det.json", folder / f".done.{stem}"


def _make(args, step) -> None:
    trials, test = cached(read_trials, args.trials), read_embeddings(args.test_dir)
    _warn_of_overlap({args.enroll_dir, args.test_dir})
    scores = _score(args, trials, test)
    if trials.values is None:
        log(
            f"{args.trials} has no third field (target or nontarget): scores are written, error rates are not"
        )
        return
    result, det, _ = _beside(args.scores)
    spk2utt = Path(args.enroll_dir) / "spk2utt"
    evaluate_scores.measure(
        args,
        trials,
        rounded_scores(scores),
        result=result,
        det=det,
        meta=test.meta,
        labels="none" if args.backend == "cosine" else "train",
        enroll_spk2utt=spk2utt if spk2utt.exists() else None,
        command=command_line("score", args),
    )
    step.outputs += [result, det]


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


def _score(args, trials, test) -> np.ndarray:
    """Score the trials and write SCORES; returns the scores (N,)."""
    enroll = test if Path(args.enroll_dir) == Path(args.test_dir) else read_embeddings(args.enroll_dir)
    if enroll.dim != test.dim:
        raise UserError(
            f"dimension {enroll.dim} in {enroll.folder}, {test.dim} in {test.folder}: extract both with one "
            "model"
        )
    models, num_utts = _models(enroll, trials, args.trials)
    tests = test.vectors[test.places(trials.tests, args.trials)]
    began = time.perf_counter()
    try:
        if args.backend == "plda":
            chain = _read_plda(args.plda_dir, test.dim)
            left, right = chain.comparison_features(models, num_utts, tests)
        else:
            left, right = _cosine_features(args, models, tests)
    except ValueError as error:
        raise UserError(f"{args.trials}: {error}") from error
    scores = score_pairs(left, right, trials.rows, trials.columns)
    spent = time.perf_counter() - began
    write_scores(args.scores, trials, scores)
    log(
        f"{len(trials)} trials of {len(models)} models ({int(num_utts.sum())} utterances) and {len(tests)} "
        f"test utterances -> {args.scores}; scored in {spent:.2f} s, none dropped"
    )
    return scores


def _models(enroll, trials, trials_path) -> tuple[np.ndarray, np.ndarray]:
    """The raw vectors (E, D) of the models that the trials name, and how many utterances each is the mean
    of.
    """
    table = enroll.folder / "spk2utt"
    if not table.exists():
        return enroll.vectors[enroll.places(trials.models, trials_path)], np.ones(
            len(trials.models), dtype=np.int64
        )
    utterances = {model: split_fields(text) for model, text in read_table(table).items()}
    unknown = [model for model in trials.models if not utterances.get(model)]
    if unknown:
        raise UserError(
            f"{trials_path}: {len(unknown)} of {len(trials.models)} models are not in {table}, first: "
            f"{unknown[0]}{nearest(unknown[0], list(utterances)[:5000])}; correct the trials or the table"
        )
    members = [utterance for model in trials.models for utterance in utterances[model]]
    groups = np.repeat(np.arange(len(trials.models)), [len(utterances[model]) for model in trials.models])
    return group_means(enroll.vectors[enroll.places(members, str(table))], groups, len(trials.models))


def _cosine_features(args, models, tests):
    training = [read_embeddings(folder).vectors for folder in args.train_dir]
    centring = fit_centring(args.centring, _stacked(args.train_dir, training) if training else None)
    if centring.projection is not None and len(centring.projection) < len(centring.mean):
        kept, dim = centring.projection.shape
        log(f"whitening keeps {kept} of {dim} dimensions; the training embeddings do not vary in the rest")
    return cosine_features(centring(models), centring(tests))


def _stacked(folders, vectors) -> np.ndarray:
    if len(vectors) == 1:
        return vectors[0]
    for folder, one in zip(folders, vectors, strict=True):
        if one.shape[1] != vectors[0].shape[1]:
            raise UserError(
                f"dimension {vectors[0].shape[1]} in {folders[0]}, {one.shape[1]} in {folder}: extract all "
                "with one model"
            )
    return np.concatenate(vectors)


def _read_plda(folder, dim: int) -> PldaChain:
    folder = Path(folder)
    for name in ("mean.vec", "transform.mat", "plda"):
        if not (folder / name).exists():
            raise UserError(f"no {folder / name}: run steps/train_plda.sh UTT2SPK XVECTOR_DIR {folder}")
    mean, transform = (read_object(str(folder / name)) for name in ("mean.vec", "transform.mat"))
    if len(mean) != dim:
        raise UserError(
            f"{folder} was trained in dimension {len(mean)}, these embeddings have {dim}: use one model for "
            "both"
        )
    return PldaChain(mean, transform, Plda(*read_plda(folder / "plda")))
