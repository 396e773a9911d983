"""Make trials that need no label, from crops, clusters and whole utterances: to calibrate scores and set
thresholds.

steps/make_crop_trials.sh --clusters $dir/clusters $dir/crops_train_ssl $dir/xvectors_train $dir/crop_trials

Two crops of one utterance, augmented differently, are a target trial; two whole utterances are a nontarget
trial. CROPS_DIR is made by steps/extract_crops.sh, XVECTOR_DIR (one a set) has the embeddings of the
utterances. OUT_DIR is an embedding folder of what the trials name (xvector.scp, which points into the
archives of both, and meta.yaml) with the tables `trials`, lines `enroll test target|nontarget`, and `pairs`,
the same without the third field: steps/score.sh scores `pairs` with any back-end and measures nothing, and
steps/calibrate.sh fits a calibration to the scores with `trials`:

steps/score.sh $dir/crop_trials/pairs $dir/crop_trials $dir/crop_trials $dir/scores/crops.cosine.raw.txt

With --targets clusters, two utterances of one cluster are a target trial instead; CROPS_DIR then gives the
utterances alone. A cosine is calibrated better on them, and they allow quality measures; a PLDA must not be
calibrated on the clusters that it was trained on.

All are approximations. Crops of one utterance share its session and microphone, so target trials are
too easy. Two utterances may be of one speaker, as one pair in S is with S speakers of equally many
utterances: with --clusters (of steps/cluster.sh), utterances of one cluster are not paired.

Where the clusters allow no target or no nontarget trial, OUT_DIR/skipped says so, and steps/score.sh and
steps/calibrate.sh skip what they would make of the trials. The draw depends on the stored hashes of the
utterances and the seed, not on names or order; a folder of crops without utt2hash, which
steps/extract_crops.sh always writes, is drawn from by hashes of names. OUT_DIR/trials.json says that no label
was used, or those of the clusters.
"""

from pathlib import Path

from pydino.base import Step, UserError, dump_config, log, nearest, read_yaml, write_json, write_text
from pydino.cli._arguments import integer, option
from pydino.cli._crop_trials import check_one_model, crop_files, read_crops
from pydino.cli._steps import check_files, marks_of, options_of


def add_arguments(parser):
    text = "folder of clusters; utterances of one are no nontarget trial"
    option(parser, "--clusters", None, text, metavar="CLUSTER_DIR")
    text = "what target trials are: two crops of an utterance, or two utterances of a cluster"
    option(parser, "--targets", "crops", text, choices=["crops", "clusters"])
    text = "at most so many trials of either kind"
    option(parser, "--max-pairs", 50_000, text, type=integer(1), metavar="N")
    option(parser, "--seed", 0, "of the draw")
    parser.add_argument("crops_dir", metavar="CROPS_DIR")
    parser.add_argument("xvector_dirs", metavar="XVECTOR_DIR", nargs="+")
    parser.add_argument("out_dir", metavar="OUT_DIR")


def run(args):
    (step,) = steps(args)
    if step.is_done():
        return
    with step:
        _make(args, step)


def steps(args) -> list[Step]:
    """Return the step."""
    if args.targets == "clusters" and not args.clusters:
        raise UserError("--targets clusters needs --clusters, a folder of steps/cluster.sh")
    crops, out = Path(args.crops_dir), Path(args.out_dir)
    files = crop_files(crops, args.clusters)
    scps = [Path(folder) / "xvector.scp" for folder in (crops, *args.xvector_dirs)]
    check_files(files[0], *scps)
    outputs = [out / name for name in ("trials", "pairs", "trials.json", "xvector.scp", "meta.yaml")]
    return [
        Step(
            out / ".done",
            args.out_dir,
            version=2,
            options=options_of(args, "targets", "max_pairs", "seed"),
            reads=[files[0], *scps],
            optional=[crops / "utt2hash", *files[1:]],
            after=marks_of(crops, *args.xvector_dirs, *([args.clusters] if args.clusters else [])),
            removes=[*outputs, out / "skipped"],
            outputs=outputs,
        )
    ]


def _make(args, step) -> None:
    import numpy as np

    from pydino.kaldi import read_object, write_table
    from pydino.kaldi.trials import write_trials

    out = Path(args.out_dir)
    crops = read_crops(args.crops_dir, args.clusters)
    count, of_clusters = len(crops.utterances), args.targets == "clusters"
    place_of = _places(args.xvector_dirs, crops.keys[count:], args.crops_dir)
    if not of_clusters:
        whole = place_of[crops.keys[count]]
        place_of |= _places([args.crops_dir], crops.keys[:count], args.crops_dir)
        dims = [len(read_object(place)) for place in (place_of[crops.keys[0]], whole)]
        check_one_model(args.crops_dir, dims[0], args.xvector_dirs[0], dims[1])
    first, second, same = crops.pairs(args.max_pairs, args.seed, of_clusters)
    if reason := _why_none(same):
        log(f"skipped: {reason}")
        write_text(out / "skipped", f"no trials from {args.crops_dir} and {args.clusters}: {reason}\n")
        step.outputs = [out / "skipped"]
        return
    write_trials(out / "trials", crops.keys, first, second, same)
    write_trials(out / "pairs", crops.keys, first, second)
    used = np.unique(np.concatenate([first, second])).tolist()
    write_table(out / "xvector.scp", {crops.keys[i]: place_of[crops.keys[i]] for i in used})
    meta = read_yaml(Path(args.crops_dir) / "meta.yaml")
    dump_config(meta | {"data": "crops", "data_dir": args.out_dir}, out / "meta.yaml")
    made_from = {} if of_clusters else {"crops": args.crops_dir}
    write_json(out / "trials.json", {"labels": crops.labels, "clusters": args.clusters, **made_from})
    targets = "utterances of one cluster" if of_clusters else "crops of one utterance"
    log(
        f"{args.crops_dir}: {len(crops.hashes)} utterances -> {int(same.sum())} target trials, {targets}, "
        f"and {int((~same).sum())} nontarget trials, {out}/trials"
    )


def _why_none(same) -> str:
    """Return why the clusters allow no trials, or an empty string."""
    if not same.any():
        return "each utterance is alone in its cluster, so there is no target trial"
    return "no two utterances are in different clusters, so there is no nontarget trial" if same.all() else ""


def _places(folders: list[str], names: list[str], crops_dir: str) -> dict[str, str]:
    """Return where the embeddings of crops or utterances are: the lines of xvector.scp, of all folders."""
    from pydino.kaldi import read_table

    table: dict[str, str] = {}
    for folder in folders:
        table |= read_table(Path(folder) / "xvector.scp")
    if lacking := [name for name in names if name not in table]:
        raise UserError(
            f"{' and '.join(f'{folder}/xvector.scp' for folder in folders)}: {len(lacking)} of {len(names)} "
            f"names of {crops_dir}/crop2utt are not in it, first: "
            f"{lacking[0]}{nearest(lacking[0], list(table)[:5000])}; extract crops and utterances of one set"
        )
    return table
