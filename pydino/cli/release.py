"""Pack a training into a folder that may be handed to anybody, to embed with and to train on from.

pydino release exp/dino-koleo_mini/seed0 dino-koleo_mini
pydino release --optimiser true --licence "CC BY 4.0" exp/dino_voxceleb/seed0 dino_voxceleb

OUT gets the model folders as they are, training.safetensors (student, teacher, head, centre, queue), with
--optimiser true also optimiser.safetensors, config.yaml (the resolved configuration), log.jsonl,
results.json, release.json, README.md, and SHA256SUMS of all of them. Nothing in it is code. Paths of this
machine, names of speakers and utterances, and whatever belongs to single utterances, speakers or clusters
stay behind, output layers of classes among them.

pydino train --init OUT, steps/train.sh --init OUT and run.sh --init OUT go on from it (docs/training.md).
"""

import platform
from importlib import metadata
from pathlib import Path

from pydino import __version__
from pydino.base import log, plural
from pydino.cli._arguments import option


def add_arguments(parser):
    parser.add_argument("exp", metavar="EXP", help="folder of a training")
    parser.add_argument("out", metavar="OUT", help="folder to make")
    option(
        parser,
        "--optimiser",
        False,
        "pack the optimiser's moments too: as much again as the networks, or twice",
    )
    text = "of a training that has not come to its end, pack the last checkpoint"
    option(parser, "--unfinished", False, text)
    text = "keep the hashes of the training recordings, by which a test recording among them is recognised"
    option(parser, "--training-audio", True, text)
    option(parser, "--licence", "", "of the weights, in words (default: not stated)")


def run(args):
    from pydino.report import gather_results
    from pydino.train.release import ReleaseOptions, make_release

    exp, out = Path(args.exp), Path(args.out)
    libraries = {"Python": platform.python_version(), "torch": metadata.version("torch")}
    options = ReleaseOptions(
        args.optimiser,
        args.unfinished,
        args.training_audio,
        args.licence,
        {"pydino": __version__, **libraries},
    )
    results = gather_results(exp) if exp.is_dir() else []
    record = make_release(exp, out, results, options)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    log(
        f"{out}: {', '.join(record['models'])} and the state of {record['method']} after "
        f"{record['epochs']:g} epochs, {plural(len(results), 'result')}; {size / 1e6:.1f} MB"
    )
