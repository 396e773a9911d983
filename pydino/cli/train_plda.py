"""Train LDA and PLDA on speakers or clusters: mean.vec, transform.mat and plda, as Kaldi writes them.

steps/train_plda.sh --lda-dim 100 data/train/utt2spk exp/dino_mini/seed0/xvectors_train
exp/dino_mini/seed0/plda
steps/train_plda.sh --min-utts 2 --lda-dim 64 exp/dino_mini/seed0/clusters/utt2cluster
exp/dino_mini/seed0/xvectors_train exp/dino_mini/seed0/plda_pseudo

Global mean, LDA, length normalisation, two-covariance PLDA by 10 iterations of EM: the chain of Kaldi's
voxceleb recipe. With --between-dim, simplified PLDA: speakers differ in so many directions only. Where the
labels do not allow it (one utterance a speaker, a single speaker, too few utterances for the dimension),
nothing is trained: the reason is logged and written to OUT_DIR/skipped, and the exit status is 0.

OUT_DIR/meta.yaml says what the labels were: pseudo where UTT2SPK is the table of steps/cluster.sh, else
train.
"""

from pathlib import Path

import numpy as np

from pydino.backend import train_plda_chain, why_no_plda
from pydino.base import CLUSTERS, Step, UserError, dump_config, log, write_text
from pydino.cli._arguments import add_cmd, add_max_drop, add_utterances, integer, option
from pydino.cli._backend_labels import is_of_clusters, labels_of_table
from pydino.cli._embeddings import read_several
from pydino.cli._plda import FILES, write_chain
from pydino.cli._steps import check_files, marks_of, options_of, run_or_submit
from pydino.kaldi import read_utt2label


def add_arguments(parser):
    text = "at most the embedding's, and speakers or clusters - 1"
    option(parser, "--lda-dim", 100, text, type=integer(1))
    option(parser, "--num-em-iters", 10, type=integer(1))
    text = (
        "train simplified PLDA with so many dimensions between speakers (default: as many as the LDA keeps)"
    )
    option(parser, "--between-dim", None, text, type=integer(1))
    option(parser, "--min-utts", 1, "omit speakers or clusters with fewer utterances", type=integer(1))
    add_utterances(parser, "of XVECTOR_DIR")
    add_max_drop(parser, 0.05, "utterances that may lack a label or an embedding")
    add_cmd(parser)
    parser.add_argument("utt2spk", metavar="UTT2SPK", help="speakers, or clusters")
    parser.add_argument("xvector_dirs", metavar="XVECTOR_DIR", nargs="+", help="their embeddings")
    parser.add_argument("out_dir", metavar="OUT_DIR")


def run(args):
    (step,) = steps(args)
    log_file = Path(args.out_dir) / "log" / "train_plda.log"
    run_or_submit("train-plda", step, args, lambda: _train(args, step), log_file)


def steps(args) -> list[Step]:
    """Return the step."""
    out, table = Path(args.out_dir), Path(args.utt2spk)
    scp = [Path(folder) / "xvector.scp" for folder in args.xvector_dirs]
    listed = [args.utterances] if args.utterances else []
    check_files(table, *scp, *listed)
    return [
        Step(
            out / ".done",
            args.out_dir,
            version=2,
            options=options_of(args, "lda_dim", "num_em_iters", "between_dim", "min_utts", "max_drop"),
            reads=[table, *scp, *listed],
            optional=[table.parent / CLUSTERS],
            after=marks_of(*args.xvector_dirs),
        )
    ]


def _train(args, step) -> None:
    out, what = Path(args.out_dir), "cluster" if is_of_clusters(args.utt2spk) else "speaker"
    embeddings, speaker_of = read_several(args.xvector_dirs, args.utterances), read_utt2label(args.utt2spk)
    kept = embeddings.labelled(speaker_of, args.utt2spk, args.max_drop)
    names, speakers = np.unique([speaker_of[embeddings.keys[i]] for i in kept], return_inverse=True)
    kept, names, speakers = _with_enough(args, kept, names, speakers, what)
    vectors = embeddings.vectors if len(kept) == len(embeddings.keys) else embeddings.vectors[kept]
    lda_dim = min(args.lda_dim, embeddings.dim, len(names) - 1)
    reason = _why_none(args, vectors, speakers, what)
    for name in (*FILES, "meta.yaml", "skipped"):  # never both a model and a reason for having none
        (out / name).unlink(missing_ok=True)
    if reason:
        log(f"skipped: {reason}")
        step.outputs = [out / "skipped"]
        folders = " ".join(args.xvector_dirs)
        write_text(out / "skipped", f"no PLDA from {args.utt2spk} and {folders}: {reason}\n")
        return
    if lda_dim < args.lda_dim:
        reason = f"embeddings have {embeddings.dim}, {len(names)} {what}s span {len(names) - 1}"
        log(f"LDA to {lda_dim} dimensions, not {args.lda_dim}: {reason}")
    if args.between_dim and args.between_dim > lda_dim:
        raise UserError(
            f"--between-dim {args.between_dim} is more than the {lda_dim} dimensions that the LDA keeps"
        )
    chain = train_plda_chain(vectors, speakers, lda_dim, args.num_em_iters, args.between_dim)
    write_chain(out, chain)
    dump_config(
        {
            "labels": labels_of_table(args.utt2spk),
            "utt2spk": args.utt2spk,
            "embeddings": list(args.xvector_dirs),
            "utterances": len(kept),
            f"{what}s": len(names),
            "lda_dim": lda_dim,
            "between_dim": args.between_dim or lda_dim,
            "min_utts": args.min_utts,
            "num_em_iters": args.num_em_iters,
        },
        out / "meta.yaml",
    )
    step.outputs = [out / name for name in (*FILES, "meta.yaml")]
    psi = chain.plda.psi[: args.between_dim]
    log(
        f"{len(kept)} embeddings of {len(names)} {what}s -> {out}: LDA {embeddings.dim} to {lda_dim}, "
        f"between-class variances {psi[0]:.2f} to {psi[-1]:.2f}"
    )


def _with_enough(args, kept, names, speakers, what: str):
    """Leave out the utterances of speakers (or clusters) that have fewer than --min-utts."""
    counts = np.bincount(speakers, minlength=len(names))
    enough = counts >= args.min_utts
    if enough.all():
        return kept, names, speakers
    log(
        f"omitted: {int((~enough).sum())} of {len(names)} {what}s with fewer than {args.min_utts} "
        f"utterances ({int(counts[~enough].sum())} of {len(kept)} utterances)"
    )
    chosen = enough[speakers]
    return kept[chosen], names[enough], (np.cumsum(enough) - 1)[speakers[chosen]]


def _why_none(args, vectors, speakers, what: str) -> str:
    """Return why PLDA cannot be trained, or an empty string."""
    if not len(speakers):
        return f"no {what} has {args.min_utts} utterances or more"
    return why_no_plda(vectors, speakers, what)
