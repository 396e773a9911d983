"""Adapt PLDA to unlabelled embeddings of another domain (Kaldi's ivector-adapt-plda).

steps/adapt_plda.sh exp/dino_mini/seed0/plda exp/dino_mini/seed0/xvectors_mine exp/dino_mini/seed0/plda_mine

What the embeddings of XVECTOR_DIR vary more than the model expects is divided between its within-class and
between-class covariance. As in Kaldi's sre16 recipe, mean.vec becomes their mean, and the LDA is kept. No
label of the new domain is read.
"""

from pathlib import Path

from pydino.base import Step, dump_config, log, write_text
from pydino.cli._arguments import add_cmd, option
from pydino.cli._backend_labels import labels_of_plda
from pydino.cli._embeddings import read_several
from pydino.cli._plda import FILES, read_chain, write_chain
from pydino.cli._steps import check_files, marks_of, options_of, run_or_submit, why_skipped


def add_arguments(parser):
    option(parser, "--mean-diff-scale", 1.0, "of the shift of the mean, in the covariance of the new domain")
    option(parser, "--within-covar-scale", 0.3, "share of the excess variance that is within classes")
    option(parser, "--between-covar-scale", 0.7, "share of it that is between classes")
    add_cmd(parser)
    parser.add_argument("plda_dir", metavar="PLDA_DIR", help="from steps/train_plda.sh")
    parser.add_argument(
        "xvector_dirs", metavar="XVECTOR_DIR", nargs="+", help="unlabelled, of the new domain"
    )
    parser.add_argument("out_dir", metavar="OUT_DIR")


def run(args):
    (step,) = steps(args)
    log_file = Path(args.out_dir) / "log" / "adapt_plda.log"
    run_or_submit("adapt-plda", step, args, lambda: _adapt(args, step), log_file)


def steps(args) -> list[Step]:
    """Return the step."""
    plda, out = Path(args.plda_dir), Path(args.out_dir)
    scp = [Path(folder) / "xvector.scp" for folder in args.xvector_dirs]
    skipped = plda / "skipped"
    check_files(*scp, *([skipped] if skipped.exists() else [plda / name for name in FILES]))
    return [
        Step(
            out / ".done",
            args.out_dir,
            options=options_of(args, "mean_diff_scale", "within_covar_scale", "between_covar_scale"),
            reads=scp,
            optional=[plda / "meta.yaml", skipped, plda / "mean.vec"],
            after=marks_of(plda, *args.xvector_dirs),
        )
    ]


def _adapt(args, step) -> None:
    plda, out = Path(args.plda_dir), Path(args.out_dir)
    for name in (*FILES, "meta.yaml", "skipped"):
        (out / name).unlink(missing_ok=True)
    if reason := why_skipped(plda):
        log(f"skipped: {reason}")
        write_text(out / "skipped", f"{reason}\n")
        step.outputs = [out / "skipped"]
        return
    embedded = read_several(args.xvector_dirs)
    chain = read_chain(plda, embedded.dim)
    adapted = chain.adapt(
        embedded.vectors,
        mean_diff=args.mean_diff_scale,
        within_scale=args.within_covar_scale,
        between_scale=args.between_covar_scale,
    )
    write_chain(out, adapted)
    dump_config(
        {
            "labels": labels_of_plda(plda),
            "adapted_from": str(plda),
            "to": [str(folder) for folder in args.xvector_dirs],
            "utterances": len(embedded.keys),
        },
        out / "meta.yaml",
    )
    step.outputs = [out / name for name in (*FILES, "meta.yaml")]
    before, after = chain.plda.psi, adapted.plda.psi
    log(
        f"{plda} adapted to {len(embedded.keys)} embeddings -> {out}: between-class variances {after[0]:.2f} "
        f"to {after[-1]:.2f} ({before[0]:.2f} to {before[-1]:.2f} before)"
    )
