"""Score trials: cosine or PLDA, with models of one or of several utterances.

SCORES has a line `enroll test score` for each trial, in the order of TRIALS. Where ENROLL_DIR holds a table
`spk2utt`, its first column names the models, each the mean of the raw embeddings of its utterances (PLDA also
uses how many there were); otherwise the first field of a trial names an utterance. PLDA brings its own
centring, so it takes embeddings raw.
"""

import time
from pathlib import Path

import numpy as np

from pydino.backend import (
    TREATMENTS,
    Plda,
    apply_affine,
    cosine_features,
    fit_treatment,
    group_means,
    normalise_length,
    score_pairs,
)
from pydino.base import UserError, log, nearest, split_fields
from pydino.cli._embeddings import read_embeddings
from pydino.kaldi import read_object, read_table
from pydino.kaldi.plda_file import read_plda
from pydino.kaldi.trials import read_trials, write_scores


def add_arguments(parser):
    parser.add_argument(
        "--backend", choices=["cosine", "plda"], default="cosine", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--plda-dir", metavar="DIR", help="mean.vec, transform.mat and plda, from steps/train_plda.sh"
    )
    parser.add_argument(
        "--treatment",
        choices=TREATMENTS,
        default="raw",
        help="of embeddings, before a cosine (default: %(default)s)",
    )
    parser.add_argument(
        "--train-dir", metavar="DIR", help="unlabelled embeddings that centring and whitening learn from"
    )
    parser.add_argument("trials", metavar="TRIALS")
    parser.add_argument("enroll_dir", metavar="ENROLL_DIR")
    parser.add_argument("test_dir", metavar="TEST_DIR")
    parser.add_argument("scores", metavar="SCORES")


def run(args):
    if args.backend == "plda" and args.treatment != "raw":
        raise UserError(
            f"--treatment {args.treatment} is for cosine; PLDA has its own centring: leave --treatment out"
        )
    if args.backend == "plda" and not args.plda_dir:
        raise UserError(
            "--backend plda needs --plda-dir; make it with steps/train_plda.sh UTT2SPK XVECTOR_DIR PLDA_DIR"
        )
    trials = read_trials(args.trials)
    test = read_embeddings(args.test_dir)
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
            left, right = _plda_features(args.plda_dir, models, num_utts, tests)
        else:
            left, right = _cosine_features(args, models, tests)
    except ValueError as error:
        raise UserError(f"{args.trials}: {error}") from error
    scores = score_pairs(left, right, trials.rows, trials.columns)
    spent = time.perf_counter() - began
    write_scores(args.scores, trials, scores)
    log(
        f"{len(trials)} trials of {len(models)} models ({int(num_utts.sum())} utterances) and {len(tests)} "
        "test utterances "
        f"-> {args.scores}; scored in {spent:.2f} s, none dropped"
    )


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
            f"{unknown[0]}{nearest(unknown[0], list(utterances)[:5000])}; mend the trials or the table"
        )
    members = [utterance for model in trials.models for utterance in utterances[model]]
    groups = np.repeat(np.arange(len(trials.models)), [len(utterances[model]) for model in trials.models])
    return group_means(enroll.vectors[enroll.places(members, str(table))], groups, len(trials.models))


def _cosine_features(args, models, tests):
    training = None
    if args.treatment != "raw":
        if not args.train_dir:
            raise UserError(
                f"--treatment {args.treatment} needs --train-dir, a folder of unlabelled training embeddings"
            )
        training = read_embeddings(args.train_dir).vectors
    treatment = fit_treatment(args.treatment, training)
    if treatment.projection is not None and len(treatment.projection) < len(treatment.mean):
        kept, dim = treatment.projection.shape
        log(f"whitening keeps {kept} of {dim} dimensions; the training embeddings do not vary in the rest")
    return cosine_features(treatment(models), treatment(tests))


def _plda_features(folder, models, num_utts, tests):
    """Kaldi's chain: take the mean off, LDA, length normalisation, PLDA with the number of enrolment
    utterances.
    """
    folder = Path(folder)
    for name in ("mean.vec", "transform.mat", "plda"):
        if not (folder / name).exists():
            raise UserError(f"no {folder / name}: run steps/train_plda.sh UTT2SPK XVECTOR_DIR {folder}")
    mean, transform = read_object(str(folder / "mean.vec")), read_object(str(folder / "transform.mat"))
    model = Plda(*read_plda(folder / "plda"))
    if len(mean) != models.shape[1]:
        raise UserError(
            f"{folder} was trained in dimension {len(mean)}, these embeddings have {models.shape[1]}: use "
            "one model for both"
        )

    def prepare(vectors):
        return normalise_length(apply_affine(transform, vectors - mean))

    return model.comparison_features(
        model.project(prepare(models), num_utts), num_utts, model.project(prepare(tests))
    )
