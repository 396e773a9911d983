"""Train LDA and PLDA on labelled embeddings: mean.vec, transform.mat and plda, as Kaldi writes them.

steps/train_plda.sh --lda-dim 100 data/train/utt2spk exp/dino_mini/seed0/xvectors_train
exp/dino_mini/seed0/plda

Global mean, LDA, length normalisation, two-covariance PLDA by 10 iterations of EM: the chain of Kaldi's
voxceleb recipe. Where the labels do not allow it (one utterance a speaker, a single speaker, too few
utterances for the dimension), nothing is trained: the reason is logged and written to OUT_DIR/skipped, and
the exit status is 0.
"""

from pathlib import Path

import numpy as np

from pydino.backend import train_plda_chain, why_no_plda
from pydino.base import Step, log, write_text
from pydino.cli._arguments import add_cmd, add_max_drop, integer, option
from pydino.cli._embeddings import read_embeddings
from pydino.cli._steps import check_files, marks_of, options_of, run_or_submit
from pydino.kaldi import read_utt2label
from pydino.kaldi.plda_file import write_matrix, write_plda, write_vector

FILES = ("mean.vec", "transform.mat", "plda")


def add_arguments(parser):
    option(parser, "--lda-dim", 100, "at most the embedding's, and speakers - 1", type=integer(1))
    option(parser, "--num-em-iters", 10, type=integer(1))
    add_max_drop(parser, 0.05, "utterances that may lack a label or an embedding")
    add_cmd(parser)
    for name in ("utt2spk", "xvector_dir", "out_dir"):
        parser.add_argument(name, metavar=name.upper())


def run(args):
    (step,) = steps(args)
    log_file = Path(args.out_dir) / "log" / "train_plda.log"
    run_or_submit("train-plda", step, args, lambda: _train(args, step), log_file)


def steps(args) -> list[Step]:
    """Return the step."""
    xvectors, out = Path(args.xvector_dir), Path(args.out_dir)
    check_files(args.utt2spk, xvectors / "xvector.scp")
    return [
        Step(
            out / ".done",
            args.out_dir,
            options=options_of(args, "lda_dim", "num_em_iters", "max_drop"),
            reads=[args.utt2spk, xvectors / "xvector.scp"],
            after=marks_of(xvectors),
        )
    ]


def _train(args, step) -> None:
    out = Path(args.out_dir)
    embeddings, speaker_of = read_embeddings(args.xvector_dir), read_utt2label(args.utt2spk)
    kept = embeddings.labelled(speaker_of, args.utt2spk, args.max_drop)
    vectors = embeddings.vectors[kept].astype(np.float64)
    names, speakers = np.unique([speaker_of[embeddings.keys[i]] for i in kept], return_inverse=True)
    reason = why_no_plda(vectors, speakers)
    for name in (*FILES, "skipped"):  # a folder never holds both a model and a reason for having none
        (out / name).unlink(missing_ok=True)
    if reason:
        log(f"skipped: {reason}")
        step.outputs = [out / "skipped"]
        write_text(out / "skipped", f"no PLDA from {args.utt2spk} and {args.xvector_dir}: {reason}\n")
        return
    lda_dim = min(args.lda_dim, embeddings.dim, len(names) - 1)
    if lda_dim < args.lda_dim:
        reason = f"embeddings have {embeddings.dim}, {len(names)} speakers span {len(names) - 1}"
        log(f"LDA to {lda_dim} dimensions, not {args.lda_dim}: {reason}")
    chain = train_plda_chain(vectors, speakers, lda_dim, args.num_em_iters)
    plda = chain.plda
    write_vector(out / "mean.vec", chain.mean)
    write_matrix(out / "transform.mat", chain.transform)
    write_plda(out / "plda", plda.mean, plda.transform, plda.psi)
    step.outputs = [out / name for name in FILES]
    log(
        f"{len(kept)} embeddings of {len(names)} speakers -> {out}: LDA {embeddings.dim} to {lda_dim}, "
        f"between-class variances {plda.psi[0]:.2f} to {plda.psi[-1]:.2f}"
    )
