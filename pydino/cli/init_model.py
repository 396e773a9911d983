"""Make a model folder that has learnt nothing: the baselines that trained models are held against.

pydino init-model --kind untrained --like conf/dino.yaml --seed 0 data/train exp/untrained_mini/seed0/model
pydino init-model --kind fbank-stats data/train exp/fbank-stats_mini/seed0/model

untrained        the encoder of --like with random weights. It runs as any model does, in evaluation mode;
                 batch normalisation then uses the statistics it was made with (mean 0, variance 1), so it
                 changes nothing: the usual choice, and a stated one.
fbank-stats      mean and standard deviation over time of the features: they keep the level and colour of the
recording. fbank-stats-cmn  standard deviation over time after mean normalisation (the mean is then zero).

The front end is that of DATA: its features and VAD as DATA/conf tells, with the normalisation of --like; or,
where --like is a model folder, that model's.
"""

from pathlib import Path

import torch

from pydino.audio import NormalisationConfig
from pydino.base import UserError, config_to_dict, log
from pydino.infer import FrontEnd, FrontEndConfig, read_front_end, read_model_config, save_model
from pydino.models import build_encoder
from pydino.train import load_training_config

KIND_CHOICES = ("untrained", "fbank-stats", "fbank-stats-cmn")


def add_arguments(parser):
    parser.add_argument("--kind", choices=KIND_CHOICES, required=True)
    parser.add_argument(
        "--like",
        metavar="PATH",
        help="training configuration (YAML) or model folder: whose encoder and normalisation",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default: %(default)s)")
    parser.add_argument(
        "data", metavar="DATA", help="data directory with conf/fbank.yaml (or mfcc) and conf/vad.yaml"
    )
    parser.add_argument("folder", metavar="FOLDER", help="model folder to make")


def run(args):
    options, front_end = _like(args.like, args.data)
    if args.kind == "untrained":
        if not options:
            raise UserError(
                "--kind untrained needs --like, a training configuration or model folder, to know which "
                "encoder"
            )
    else:
        centred = args.kind == "fbank-stats-cmn"
        options = {"name": "statistics", "mean": not centred}
        front_end.normalisation = NormalisationConfig(kind="mean" if centred else "none")
    torch.manual_seed(args.seed)
    encoder = build_encoder(options, FrontEnd(front_end, where=str(args.data)).dim)
    config = {
        "encoder": options,
        "embedding_dim": encoder.embedding_dim,
        "role": "untrained" if args.kind == "untrained" else "statistics",
        "method": args.kind,
        "seed": args.seed,
        "train_set": "none",
        "front_end": config_to_dict(front_end),
    }
    save_model(args.folder, encoder, config, _readme(args))
    log(
        f"{args.folder}: {args.kind}, {encoder.embedding_dim} dimensions, "
        f"{sum(p.numel() for p in encoder.parameters())} parameters"
    )


def _like(like: str | None, data) -> tuple[dict, FrontEndConfig]:
    """(encoder options, front end) of ``--like``; no options where there is no ``--like``."""
    if like and Path(like).is_dir():
        config = read_model_config(like)
        return config.encoder, config.front_end
    options, normalisation = {}, NormalisationConfig(kind="mean")
    if like:
        _, training = load_training_config(like)
        options, normalisation = training.encoder, training.normalisation
    return options, read_front_end(data, normalisation)


def _readme(args) -> str:
    what = {
        "untrained": "The encoder with random weights (batch normalisation with mean 0 and variance 1, so "
        "it changes nothing).",
        "fbank-stats": "Mean and standard deviation over time of the features.",
        "fbank-stats-cmn": "Standard deviation over time of the mean-normalised features.",
    }[args.kind]
    like = f" --like {args.like}" if args.like else ""
    return (
        f"# {args.kind}\n\n{what} Nothing was learnt: a baseline.\n\nMade by\n\n"
        f"    pydino init-model --kind {args.kind}{like} --seed {args.seed} {args.data} {args.folder}\n"
    )
