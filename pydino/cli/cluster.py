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
methods are named in the --config: 'method: kmeans', 'ward', 'average', 'plda-ahc' or 'density'.

Several XVECTOR_DIR, of several training sets, are clustered together; --beside is then given once for each.
One folder of crops serves them all if it is of a directory made of them all; else --crops and --beside-crops
are repeated too. Utterances without crops, such as those that data/train_ssl omits as too short, are
clustered like the others; --utterances data/train_ssl/utt2hash leaves them out. Utterances are taken in the
order of their stored hashes: names have no influence.

Writes CLUSTER_DIR/utt2cluster and cluster2utt, every utterance in a cluster, some alone in theirs; and
clusters.json: the settings, every candidate with its split self-EER, and the one chosen. A warning says where
the clusters are degenerate: most utterances in one, or fewer than two with two members.
"""

import hashlib
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np

from pydino.base import (
    CLUSTERS,
    UTT2CLUSTER,
    Step,
    UserError,
    config_to_dict,
    log,
    plural,
    read_yaml,
    strongest_labels,
    warn,
    write_json,
)
from pydino.cli._arguments import add_cmd, add_config, add_utterances, option
from pydino.cli._crop_trials import check_one_model
from pydino.cli._embeddings import EmbeddingSet, read_several, utterances_of_crops
from pydino.cli._steps import check_files, command_line, marks_of, run_or_submit
from pydino.kaldi import invert, read_table, write_table

_FOLDERS = ("xvector_dirs", "crops", "beside", "beside_crops")


def add_arguments(parser):
    add_config(parser, "--config", "cluster.yaml", "method and settings")
    text = "embeddings of augmented crops of utterances; may be repeated"
    option(parser, "--crops", [], text, metavar="DIR")
    text = "a second embedding of all utterances; may be repeated, for several sets"
    option(parser, "--beside", [], text, metavar="XVECTOR_DIR")
    text = "the second embedding of crops; may be repeated"
    option(parser, "--beside-crops", [], text, metavar="DIR")
    add_utterances(parser, "of XVECTOR_DIR")
    add_cmd(parser)
    parser.add_argument("xvector_dirs", nargs="+", metavar="XVECTOR_DIR")
    parser.add_argument("cluster_dir", metavar="CLUSTER_DIR")


def run(args):
    (step,) = steps(args)
    log_file = Path(args.cluster_dir) / "log" / "cluster.log"
    run_or_submit("cluster", step, args, lambda: _cluster(args), log_file)


def steps(args) -> list[Step]:
    """Return the step."""
    if args.beside_crops and not args.beside:
        raise UserError("--beside-crops are crops of the --beside, which is not given")
    out = Path(args.cluster_dir)
    folders = [Path(folder) for name in _FOLDERS for folder in getattr(args, name)]
    listed = [args.utterances] if args.utterances else []
    check_files(args.config, *listed, *(folder / "xvector.scp" for folder in folders))
    crops = [Path(folder) for folder in (*args.crops, *args.beside_crops)]
    check_files(*(folder / "crop2utt" for folder in crops))
    names = (UTT2CLUSTER, "cluster2utt", CLUSTERS)
    return [
        Step(
            out / ".done",
            args.cluster_dir,
            options={name: " ".join(getattr(args, name)) for name in _FOLDERS},
            configs=[args.config],
            reads=[*(folder / "xvector.scp" for folder in folders), *listed],
            optional=[
                *(folder / "meta.yaml" for folder in folders),
                *(folder / name for folder in crops for name in ("crop2utt", "utt2hash")),
                *(table for folder in args.xvector_dirs if (table := _stored_hashes(folder))),
            ],
            after=marks_of(*folders),
            removes=[out / name for name in (*names, "agreement.json")],
            outputs=[out / name for name in names],
        )
    ]


def _meta(folder) -> dict:
    path = Path(folder) / "meta.yaml"
    return (read_yaml(path) or {}) if path.is_file() else {}


def _stored_hashes(folder) -> Path | None:
    """Return utt2hash of the data directory that a folder of embeddings was made of, if it has one."""
    data = _meta(folder).get("data_dir")
    return Path(data) / "utt2hash" if data else None


def _cluster(args) -> None:
    from pydino.backend.clustering import cluster

    name, config = read_settings(args.config)
    treatment = getattr(config, "treatment", "wccn")
    if args.crops and not treatment.startswith("wccn"):
        log(
            f"{args.config}: method {name} with 'treatment: {treatment}' makes no use of --crops; 'wccn' does"
        )
    keys, hashes = _in_order(read_several(args.xvector_dirs, args.utterances), args)
    embedding = _embedded(args.xvector_dirs, args.crops, keys)
    beside = _embedded(args.beside, args.beside_crops, keys) if args.beside else None
    try:
        found = cluster(embedding, beside, hashes, name, config)
    except ValueError as error:
        raise UserError(f"{args.config}, {len(keys)} utterances: {error}") from error
    _write(args, keys, found, name, config)


def read_settings(path) -> tuple:
    """Return the name of the method that a YAML file sets, and its configuration.

    Raises:
        ConfigError: names file and key.
    """
    from pydino.backend.clustering import clustering_settings

    return clustering_settings(read_yaml(path), str(path))


def _in_order(embedded: EmbeddingSet, args) -> tuple[list[str], np.ndarray]:
    """Return the utterances in the order of their hashes, and these, (N,) uint64.

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
    before: Counter[bytes] = Counter()  # how often an embedding was there; copies of a recording have one
    for key, vector in zip(embedded.keys, embedded.vectors, strict=True):
        if key in stored:
            hash_of[key] = int(stored[key])
        else:
            content = np.ascontiguousarray(vector, dtype="<f4").tobytes()
            hash_of[key] = _hash_of(content, before[content])
            before[content] += 1
    keys = sorted(hash_of, key=lambda key: (hash_of[key], key))
    hashes = np.array([hash_of[key] for key in keys], dtype=np.uint64)
    twice = np.flatnonzero(hashes[1:] == hashes[:-1])
    if len(twice):
        first, second = keys[twice[0]], keys[twice[0] + 1]
        raise UserError(
            f"{first} and {second} have the same hash in utt2hash: make the directory again "
            "(steps/make_train_set.sh), and the crops of it"
        )
    return keys, hashes


def _hash_of(content: bytes, number: int) -> int:
    digest = hashlib.blake2b(content, digest_size=8, salt=number.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")


def _embedded(folders, crop_folders, keys: list[str]):
    """Return the embeddings of ``keys`` by one system (:class:`pydino.backend.clustering.Embedded`)."""
    from pydino.backend.clustering import Embedded

    whole = read_several(folders)
    vectors = whole.vectors[whole.places(keys, "XVECTOR_DIR")]
    if not crop_folders:
        return Embedded(vectors)
    crops = read_several(crop_folders)
    check_one_model(crop_folders[0], crops.dim, folders[0], whole.dim)
    utterances, place = utterances_of_crops(crops, crop_folders)
    number = {key: i for i, key in enumerate(keys)}
    owner = np.array([number.get(utterance, -1) for utterance in utterances])[place]
    # In the order of the hashes, so that sums do not depend on names.
    order = np.argsort(owner, kind="stable")[np.count_nonzero(owner < 0) :]
    if not len(order):
        raise UserError(f"{crops.folder} has no crop of any utterance of {whole.folder}; are they one set?")
    classes = np.unique(owner[order], return_inverse=True)[1]
    return Embedded(vectors, crops.vectors[order], classes)


def _write(args, keys, found, name: str, config) -> None:
    from pydino.backend.clustering import why_degenerate

    out = Path(args.cluster_dir)
    count = int(found.labels.max()) + 1
    width = max(5, len(str(count)))
    cluster_of = {
        key: f"c{label + 1:0{width}d}" for key, label in zip(keys, found.labels.tolist(), strict=True)
    }
    best, degenerate = found.candidates[found.chosen], why_degenerate(found.labels)
    seen = {folder: _meta(folder) for name in _FOLDERS for folder in getattr(args, name)}
    write_table(out / UTT2CLUSTER, cluster_of)
    write_table(out / "cluster2utt", invert(dict(sorted(cluster_of.items(), key=lambda i: i[0].encode()))))
    write_json(
        out / CLUSTERS,
        {
            "method": name,
            "labels": strongest_labels(
                "pseudo", *(meta.get("model_labels") or "unknown" for meta in seen.values())
            ),
            "system": seen[args.xvector_dirs[0]].get("system") or "unknown",
            "utterances": len(keys),
            "clusters": count,
            "singletons": round(best.singletons, 6),
            "self_eer": _percent(best.self_eer),
            "degenerate": degenerate,
            "chosen": found.chosen,
            "candidates": [{**asdict(c), "self_eer": _percent(c.self_eer)} for c in found.candidates],
            "config": config_to_dict(config),
            "crops": bool(args.crops),
            "beside": list(dict.fromkeys(seen[folder].get("system") or folder for folder in args.beside)),
            "command": command_line("cluster", args),
        },
    )
    log(
        f"{len(keys)} utterances in {plural(count, 'cluster')}, {100 * best.singletons:.0f} % of them with "
        f"one member; {best.start}, split self-EER {100 * best.self_eer:.2f} % -> {out / UTT2CLUSTER}"
    )
    if degenerate:
        warn(
            f"{degenerate}: these clusters are no pseudo-labels, and a recipe trains no round on them; give "
            "more recordings of more people, look whether the training collapsed (entropy and spread in its "
            f"log.jsonl), or set another method or other settings in {args.config}"
        )


def _percent(rate: float) -> float:
    return round(100 * rate, 4)
