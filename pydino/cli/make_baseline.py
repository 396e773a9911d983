"""Make an untrained model folder, a baseline for trained models.

steps/make_baseline.sh --kind untrained --like conf/dino.yaml data/train exp/untrained_mini/seed0/model
steps/make_baseline.sh --kind fbank-stats data/train exp/fbank-stats_mini/seed0/model

untrained        the encoder of --like with random weights, in evaluation mode as any model: its batch
                 normalisation has mean 0 and variance 1 and changes nothing.
fbank-stats      mean and standard deviation over time of the features: they keep the level and the colour of
                 the recording.
fbank-stats-cmn  standard deviation over time after mean normalisation (the mean is then zero).

The front end is that of DATA, its features and VAD as recorded in DATA/conf, with the normalisation of
--like; or, where --like is a model folder, that model's.
"""

from pathlib import Path

from pydino.base import Step, UserError, config_to_dict, log

from ._arguments import option
from ._steps import options_of

KINDS = {
    "untrained": "The encoder with random weights (batch normalisation with mean 0 and variance 1, so it "
    "changes nothing).",
    "fbank-stats": "Mean and standard deviation over time of the features.",
    "fbank-stats-cmn": "Standard deviation over time of the mean-normalised features.",
}


def add_arguments(parser):
    parser.add_argument("--kind", choices=KINDS, required=True)
    text = "training configuration (YAML) or model folder: whose encoder and normalisation"
    option(parser, "--like", None, text, metavar="PATH")
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
    conf = [Path(args.data) / "conf" / f"{name}.yaml" for name in ("fbank", "mfcc", "vad")]
    configs = [] if not like else [f"{like}/config.yaml" if Path(like).is_dir() else like]
    return [
        Step(
            folder / ".done",
            args.folder,
            options=options_of(args, "kind", "seed"),
            configs=[*configs, *(path for path in conf if path.is_file())],
            outputs=[folder / "config.yaml", folder / "model.safetensors"],
        )
    ]


def _make(args) -> None:
    import torch

    from pydino.audio import NormalisationConfig
    from pydino.infer import FrontEnd, save_model
    from pydino.models import build_encoder

    options, front_end = _like(args.like, args.data)
    if args.kind != "untrained":
        centred = args.kind == "fbank-stats-cmn"
        options = {"name": "statistics", "mean": not centred}
        front_end.normalisation = NormalisationConfig(kind="mean" if centred else "none")
    elif not options:
        raise UserError("--kind untrained needs --like, to know which encoder")
    torch.manual_seed(args.seed)
    encoder = build_encoder(options, FrontEnd(front_end, where=str(args.data)).dim)
    config = {
        "encoder": options,
        "embedding_dim": encoder.embedding_dim,
        "role": "untrained" if args.kind == "untrained" else "statistics",
        "method": args.kind,
        "seed": args.seed,
        "train_set": "none",
        "labels": "none",
        "front_end": config_to_dict(front_end),
    }
    like = f" --like {args.like}" if args.like else ""
    call = f"steps/make_baseline.sh --kind {args.kind}{like} --seed {args.seed} {args.data} {args.folder}"
    readme = (
        f"# {args.kind}\n\n{KINDS[args.kind]} Nothing was trained: a baseline.\n\nMade by\n\n    {call}\n"
    )
    save_model(args.folder, encoder, config, readme)
    size = sum(parameter.numel() for parameter in encoder.parameters())
    log(f"{args.folder}: {args.kind}, {encoder.embedding_dim} dimensions, {size} parameters")


def _like(like: str | None, data) -> tuple:
    """Return encoder options and front end of ``--like``; no options where there is no ``--like``."""
    from pydino.audio import NormalisationConfig
    from pydino.infer import read_front_end, read_model_config
    from pydino.train import load_training_config

    if like and Path(like).is_dir():
        config = read_model_config(like)
        return config.encoder, config.front_end
    options, normalisation = {}, NormalisationConfig(kind="mean")
    if like:
        _, training = load_training_config(like)
        options, normalisation = training.encoder, training.normalisation
    return options, read_front_end(data, normalisation)
