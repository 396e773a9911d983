"""Cluster the embeddings of a training set: pseudo-labels, found without labels.

steps/cluster.sh --crops exp/dino_mini/seed0/crops_train_ssl
--beside exp/fbank-stats-cmn_mini/seed0/xvectors_train
--beside-crops exp/fbank-stats-cmn_mini/seed0/crops_train_ssl
exp/dino_mini/seed0/xvectors_train exp/dino_mini/seed0/clusters

By default no number of clusters is given: mutual nearest neighbours and label propagation, a PLDA trained on
the clusters, clusters by its scores, merging by its evidence. --crops, embeddings of augmented crops
(steps/extract_crops.sh), tell which directions to trust; --beside is a second embedding of the same
utterances, such as statistics of the filter banks, which the PLDA sees too. What is left to choose is chosen
by split self-EER: a PLDA trained on the clusters of one half of the utterances scores the other half. Other
methods are named in the --config: 'method: kmeans', 'ward', 'average' or 'plda-ahc'.

Several XVECTOR_DIR are clustered together, one a training set; --crops, --beside and --beside-crops are then
given once for each, in the same order. Utterances are taken in the order of their stored hashes: names have
no influence.

Writes CLUSTER_DIR/utt2cluster and cluster2utt, every utterance in a cluster, some alone in theirs; and
clusters.json: the settings, every candidate with its split self-EER, and the one chosen.
"""

import hashlib
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pydino.base import (
    ConfigError,
    Step,
    UserError,
    config_from_dict,
    config_to_dict,
    log,
    read_yaml,
    warn,
    write_json,
)
from pydino.cli._arguments import add_cmd, option
from pydino.cli._embeddings import EmbeddingSet, read_embeddings
from pydino.cli._steps import check_files, command_line, marks_of, run_or_submit
from pydino.kaldi import invert, read_table, write_table

_ONE_THREAD = 20_000  # utterances


def add_arguments(parser):
    option(parser, "--config", "conf/cluster.yaml", "method and settings", metavar="YAML")
    text = "embeddings of augmented crops of the utterances; one for each XVECTOR_DIR"
    option(parser, "--crops", [], text, metavar="DIR")
    text = "a second embedding of the utterances; one for each XVECTOR_DIR"
    option(parser, "--beside", [], text, metavar="XVECTOR_DIR")
    option(parser, "--beside-crops", [], "the second embedding of the crops", metavar="DIR")
    add_cmd(parser)
    parser.add_argument("xvector_dirs", nargs="+", metavar="XVECTOR_DIR")
    parser.add_argument("cluster_dir", metavar="CLUSTER_DIR")


def run(args):
    (step,) = steps(args)
    log_file = Path(args.cluster_dir) / "log" / "cluster.log"
    run_or_submit("cluster", step, args, lambda: _cluster(args), log_file)


def steps(args) -> list[Step]:
    """Return the step."""
    for name in ("crops", "beside", "beside_crops"):
        given = getattr(args, name)
        if given and len(given) != len(args.xvector_dirs):
            raise UserError(
                f"--{name.replace('_', '-')} is given {len(given)} times for {len(args.xvector_dirs)} "
                "XVECTOR_DIR; give it once for each, in the same order"
            )
    if args.beside_crops and not args.beside:
        raise UserError("--beside-crops are crops of the --beside, which is not given")
    out = Path(args.cluster_dir)
    folders = [Path(f) for f in (*args.xvector_dirs, *args.crops, *args.beside, *args.beside_crops)]
    check_files(args.config, *(folder / "xvector.scp" for folder in folders))
    crops = [Path(folder) for folder in (*args.crops, *args.beside_crops)]
    check_files(*(folder / "crop2utt" for folder in crops))
    return [
        Step(
            out / ".done",
            args.cluster_dir,
            configs=[args.config],
            reads=[folder / name for folder in folders for name in ("xvector.scp",)],
            optional=[
                *(folder / "meta.yaml" for folder in folders),
                *(folder / name for folder in crops for name in ("crop2utt", "utt2hash")),
                *(table for folder in args.xvector_dirs if (table := _stored_hashes(folder))),
            ],
            after=marks_of(*folders),
            removes=[out / "utt2cluster", out / "cluster2utt", out / "agreement.json"],
            outputs=[out / name for name in ("utt2cluster", "cluster2utt", "clusters.json")],
        )
    ]


def _stored_hashes(folder) -> Path | None:
    """Return utt2hash of the data directory that a folder of embeddings was made of, if it has one."""
    meta = Path(folder) / "meta.yaml"
    data = (read_yaml(meta) or {}).get("data_dir") if meta.is_file() else None
    return Path(data) / "utt2hash" if data else None


def _cluster(args) -> None:
    from threadpoolctl import threadpool_limits

    from pydino.backend.clustering import METHODS, standardised, treatments

    name, config = read_settings(args.config)
    method = METHODS[name]
    sets = [read_embeddings(folder) for folder in args.xvector_dirs]
    keys, hashes = _in_order(sets, args)
    embedding = _embedded(args.xvector_dirs, args.crops, keys)
    beside = _embedded(args.beside, args.beside_crops, keys) if args.beside else None
    parts = [one.vectors for one in (embedding, beside) if one is not None]
    # A few thousand utterances are done in seconds by one thread, and more threads take longer, above all
    # beside other processes. So the sums, and the clusters, do not depend on the number of cores either.
    threads = 1 if len(keys) <= _ONE_THREAD else None
    try:
        with threadpool_limits(threads):
            starts = treatments(embedding, beside, config.shrinkage)
            found = method.run(starts, standardised(*parts), hashes, config)
    except ValueError as error:
        raise UserError(f"{args.config}, {len(keys)} utterances: {error}") from error
    _write(args, sets, keys, found, name, config)


def read_settings(path) -> tuple:
    """Return the name of the method that a YAML file sets, and its configuration.

    Raises:
        ConfigError: names file and key.
    """
    from pydino.backend.clustering import METHODS

    settings = read_yaml(path)
    name = settings.pop("method", "pseudo-speakers")
    if name not in METHODS:
        raise ConfigError(f"{path}: method must be one of {', '.join(METHODS)}, got {name!r}")
    return name, config_from_dict(METHODS[name].config, settings, where=str(path))


def _in_order(sets: list[EmbeddingSet], args) -> tuple[list[str], np.ndarray]:
    """Return the utterances of all sets in the order of their hashes, and these, (N,) uint64.

    A hash is that of utt2hash beside the crops or in the data directory; where there is none, one of the
    embedding itself, which no more than a stored one depends on the name.
    """
    stored: dict[str, str] = {}
    tables = [Path(folder) / "utt2hash" for folder in args.crops]
    tables += [table for folder in args.xvector_dirs if (table := _stored_hashes(folder))]
    for table in tables:
        if table.is_file():
            stored = read_table(table) | stored
    hash_of: dict[str, int] = {}
    for one in sets:
        for key, vector in zip(one.keys, one.vectors, strict=True):
            if key in hash_of:
                raise UserError(
                    f"{key} is in two of the XVECTOR_DIR; utterances must have names of their own"
                )
            hash_of[key] = int(stored[key]) if key in stored else _hash_of(vector)
    keys = sorted(hash_of, key=lambda key: (hash_of[key], key))
    hashes = np.array([hash_of[key] for key in keys], dtype=np.uint64)
    twice = np.flatnonzero(hashes[1:] == hashes[:-1])
    if len(twice):
        first, second = keys[twice[0]], keys[twice[0] + 1]
        raise UserError(
            f"{first} and {second} have the same hash: they are one recording; remove one of them, and make "
            "the directory again (steps/make_train_set.sh)"
        )
    return keys, hashes


def _hash_of(vector: np.ndarray) -> int:
    digest = hashlib.blake2b(np.ascontiguousarray(vector, dtype="<f4").tobytes(), digest_size=8)
    return int.from_bytes(digest.digest(), "little")


def _embedded(folders, crop_folders, keys: list[str]):
    """Return the embeddings of ``keys`` by one system (:class:`pydino.backend.clustering.Embedded`)."""
    from pydino.backend.clustering import Embedded

    vectors = _gathered(folders, keys)
    if not crop_folders:
        return Embedded(vectors)
    number = {key: place for place, key in enumerate(keys)}
    found, classes = [], []
    for folder in crop_folders:
        crops, utterance_of = read_embeddings(folder), read_table(Path(folder) / "crop2utt")
        if crops.dim != vectors.shape[1]:
            raise UserError(
                f"{folder} has {crops.dim} dimensions, and {folders[0]} {vectors.shape[1]}; extract the "
                "crops with the model of the embeddings"
            )
        _check_model(crops, read_embeddings(folders[0]))
        owner = np.array([number.get(utterance_of.get(key, ""), -1) for key in crops.keys])
        found.append(crops.vectors[owner >= 0])
        classes.append(owner[owner >= 0])
    classes = np.concatenate(classes)
    # In the order of the hashes, so that sums do not depend on names.
    order = np.argsort(classes, kind="stable")
    if not len(order):
        raise UserError(f"{crop_folders[0]} has no crop of any utterance of {folders[0]}; are they one set?")
    classes = np.unique(classes[order], return_inverse=True)[1]
    return Embedded(vectors, np.concatenate(found)[order], classes)


def _check_model(crops: EmbeddingSet, whole: EmbeddingSet) -> None:
    """Warn where crops were embedded by another model of the same dimension, whose directions are others."""
    models = [one.meta.get("model_dir") for one in (crops, whole)]
    if all(models) and len({os.path.realpath(model) for model in models}) > 1:
        warn(f"{crops.folder} are crops embedded by {models[0]}, and {whole.folder} is of {models[1]}")


def _gathered(folders, keys: list[str]) -> np.ndarray:
    """Return the embeddings (N, D) of ``keys``, of several folders, each of a part of them."""
    sets = [read_embeddings(folder) for folder in folders]
    if len({one.dim for one in sets}) > 1:
        dims = ", ".join(f"{one.dim} in {one.folder}" for one in sets)
        raise UserError(f"embeddings of different dimensions: {dims}; extract all with one model")
    place = {key: (one, row) for one in sets for row, key in enumerate(one.keys)}
    missing = [key for key in keys if key not in place]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(keys)} utterances have no embedding in {' '.join(map(str, folders))}, "
            f"such as {min(missing)}; extract it for the same sets"
        )
    return np.stack([place[key][0].vectors[place[key][1]] for key in keys])


def _write(args, sets, keys, found, name: str, config) -> None:
    out = Path(args.cluster_dir)
    count = int(found.labels.max()) + 1
    width = max(5, len(str(count)))
    cluster_of = {
        key: f"c{label + 1:0{width}d}" for key, label in zip(keys, found.labels.tolist(), strict=True)
    }
    best, metas = found.candidates[found.chosen], [one.meta for one in sets]
    write_table(out / "utt2cluster", cluster_of)
    write_table(out / "cluster2utt", invert(dict(sorted(cluster_of.items(), key=lambda i: i[0].encode()))))
    write_json(
        out / "clusters.json",
        {
            "method": name,
            "labels": "train" if any(meta.get("model_labels") == "train" for meta in metas) else "pseudo",
            "system": metas[0].get("system") or "unknown",
            "utterances": len(keys),
            "clusters": count,
            "singletons": round(best.singletons, 6),
            "self_eer": _percent(best.self_eer),
            "chosen": found.chosen,
            "candidates": [{**asdict(c), "self_eer": _percent(c.self_eer)} for c in found.candidates],
            "config": config_to_dict(config),
            "crops": bool(args.crops),
            "beside": [read_embeddings(folder).meta.get("system") or folder for folder in args.beside],
            "command": command_line("cluster", args),
        },
    )
    log(
        f"{len(keys)} utterances in {count} clusters, {100 * best.singletons:.0f} % of them with one member; "
        f"{best.start}, split self-EER {100 * best.self_eer:.2f} % -> {out}/utt2cluster"
    )


def _percent(rate: float) -> float:
    return round(100 * rate, 4)
