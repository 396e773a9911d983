"""Estimate within-class covariance normalisation on augmented crops, without labels: mean.vec, transform.mat.

steps/train_wccn.sh exp/dino_mini/seed0/crops_train_ssl exp/dino_mini/seed0/wccn

The crops of one utterance are a class: what tells them apart is where they were cut, noise, room and channel.
transform.mat makes their covariance the unit matrix; steps/score.sh --centring wccn applies it before a
cosine. CROPS_DIR is made by steps/extract_crops.sh and holds crop2utt. The covariance is shrunk towards a
multiple of the unit matrix (pydino/backend/wccn.py has the formula). Files as Kaldi writes them.
"""

from pathlib import Path

import numpy as np

from pydino.backend import estimate_wccn
from pydino.base import Step, UserError, log
from pydino.cli._arguments import add_cmd, option, share
from pydino.cli._embeddings import read_embeddings, utterances_of_crops
from pydino.cli._steps import check_files, marks_of, options_of, run_or_submit
from pydino.kaldi.plda_file import write_matrix, write_vector


def add_arguments(parser):
    text = "of the covariance towards a multiple of the unit matrix, from 0 to 1"
    option(parser, "--shrinkage", 0.1, text, type=share)
    add_cmd(parser)
    for name in ("crops_dir", "wccn_dir"):
        parser.add_argument(name, metavar=name.upper())


def run(args):
    (step,) = steps(args)
    log_file = Path(args.wccn_dir) / "log" / "train_wccn.log"
    run_or_submit("train-wccn", step, args, lambda: _train(args), log_file)


def steps(args) -> list[Step]:
    """Return the step."""
    crops, out = Path(args.crops_dir), Path(args.wccn_dir)
    check_files(crops / "xvector.scp", crops / "crop2utt")
    return [
        Step(
            out / ".done",
            args.wccn_dir,
            options=options_of(args, "shrinkage"),
            reads=[crops / "xvector.scp", crops / "crop2utt"],
            after=marks_of(crops),
            outputs=[out / "mean.vec", out / "transform.mat"],
        )
    ]


def _train(args) -> None:
    out, crops = Path(args.wccn_dir), read_embeddings(args.crops_dir)
    utterances, classes = utterances_of_crops(crops, [args.crops_dir])
    try:
        transform = estimate_wccn(crops.vectors, classes, args.shrinkage)
    except ValueError as error:
        raise UserError(f"{args.crops_dir}: {error}") from error
    write_vector(out / "mean.vec", crops.vectors.mean(axis=0, dtype=np.float64))
    write_matrix(out / "transform.mat", transform)
    log(f"{len(crops.keys)} crops of {len(utterances)} utterances, {crops.dim} dimensions -> {out}")
