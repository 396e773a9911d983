"""Measure how clusters agree with labels: purity, NMI, precision and recall of pairs.

steps/measure_clusters.sh data/train/utt2spk exp/dino_mini/seed0/clusters

A diagnostic for corpora that have labels; nothing is chosen by it. Writes CLUSTER_DIR/agreement.json, for the
report. Utterances without a label are left out.
"""

from pathlib import Path

from pydino.base import UTT2CLUSTER, Step, UserError, log, write_json
from pydino.cli._arguments import add_cmd
from pydino.cli._steps import check_files, command_line, run_or_submit
from pydino.kaldi import read_utt2label


def add_arguments(parser):
    add_cmd(parser)
    parser.add_argument("utt2label", metavar="UTT2LABEL")
    parser.add_argument("cluster_dir", metavar="CLUSTER_DIR")


def run(args):
    (step,) = steps(args)
    log_file = Path(args.cluster_dir) / "log" / "measure_clusters.log"
    run_or_submit("measure-clusters", step, args, lambda: _measure(args), log_file)


def steps(args) -> list[Step]:
    """Return the step."""
    folder = Path(args.cluster_dir)
    check_files(args.utt2label, folder / UTT2CLUSTER)
    return [
        Step(
            folder / ".measured",
            folder / "agreement.json",
            reads=[args.utt2label, folder / UTT2CLUSTER],
            outputs=[folder / "agreement.json"],
        )
    ]


def _measure(args) -> None:
    from pydino.backend.clustering import agreement

    path = Path(args.cluster_dir) / UTT2CLUSTER
    cluster_of, label_of = read_utt2label(path), read_utt2label(args.utt2label)
    keys = [key for key in cluster_of if key in label_of]
    if not keys:
        raise UserError(
            f"{args.utt2label} has a label for none of the {len(cluster_of)} utterances of {path}; is it the "
            "label map of the training set?"
        )
    found = agreement([cluster_of[key] for key in keys], [label_of[key] for key in keys])
    write_json(
        Path(args.cluster_dir) / "agreement.json",
        {
            "labels": args.utt2label,
            "utterances": len(keys),
            "without_label": len(cluster_of) - len(keys),
            "clusters": len({cluster_of[key] for key in keys}),
            "classes": len({label_of[key] for key in keys}),
            **{name: round(value, 6) for name, value in found.items()},
            "command": command_line("measure-clusters", args),
        },
    )
    log(
        f"{args.cluster_dir}, {len(keys)} utterances with a label: pairs of one cluster that share it "
        f"{100 * found['pair_precision']:.1f} %, pairs that share it in one cluster "
        f"{100 * found['pair_recall']:.1f} %, purity {100 * found['purity']:.1f} %, NMI {found['nmi']:.3f}"
    )
