"""Embed augmented crops of every utterance of a pre-training directory, in parallel jobs.

steps/extract_crops.sh --nj 4 exp/dino_mini/seed0/teacher data/train_ssl exp/dino_mini/seed0/crops_train_ssl

The crops of an utterance differ in what does not matter: where it is cut, noise, room and channel. From them
steps/train_wccn.sh and steps/cluster.sh learn, without a label, which directions of the embedding to trust.
Number, length and augmentation of the crops are those of --config: of filter banks (augment), normalised as
the model's front end does; or, for a model that takes waveforms, of the recordings (waveform, with the lists
in augmentation_data). DATA is made by steps/make_train_set.sh; its utterances are known by their stored
hashes alone.

Writes OUT_DIR/{xvector.ark,xvector.scp,meta.yaml}, as steps/extract_embeddings.sh does, with keys UTT#1,
UTT#2, ...; OUT_DIR/crop2utt, lines 'UTT#K UTT'; and OUT_DIR/utt2hash, a copy. The embeddings do not depend on
the number of jobs.
"""

import shlex
from pathlib import Path

import numpy as np

from pydino.base import Step, UserError, load_config, log, read_yaml, warn, write_json, write_text
from pydino.cli._arguments import add_cmd, add_config, add_device, integer, option, part, refuse_unused
from pydino.cli._extraction import gather, takes_waveforms
from pydino.cli._parts import take
from pydino.cli._steps import aside, check_files, job_command, options_of
from pydino.cli.extract_embeddings import Embedded
from pydino.jobs.submit import check_wrapper, submit
from pydino.kaldi import ArchiveWriter, read_table, write_table


def add_arguments(parser):
    add_config(parser, "--config", "crops.yaml", "number, seconds and augmentation")
    option(parser, "--nj", 4, "parallel jobs", type=integer(1), metavar="N")
    text = "GPUs; with any, each runs one job and --nj is not used"
    option(parser, "--gpu", 0, text, type=integer(0), metavar="N")
    add_cmd(parser, "run_local.sh")
    option(parser, "--system", "", "system of the results (default: the folder of OUT_DIR)")
    option(parser, "--part", None, "only embed part I of N, as the jobs do", type=part, metavar="I/N")
    add_device(parser, "(with --part) ")
    parser.add_argument("model", metavar="MODEL_DIR", help="model folder")
    parser.add_argument("data", metavar="DATA", help="pre-training directory")
    parser.add_argument("out", metavar="OUT_DIR")


def run(args):
    args.model, args.data, args.out = (path.rstrip("/") for path in (args.model, args.data, args.out))
    if args.part:
        _embed_part(args)
        return 0
    refuse_unused(args, "--device", why="without --part: --gpu N takes N GPUs")
    (step,) = steps(args)
    if step.is_done():
        return 0
    if status := aside(lambda: _check(args)):
        return status
    out = Path(args.out)
    jobs, device, options = args.nj, "cpu", []
    if args.gpu:
        jobs, device, options = args.gpu, "cuda", ["--gpu", "1"]
    check_wrapper(args.cmd)
    step.begin()
    jobs = min(jobs, max(1, len(read_table(f"{args.data}/utt2hash"))))
    words = ["--part", f"JOB/{jobs}", "--device", device, "--config", args.config]
    submit(
        args.cmd,
        f"{out}/log/extract_crops.JOB.log",
        job_command("extract-crops", *words, args.model, args.data, args.out),
        jobs,
        options,
        made_from=step.digest,
    )
    system = args.system or "/".join(part for part in out.parent.parts if part != "exp")
    command = shlex.join(["steps/extract_crops.sh", "--config", args.config, args.model, args.data, args.out])
    settings = read_yaml(args.config)
    one = Embedded(args.data, args.out, not Path(f"{args.data}/vad.scp").is_file())
    keys = gather(args.model, one, jobs, 0.0, system, command, args.cmd, "crops", {"crops": settings})
    write_table(out / "crop2utt", {key: key.rpartition("#")[0] for key in keys})
    write_table(out / "utt2hash", read_table(f"{args.data}/utt2hash"))
    step.finish()
    return 0


def steps(args) -> list[Step]:
    """Return the step."""
    model, data, out = Path(args.model), Path(args.data), Path(args.out)
    check_files(args.config, model / "config.yaml", model / "model.safetensors")
    if not (data / "utt2hash").is_file():
        raise UserError(
            f"no {data}/utt2hash: not a pre-training directory; steps/make_train_set.sh makes one"
        )
    check_files(data / "feats.scp")
    of_recordings = _of_recordings(args, data) if takes_waveforms(model) else []
    return [
        Step(
            out / ".done",
            args.out,
            options=options_of(args, "system"),
            configs=[model / "config.yaml", args.config],
            reads=[model / "model.safetensors", data / "feats.scp", data / "utt2hash"],
            optional=[data / "vad.scp", *of_recordings],
            after=[data / ".done"],
            removes=[out / name for name in ("xvector.ark", "xvector.scp", "crop2utt")],
            outputs=[out / f for f in ("xvector.ark", "xvector.scp", "meta.yaml", "crop2utt", "utt2hash")],
        )
    ]


def _of_recordings(args, data: Path) -> list[Path]:
    """What crops of recordings depend on besides: the recordings, and the lists of noises and rooms."""
    named = read_yaml(args.config).get("augmentation_data")  # checked later: that takes an import of torch
    values = list(named.values()) if isinstance(named, dict) else []
    values += [path for rirs in values if isinstance(rirs, dict) for path in rirs.values()]
    return [data / "wav.scp", data / "segments", *(Path(p) for p in values if p and isinstance(p, str))]


def _check(args) -> None:
    """Refuse, before any job, a configuration that is wrong, and warn of one without effect."""
    config = _crops_config(args)
    if takes_waveforms(args.model) and config.waveform == type(config.waveform)():
        warn(
            f"{args.model} takes waveforms, which {args.config} does not augment: crops differ in where they "
            "are cut alone; give waveform and augmentation_data there (docs/pseudo-labels.md)"
        )


def _crops_config(args):
    from pydino.data import AugmentedCropsConfig

    return load_config(AugmentedCropsConfig, args.config)


def _embed_part(args) -> None:
    import torch

    from pydino.data import AugmentedCrops
    from pydino.infer import load, stored_inputs

    torch.set_num_threads(1)  # the jobs are the threads; and sums do not depend on their number
    config = _crops_config(args)
    model = load(args.model, args.device)
    front_end, of_waveforms = model.front_end, model.front_end.of_waveforms
    if not of_waveforms and front_end.config.features["kind"] != "fbank":
        raise UserError(
            f"{args.model} takes {front_end.config.features['kind']} features, and crops are augmented "
            "as filter banks; use a model of fbank features"
        )
    stored_inputs(args.data, front_end)  # for its checks
    if front_end.config.vad is None and Path(f"{args.data}/vad.scp").is_file():
        raise UserError(
            f"{args.data}/vad.scp marks silence, and {args.model} was trained with it; give the directory "
            "that it was trained on"
        )
    crops = AugmentedCrops(
        args.data, config, front_end.config.normalisation, front_end.options, of_waveforms, args.device
    )
    mine = take(list(range(crops.num_batches)), args.part)
    stem, count = f"{args.out}/xvector.{args.part[0]}", 0
    with ArchiveWriter(f"{stem}.ark", f"{stem}.scp") as archive:
        for keys, views in crops.batches(mine):
            vectors = model.embed_features(list(views.flatten(0, 1)))
            if not np.isfinite(vectors).all():
                bad = keys[int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0]) // config.number]
                raise UserError(
                    f"{args.data}: the embedding of a crop of {bad} is not finite; look for NaN in its "
                    "features or in the model"
                )
            names = [f"{key}#{number}" for key in keys for number in range(1, config.number + 1)]
            for name, vector in zip(names, vectors, strict=True):
                archive.write(name, vector)
            count += len(keys)
    write_text(f"{stem}.dropped", "")
    write_json(f"{stem}.json", {"utterances": [], "unknown": "crops of utterances are not looked up"})
    log(
        f"{args.data}: part {args.part[0]} of {args.part[1]}: {config.number} crops of each of {count} of "
        f"{len(crops)} utterances"
    )
