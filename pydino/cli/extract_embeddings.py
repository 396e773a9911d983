"""Embed the stored features of a data directory, or of one part of it.

Writes XVECTOR_DIR/xvector.I.{ark,scp} and names what it dropped in xvector.I.dropped;
steps/extract_embeddings.sh runs it in parallel, and pydino gather-embeddings puts the parts together. The
features and VAD must have been made as the model's front end makes them, which their configuration in
DATA/conf tells; the differing option is named otherwise.
"""

from pathlib import Path

import torch

from pydino.base import UserError, log, warn, write_text
from pydino.cli import boolean
from pydino.cli._features import part, take
from pydino.infer import StoredFeatures, load
from pydino.kaldi import ArchiveWriter

# features held in memory at a time: 64 MB of 80 columns, enough to find equal lengths for a GPU's batches
BLOCK_FRAMES = 200_000


def add_arguments(parser):
    parser.add_argument("model", metavar="MODEL_DIR", help="model folder")
    parser.add_argument("data", metavar="DATA", help="data directory with feats.scp and vad.scp")
    parser.add_argument("xvector_dir", metavar="XVECTOR_DIR")
    parser.add_argument(
        "--part",
        type=part,
        default=(1, 1),
        metavar="I/N",
        help="do run I of N of the utterances (default: 1/1)",
    )
    parser.add_argument(
        "--keep-silence",
        type=boolean,
        default=False,
        metavar="true|false",
        help="use every frame (default: false)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")


def run(args):
    torch.set_num_threads(1)  # the jobs are the threads; and the sums are then the same whatever their number
    model = load(args.model, args.device)
    stored = StoredFeatures(args.data, model.front_end, args.keep_silence)
    index, count = args.part
    todo = take(stored.utterances, args.part)
    stem = Path(args.xvector_dir) / f"xvector.{index}"
    dropped, unvoiced, done = {}, [], 0
    with ArchiveWriter(f"{stem}.ark", f"{stem}.scp") as archive:
        for keys, features in _blocks(stored, todo, dropped, unvoiced):
            for key, vector in zip(keys, model.embed_features(features), strict=True):
                if not bool(torch.isfinite(torch.from_numpy(vector)).all()):
                    raise UserError(
                        f"{args.data}: the embedding of {key} is not finite; look for NaN in its features "
                        "or in the model"
                    )
                archive.write(key, vector)
            done += len(keys)
    write_text(f"{stem}.dropped", "".join(f"{key} {reason}\n" for key, reason in dropped.items()))
    if unvoiced:
        warn(f"{len(unvoiced)} utterances without a voiced frame, embedded as a whole: {' '.join(unvoiced)}")
    log(f"part {index} of {count}: {len(todo)} utterances in, {done} out, {len(dropped)} dropped")


def _blocks(stored: StoredFeatures, keys: list[str], dropped: dict, unvoiced: list):
    """Yield (keys, encoder inputs) of up to BLOCK_FRAMES frames, in order; fill in what is dropped and what
    has no voice.
    """
    names, block, frames = [], [], 0
    for key in keys:
        if not stored.has(key):
            dropped[key] = "has no features"
            continue
        features, any_voiced = stored.read(key)
        if not any_voiced:
            unvoiced.append(key)
        names.append(key)
        block.append(features)
        frames += len(features)
        if frames >= BLOCK_FRAMES:
            yield names, block
            names, block, frames = [], [], 0
    if names:
        yield names, block
