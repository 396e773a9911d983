"""The two halves of extraction: a job embeds its part of every set; then the parts of a set are put together.

The utterances of all sets, one set after another, are divided into N runs of about the same number of frames.
A job leaves XVECTOR_DIR/xvector.I.{ark,scp,dropped} for every set, also where it had none of its utterances,
and xvector.I.json: which of them the model was trained on.
"""

from pathlib import Path

import numpy as np

from pydino import __version__
from pydino.base import UserError, dump_config, log, read_json, read_yaml, warn, write_json, write_text
from pydino.kaldi import ArchiveWriter, Overlap, read_scp_objects, read_table

from ._embeddings import write_overlap
from ._parts import check_drops, check_left

_TYPICAL_FRAMES = 500  # of an utterance whose number of frames is not known


def takes_waveforms(model_dir) -> bool:
    """Whether a model takes recordings instead of stored features."""
    return read_yaml(Path(model_dir) / "config.yaml").get("front_end", {}).get("input") == "waveform"


def embed_part(model_dir, sets, which: tuple[int, int], device: str) -> None:
    """Embed run I of N of the utterances of all ``sets``.

    Raises:
        UserError: features or VAD that do not fit the model, an embedding that is not finite.
    """
    import torch

    from pydino.infer import load, overlap, stored_inputs

    torch.set_num_threads(1)  # the jobs are the threads; and sums do not depend on their number
    model = load(model_dir, device)
    stored = [stored_inputs(one.data, model.front_end, one.keep_silence) for one in sets]
    frames = []
    for source in stored:
        known = source.num_frames()
        frames.append({key: known.get(key, _TYPICAL_FRAMES) for key in source.utterances})
    parts = part_of_each(frames, which)
    for one, source, keys in zip(sets, stored, parts, strict=True):
        _embed(model, one, source, keys, which)
        heard = overlap(model_dir, one.data, filter(source.has, keys))
        write_json(f"{one.out}/xvector.{which[0]}.json", vars(heard))


def part_of_each(frames: list[dict[str, int]], which: tuple[int, int]) -> list[list[str]]:
    """Return which utterances of each set belong to part I of N: consecutive ones, with about the same number
    of frames in each part.

    Args:
        frames: for each set, its utterances in order and their numbers of frames.
        which: (I, N), I from 1.
    """
    index, count = which
    weights = np.array([max(1, n) for one in frames for n in one.values()], dtype=np.int64)
    middles = np.cumsum(weights) - weights / 2
    number = np.floor(middles * count / max(1, weights.sum())).astype(np.int64)
    mine, start, parts = number == index - 1, 0, []
    for one in frames:
        parts.append([key for key, chosen in zip(one, mine[start : start + len(one)], strict=True) if chosen])
        start += len(one)
    return parts


def _embed(model, one, stored, keys: list[str], which: tuple[int, int]) -> None:
    stem = f"{one.out}/xvector.{which[0]}"
    kept, unvoiced = [key for key in keys if stored.has(key)], []
    dropped = [key for key in keys if not stored.has(key)]
    with ArchiveWriter(f"{stem}.ark", f"{stem}.scp") as archive:
        for names, features, without_speech in stored.blocks(kept):
            unvoiced += without_speech
            for key, vector in zip(names, model.embed_features(features), strict=True):
                if not np.isfinite(vector).all():
                    raise UserError(
                        f"{one.data}: the embedding of {key} is not finite; look for NaN in its features "
                        "or in the model"
                    )
                archive.write(key, vector)
    write_text(f"{stem}.dropped", "".join(f"{key} has no features\n" for key in dropped))
    if unvoiced:
        warn(f"{len(unvoiced)} utterances without a voiced frame, embedded as a whole: {' '.join(unvoiced)}")
    log(
        f"{one.data}: part {which[0]} of {which[1]}: {len(keys)} utterances in, {len(kept)} out, "
        f"{len(dropped)} dropped"
    )


def gather(
    model_dir,
    one,
    jobs: int,
    max_drop: float,
    system: str,
    command: str,
    cmd: str,
    what: str = "utterances",
    also: dict | None = None,
) -> list[str]:
    """Put the parts of a set together to xvector.{ark,scp}, write meta.yaml, count what came in, went out and
    was dropped, and remove the parts.

    Args:
        model_dir, one: model and set.
        jobs: number of parts.
        max_drop: share that may be dropped.
        system: of the results.
        command: that makes this set alone.
        cmd: wrapper of the jobs, for a message.
        what: was embedded, in words.
        also: further entries of meta.yaml.

    Returns:
        The keys of the embeddings.

    Raises:
        UserError: a part is missing, or more than ``max_drop`` of the utterances were dropped.
    """
    out = Path(one.out)
    parts = [out / f"xvector.{number}" for number in range(1, jobs + 1)]
    for kind in ("dropped", "json"):
        check_left([f"{part}.{kind}" for part in parts], cmd)
    dropped: dict[str, str] = {}
    for part in parts:
        dropped |= read_table(f"{part}.dropped", check_sorted=False)
    kept = []
    # The parts are consecutive runs of sorted utterances: one after another they are in order.
    with ArchiveWriter(str(out / "xvector.ark"), str(out / "xvector.scp")) as archive:
        for part in parts:
            for key, vector in read_scp_objects(f"{part}.scp"):
                archive.write(key, vector)
                kept.append(key)
    total = len(kept) + len(dropped)
    check_drops(dropped, total, one.data, out / "dropped.txt", max_drop)
    # The jobs have checked it, with all that a model needs; loading it again would take longer than all of
    # this.
    config = read_yaml(Path(model_dir) / "config.yaml")
    heard = write_overlap(out, [Overlap(**read_json(f"{part}.json")) for part in parts])
    dump_config(
        {
            "model": config["method"],
            "role": config["role"],
            "encoder": config["encoder"]["name"],
            "system": system,
            "model_labels": config.get("labels", "unknown"),
            "varied": config.get("varied", {}),
            "seed": config["seed"],
            "train_set": config["train_set"],
            "data": Path(one.data).resolve().name,
            "data_dir": one.data,
            "model_dir": str(model_dir),
            "keep_silence": one.keep_silence,
            "training_overlap": heard,
            "version": __version__,
            "command": command,
            **(also or {}),
        },
        out / "meta.yaml",
    )
    for path in out.glob("xvector.[0-9]*"):  # also of an attempt with another number of jobs
        path.unlink()
    log(
        f"{one.data}: {total} {what} in, {len(kept)} out, {len(dropped)} dropped; "
        f"{config['embedding_dim']} dimensions -> {out}/xvector.scp"
    )
    return kept
