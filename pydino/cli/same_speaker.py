"""Tell whether audio files have the same speaker, with a threshold from steps/threshold.sh.

pydino same-speaker exp/dino_mini/seed0/threshold/threshold.json one.wav two.wav

Prints a line for each pair of the recordings: their names, the score (that of threshold.json: the cosine of
the embeddings minus their mean, or the log-likelihood ratio of a PLDA), its log-likelihood ratio after
calibration, and `same` where the score is at least the threshold, else `different`. That is an answer at the
threshold, not a finding: at a low rate of false alarms most pairs of one speaker may be below it, and the
calibrated ratio, made without labels, is too far from 0.
threshold.json says for what rate of false alarms it is, and what it cannot know. No decision about a person
should rest on it alone.
"""

import json
import sys
from itertools import combinations
from pathlib import Path

from pydino.base import UserError, log, read_text

from ._arguments import option
from ._plda import read_chain
from ._recordings import add_recordings, names_of, of_each

_KEYS = {"model", "mean", "threshold", "threshold_by_costs", "calibration"}


def add_arguments(parser):
    option(parser, "--model", None, "model folder (default: that of threshold.json)", metavar="MODEL_DIR")
    option(
        parser, "--by-costs", False, "use the threshold by prior and costs, not that of the false-alarm rate"
    )
    parser.add_argument("threshold", metavar="THRESHOLD", help="threshold.json")
    add_recordings(parser)


def run(args):
    import numpy as np

    from pydino.backend import pair_features
    from pydino.infer import load

    if len(args.audio) < 2:
        raise UserError("give two recordings or more to compare")
    names = names_of(args.audio, "compared")
    record = _record(args.threshold)
    folder = args.model or record["model"]
    if not args.model and not Path(folder).is_dir():
        raise UserError(
            f"no model folder {folder}, which {args.threshold} names; call this from the folder where the "
            "threshold was made, or give --model"
        )
    model, mean = load(folder, args.device), np.array(record["mean"])
    if len(mean) != model.embedding_dim:
        raise UserError(
            f"{args.threshold} was made for dimension {len(mean)}, and {folder} has {model.embedding_dim}"
        )

    plda = Path(args.threshold).parent / "plda"
    if record.get("plda") and not plda.is_dir():
        raise UserError(
            f"no {plda}, which steps/threshold.sh puts beside {args.threshold}: copy it too, or run "
            "the step again"
        )
    chain = read_chain(plda, len(mean)) if record.get("plda") else None

    def embed(recording, name: str):
        left, right = pair_features(model.embed_recording(recording, name=name)[None], mean, chain)
        return left[0], right[0]

    vectors = of_each(args, names, model.front_end, embed, "compared")
    threshold = record["threshold_by_costs" if args.by_costs else "threshold"]
    calibration = record["calibration"]
    for one, two in combinations(names, 2):
        score = float(vectors[one][0] @ vectors[two][1])
        llr = calibration["weight"] * score + calibration["offset"]
        answer = "same" if score >= threshold else "different"
        sys.stdout.write(f"{one} {two} {score:.4f} {llr:.2f} {answer}\n")
    if args.by_costs and record.get("note_on_costs"):
        log(record["note_on_costs"])
    log(
        "'different' is a score below the threshold: pairs of one speaker are there too, more of them than "
        f"the miss rate of crops in {args.threshold}"
    )


def _record(path) -> dict:
    """Return what steps/threshold.sh wrote.

    Raises:
        UserError: there is no such file, or it is another.
    """
    try:
        record = json.loads(read_text(path))
    except ValueError:
        record = None
    if not isinstance(record, dict) or not _KEYS <= record.keys():
        raise UserError(f"{path} is not the threshold.json that steps/threshold.sh writes")
    return record
