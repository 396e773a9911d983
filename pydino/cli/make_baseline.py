"""Make an untrained model folder, a baseline for trained models (pydino init-model --help describes each
kind).

steps/make_baseline.sh --kind untrained --like conf/dino.yaml data/train exp/untrained_mini/seed0/model
"""

from pathlib import Path

from pydino.base import Step

KINDS = ("untrained", "fbank-stats", "fbank-stats-cmn")


def add_arguments(parser):
    parser.add_argument("--kind", choices=KINDS, required=True)
    parser.add_argument(
        "--like",
        metavar="PATH",
        help="training configuration (YAML) or model folder: whose encoder and normalisation",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default: %(default)s)")
    parser.add_argument("data", metavar="DATA", help="data directory with conf/fbank.yaml and conf/vad.yaml")
    parser.add_argument("folder", metavar="MODEL_DIR", help="model folder to make")


def run(args):
    (step,) = steps(args)
    if step.is_done():
        return
    from pydino.cli import init_model

    with step:
        init_model.run(args)


def steps(args) -> list[Step]:
    """Return the step."""
    folder, like = Path(args.folder), args.like
    conf = [Path(args.data) / "conf" / f"{name}.yaml" for name in ("fbank", "mfcc", "vad")]
    configs = [] if not like else [f"{like}/config.yaml" if Path(like).is_dir() else like]
    return [
        Step(
            folder / ".done",
            args.folder,
            options={"kind": args.kind, "seed": args.seed},
            configs=[*configs, *(path for path in conf if path.is_file())],
            outputs=[folder / "config.yaml", folder / "model.safetensors"],
        )
    ]
