"""Make an untrained model folder, a baseline for trained models.

steps/make_baseline.sh --kind untrained --like conf/dino.yaml data/train exp/untrained_mini/seed0/model
steps/make_baseline.sh --kind fbank-stats data/train exp/fbank-stats_mini/seed0/model
steps/make_baseline.sh --kind pretrained --like conf/wavlm-statistics.yaml data/train \\
  exp/pretrained_wavlm/seed0/model

untrained        the encoder of --like with random weights, in evaluation mode as any model: its batch
                 normalisation has mean 0 and variance 1 and changes nothing.
fbank-stats      mean and standard deviation over time of the features: they keep the level and the colour of
                 the recording.
fbank-stats-cmn  standard deviation over time after mean normalisation (the mean is then zero).
pretrained       the encoder of --like with the weights of a frame-level pre-trained model as published
                 (docs/pretrained.md); pooling that has weights of its own is random.

The front end is that of DATA, its features and VAD as recorded in DATA/conf, with the normalisation of
--like; or, where --like is a model folder, that model's.
"""

import json
import shlex
from pathlib import Path

from pydino.base import Step, UserError, config_to_dict, log

from ._arguments import option
from ._steps import options_of

KINDS = {
    "untrained": "The encoder with random weights (batch normalisation with mean 0 and variance 1, so it "
    "changes nothing).",
    "fbank-stats": "Mean and standard deviation over time of the features.",
    "fbank-stats-cmn": "Standard deviation over time of the mean-normalised features.",
    "pretrained": "A frame-level pre-trained model as it was published, pooled over time.",
}


def add_arguments(parser):
    parser.add_argument("--kind", choices=KINDS, required=True)
    text = "training configuration (YAML) or model folder: whose encoder and normalisation"
    option(parser, "--like", None, text, metavar="PATH")
    option(parser, "--set", [], "override a key of --like, a YAML file; may be repeated", metavar="KEY=VALUE")
    option(parser, "--seed", 0, "of the random weights")
    text = "data directory with conf/fbank.yaml (or mfcc) and conf/vad.yaml"
    parser.add_argument("data", metavar="DATA", help=text)
    parser.add_argument("folder", metavar="MODEL_DIR", help="model folder to make")


def run(args):
    (step,) = steps(args)
    if not step.is_done():
        with step:
            _make(args)


def steps(args) -> list[Step]:
    """Return the step."""
    folder, like = Path(args.folder), args.like
    overrides = {"set": json.dumps(args.set)} if args.set else {}
    conf = [Path(args.data) / "conf" / f"{name}.yaml" for name in ("fbank", "mfcc", "vad")]
    configs = [] if not like else [f"{like}/config.yaml" if Path(like).is_dir() else like]
    return [
        Step(
            folder / ".done",
            args.folder,
            options={**options_of(args, "kind", "seed"), **overrides},
            configs=[*configs, *(path for path in conf if path.is_file())],
            outputs=[folder / "config.yaml", folder / "model.safetensors"],
        )
    ]


def _make(args) -> None:
    import torch

    from pydino.audio import NormalisationConfig
    from pydino.infer import FrontEnd, check_front_end, save_model
    from pydino.models import build_encoder

    options, front_end = _like(args.like, args.set, args.data)
    pretrained = args.kind == "pretrained"
    if pretrained and not options.get("folder"):
        raise UserError(
            "--kind pretrained needs --like, a training configuration whose encoder names the 'folder' of a "
            "pre-trained model (docs/pretrained.md)"
        )
    if args.kind.startswith("fbank-stats"):
        centred = args.kind == "fbank-stats-cmn"
        options = {"name": "statistics", "mean": not centred}
        front_end.normalisation = NormalisationConfig(kind="mean" if centred else "none")
    elif not options:
        raise UserError("--kind untrained needs --like, to know which encoder")
    check_front_end(options, front_end, args.data)
    torch.manual_seed(args.seed)
    encoder = build_encoder(options, FrontEnd(front_end, where=str(args.data)).dim)
    if pretrained:
        encoder.load_pretrained()
    config = {
        "encoder": options,
        "embedding_dim": encoder.embedding_dim,
        "role": {"untrained": "untrained", "pretrained": "model"}.get(args.kind, "statistics"),
        "method": args.kind,
        "seed": args.seed,
        "train_set": Path(options["folder"]).name if pretrained else "none",
        "labels": options["labels"] if pretrained else "none",
        "front_end": config_to_dict(front_end),
    }
    like = ["--like", args.like] if args.like else []
    like += [word for override in args.set for word in ("--set", override)]
    words = ["--kind", args.kind, *like, "--seed", args.seed, args.data, args.folder]
    call = shlex.join(["steps/make_baseline.sh", *map(str, words)])
    origin = f" Its weights are those with the SHA-256 {options['hash']}." if pretrained else ""
    readme = (
        f"# {args.kind}\n\n{KINDS[args.kind]} Nothing was trained: a baseline.{origin}\n\nMade by\n\n"
        f"    {call}\n"
    )
    save_model(args.folder, encoder, config, readme)
    size = sum(parameter.numel() for parameter in encoder.parameters())
    log(f"{args.folder}: {args.kind}, {encoder.embedding_dim} dimensions, {size} parameters")


def _like(like: str | None, overrides: list[str], data) -> tuple:
    """Return encoder options and front end of ``--like``; no options where there is no ``--like``."""
    from pydino.audio import NormalisationConfig
    from pydino.infer import read_front_end, read_model_config
    from pydino.models import input_kind
    from pydino.train import load_training_config

    if overrides and (not like or Path(like).is_dir()):
        raise UserError("--set overrides keys of a training configuration: give --like YAML")
    if like and Path(like).is_dir():
        config = read_model_config(like)
        return config.encoder, config.front_end
    options, normalisation = {}, NormalisationConfig(kind="mean")
    if like:
        _, training = load_training_config(like, overrides)
        options, normalisation = training.encoder, training.normalisation
    return options, read_front_end(data, normalisation, input_kind(options) if options else "features")
