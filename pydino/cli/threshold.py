"""Set a threshold for recordings of your own, without labels, from which on two have the same speaker.

steps/threshold.sh exp/dino_mini/seed0/teacher data/train_ssl exp/dino_mini/seed0/threshold
pydino same-speaker exp/dino_mini/seed0/threshold/threshold.json one.wav two.wav

DATA is a directory of unlabelled recordings of the kind that is to be judged, as steps/make_train_set.sh
makes it (egs/wavdir prepares a folder of recordings). Its utterances and augmented crops of them are embedded
into OUT_DIR/xvectors and OUT_DIR/crops. Pairs of utterances are taken to be of two speakers, pairs of crops
of one utterance to be of one; scores are cosines of mean-subtracted embeddings or, with --backend plda,
log-likelihood ratios of a PLDA, trained on clusters where nobody knows the speakers (steps/train_plda.sh
CLUSTER_DIR/utt2cluster); it is copied to OUT_DIR/plda.

OUT_DIR/threshold.json gets the threshold for --false-alarm-rate, the one for --prior and the costs, the
calibration that turns a score into a log-likelihood ratio, 95 % intervals by bootstrap over utterances, the
mean, and what cannot be known without labels. Some pairs of utterances do have one speaker: tell how many
people speak about equally often (--speakers), or give clusters (--clusters), whose pairs are left out.
docs/calibration.md has the use from Python, and how far from the truth this was.
"""

from dataclasses import replace
from pathlib import Path

from pydino.base import Step, UserError, log, read_yaml, set_program, warn, write_json, write_text
from pydino.cli._arguments import add_cmd, add_config, integer, option, refuse_unused
from pydino.cli._backend_labels import labels_of_plda
from pydino.cli._crop_trials import check_one_model, crop_files, read_crops
from pydino.cli._embeddings import read_embeddings, read_overlap
from pydino.cli._plda import FILES, read_chain, write_chain
from pydino.cli._steps import check_files, marks_of, options_of, why_skipped
from pydino.cli._threshold_notes import cannot_know, note_on_costs

SCORES = {
    "cosine": "cosine of the embeddings minus the mean",
    "plda": "log-likelihood ratio of a PLDA, of the embeddings minus the mean",
}
FEW = 30  # false alarms, below which a rate is hardly known (Doddington's rule of 30)


def add_arguments(parser):
    option(parser, "--false-alarm-rate", 0.01, "share of pairs of two speakers that may be accepted")
    option(parser, "--prior", 0.01, "probability that a pair has one speaker, for the threshold by costs")
    option(parser, "--c-miss", 1.0, "cost of rejecting a pair of one speaker")
    option(parser, "--c-fa", 1.0, "cost of accepting a pair of two")
    option(parser, "--backend", "cosine", "what scores a pair", choices=["cosine", "plda"])
    text = "PLDA of this model's embeddings, from steps/train_plda.sh"
    option(parser, "--plda-dir", None, text, metavar="DIR")
    text = "about how many people speak, equally often"
    option(parser, "--speakers", None, text, type=integer(2), metavar="N")
    text = "folder of clusters; utterances of one are not paired"
    option(parser, "--clusters", None, text, metavar="CLUSTER_DIR")
    add_config(parser, "--config", "crops.yaml", "number, seconds and augmentation of the crops")
    option(
        parser, "--max-pairs", 50_000, "at most so many pairs of either kind", type=integer(1), metavar="N"
    )
    option(parser, "--seed", 0, "of the draw of pairs and of the bootstrap")
    option(parser, "--resamples", 1000, "of the bootstrap")
    text = "crops of DATA that are there already (default: extract them)"
    option(parser, "--crops", None, text, metavar="CROPS_DIR")
    text = "embeddings of DATA that are there already (default: extract them)"
    option(parser, "--xvectors", None, text, metavar="XVECTOR_DIR")
    option(parser, "--nj", 4, "parallel jobs of the extraction", type=integer(1), metavar="N")
    add_cmd(parser, "run_local.sh")
    for name in ("model_dir", "data", "out_dir"):
        parser.add_argument(name, metavar=name.upper())


def run(args):
    _check(args)
    extract = ["--nj", str(args.nj), "--cmd", args.cmd]
    where = [args.model_dir.rstrip("/"), args.data]
    if not args.crops:
        _call("extract-crops", *extract, "--config", args.config, *where, str(_folder(args, "crops")))
    if not args.xvectors:
        _call("extract-embeddings", *extract, *where, str(_folder(args, "xvectors")))
    (step,) = steps(args)
    if step.is_done():
        return
    with step:
        _make(args, step)


def _call(verb: str, *words: str) -> None:
    from pydino.cli import main

    status = main([verb, *words])
    set_program("pydino threshold")
    if status:
        raise UserError(f"{verb} failed; its message is above")


def _folder(args, name: str) -> Path:
    return Path(getattr(args, name) or Path(args.out_dir) / name)


def _check(args) -> None:
    for name in ("false_alarm_rate", "prior"):
        if not 0 < getattr(args, name) < 1:
            raise UserError(
                f"--{name.replace('_', '-')} must be between 0 and 1, got {getattr(args, name):g}"
            )
    for name in ("c_miss", "c_fa"):
        if not getattr(args, name) > 0:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, got {getattr(args, name):g}")
    if args.backend == "cosine":
        refuse_unused(args, "--plda-dir", why="without --backend plda")
    elif not args.plda_dir:
        raise UserError(
            "--backend plda needs --plda-dir, made by steps/train_plda.sh CLUSTER_DIR/utt2cluster "
            "XVECTOR_DIR PLDA_DIR"
        )
    elif Path(args.plda_dir).resolve() == (Path(args.out_dir) / "plda").resolve():
        raise UserError(f"--plda-dir {args.plda_dir} is where the PLDA is copied to: give another OUT_DIR")
    if args.crops:
        refuse_unused(args, "--config", why="on crops that are there already (--crops)")
    if args.crops and args.xvectors:
        why = "where --crops and --xvectors leave nothing to extract"
        refuse_unused(args, "--nj", "--cmd", why=why)
    if args.speakers and args.clusters:
        raise UserError("--speakers and --clusters correct for the same pairs: give one of them")


def _check_model(args, embedded) -> None:
    made = embedded.meta.get("model_dir")
    if made and Path(made).resolve() != Path(args.model_dir).resolve():
        raise UserError(
            f"{embedded.folder} was embedded with {made}, and the threshold is for {args.model_dir}; give "
            "crops and embeddings of that model, or omit --crops and --xvectors to have them made"
        )


def _check_plda(args) -> None:
    """Refuse a PLDA that is known to be of another model, whatever its dimension."""
    described = Path(args.plda_dir) / "meta.yaml"
    for folder in (read_yaml(described) or {}).get("embeddings", []) if described.is_file() else []:
        meta = Path(folder) / "meta.yaml"
        made = (read_yaml(meta) or {}).get("model_dir") if meta.is_file() else None
        if made and Path(made).resolve() != Path(args.model_dir).resolve():
            raise UserError(
                f"--plda-dir {args.plda_dir} was trained on {folder}, embedded with {made}, and the "
                f"threshold is for {args.model_dir}; give a PLDA of that model's embeddings"
            )


def steps(args) -> list[Step]:
    """Return the last step; the extraction has steps of its own."""
    _check(args)
    out, crops, whole = Path(args.out_dir), _folder(args, "crops"), _folder(args, "xvectors")
    files = crop_files(crops, args.clusters)
    scps = [folder / "xvector.scp" for folder in (crops, whole)]
    plda = [args.plda_dir] if args.plda_dir else []
    check_files(files[0], *scps)
    names = "false_alarm_rate prior c_miss c_fa speakers max_pairs seed resamples model_dir data".split()
    return [
        Step(
            out / ".done",
            out / "threshold.json",
            options=options_of(args, *names) | ({"backend": args.backend} if args.plda_dir else {}),
            reads=[files[0], *scps],
            optional=[crops / "utt2hash", *files[1:], *(Path(folder) / "meta.yaml" for folder in plda)],
            after=marks_of(crops, whole, *([args.clusters] if args.clusters else []), *plda),
            outputs=[out / "threshold.json", *(out / "plda" / name for name in FILES if args.plda_dir)],
        )
    ]


def _make(args, step) -> None:
    import numpy as np

    from pydino.backend import equal_error_rate, pair_features
    from pydino.backend.score_calibration import bayes_threshold, fit_calibration
    from pydino.backend.thresholds import false_alarm_threshold

    crops = read_crops(_folder(args, "crops"), args.clusters)
    count = len(crops.utterances)
    if args.plda_dir and (reason := why_skipped(args.plda_dir)):
        _skip(args, step, reason)
        return
    kinds = [read_embeddings(_folder(args, name)) for name in ("crops", "xvectors")]
    for embedded in kinds:
        _check_model(args, embedded)
    check_one_model(kinds[0].folder, kinds[0].dim, kinds[1].folder, kinds[1].dim)
    if args.plda_dir:
        _check_plda(args)
    chain = read_chain(args.plda_dir, kinds[1].dim) if args.plda_dir else None
    # Each kind is centred by its own mean: short, noisy crops have another than whole utterances.
    sides, means = [], []
    for embedded, keys in zip(kinds, (crops.keys[:count], crops.keys[count:]), strict=True):
        chosen = embedded.vectors[embedded.places(keys, f"{_folder(args, 'crops')}/crop2utt")]
        means.append(chosen.astype(np.float64).mean(axis=0))
        sides.append(pair_features(chosen, means[-1], chain))
    left, right = (np.concatenate(side) for side in zip(*sides, strict=True))
    first, second, same = crops.pairs(args.max_pairs, args.seed)
    others = int((~same).sum())
    if reason := _too_little(args, len(crops.hashes), others):
        _skip(args, step, reason)
        return
    if others * args.false_alarm_rate < FEW:
        warn(
            f"{others} pairs of utterances: {others * args.false_alarm_rate:.0f} false alarms decide about "
            f"the threshold, and {FEW} are the least for a rate to be known"
        )
    scores = np.einsum("nk,nk->n", left[first], right[second])
    owner = np.concatenate([crops.utterances, np.arange(len(crops.hashes))])
    share = 1 / args.speakers if args.speakers else 0.0
    found = false_alarm_threshold(
        scores, same, owner[first], owner[second], args.false_alarm_rate, share, args.resamples, args.seed
    )
    fitted = fit_calibration(scores, same, args.prior)
    if not fitted.weights[0] > 0:
        reason = (
            f"{args.data}: crops of one utterance do not score higher than different utterances: do the "
            "embeddings tell anything? A collapsed training shows in the spread of its log.jsonl"
        )
        _skip(args, step, reason)
        return
    by_costs = float(bayes_threshold(args.prior, args.c_miss, args.c_fa) - fitted.offset) / fitted.weights[0]
    record = {
        "model": args.model_dir,
        "data": args.data,
        "score": SCORES[args.backend],
        "false_alarm_rate": args.false_alarm_rate,
        "threshold": found.score,
        "threshold_interval": found.score_interval,
        "miss_rate_of_crops": found.miss,
        "miss_rate_interval": found.miss_interval,
        "eer_of_crops": equal_error_rate(scores, same),
        "prior": args.prior,
        "c_miss": args.c_miss,
        "c_fa": args.c_fa,
        "threshold_by_costs": by_costs,
        "miss_rate_of_crops_by_costs": float((scores[same] < by_costs).mean()),
        "note_on_costs": note_on_costs(args, by_costs, scores.max(), scores.min()),
        "calibration": {"weight": float(fitted.weights[0]), "offset": fitted.offset},
        "pairs_of_crops": int(same.sum()),
        "pairs_of_utterances": others,
        "utterances": len(crops.hashes),
        "speakers": args.speakers,
        "clusters": args.clusters,
        "cannot_know": cannot_know(args, len(read_overlap(kinds[1].folder).utterances)),
        "mean": means[1].tolist(),
    }
    if chain:
        write_chain(Path(args.out_dir) / "plda", replace(chain, mean=means[1]))
        record |= {"plda": args.plda_dir, "labels": labels_of_plda(args.plda_dir)}
    if record["note_on_costs"]:
        warn(record["note_on_costs"])
    write_json(Path(args.out_dir) / "threshold.json", record)
    (Path(args.out_dir) / "skipped").unlink(missing_ok=True)
    interval = "[{:.3f}, {:.3f}]".format(*found.score_interval) if found.score_interval else "(no interval)"
    log(
        f"{args.data}: {record['utterances']} utterances: threshold {found.score:.3f} {interval} for a "
        f"false-alarm rate of {args.false_alarm_rate:g}, {by_costs:.3f} for a prior of {args.prior:g}; "
        f"{100 * found.miss:.1f} % of the pairs of crops are below the former -> "
        f"{args.out_dir}/threshold.json"
    )


def _too_little(args, utterances: int, others: int) -> str:
    """Why the recordings cannot set a threshold, or an empty string."""
    if not others:
        return f"{args.clusters}: no two utterances are in different clusters: no pair of two speakers"
    if others * args.false_alarm_rate < 1:
        return (
            f"{args.data}: {utterances} utterances give {others} pairs, too few for a "
            f"false-alarm rate of {args.false_alarm_rate:g}; give more recordings, or a higher "
            "--false-alarm-rate"
        )
    return ""


def _skip(args, step, reason: str) -> None:
    """Leave the reason in place of a threshold: a recipe that makes other things too goes on."""
    out = Path(args.out_dir)
    (out / "threshold.json").unlink(missing_ok=True)
    step.outputs = [out / "skipped"]
    write_text(out / "skipped", f"no threshold: {reason}\n")
    log(f"skipped: {reason}")
