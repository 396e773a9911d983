"""Clusters of a corpus of VoxCeleb2's size, and a PLDA trained on them: seconds, memory, agreement.

    python3 benchmarks/clusters.py [--vectors N] [--centroids K] [--clusters C] [--precision bfloat16] [--json
    FILE]

The embeddings are drawn: speakers of about 180 utterances in 25 sessions each, 256 dimensions, in which
speakers, sessions and utterances vary such that the EER of the cosine is about 5 %. Measured are spherical
k-means, average link of its clusters, PLDA on the result, and the search of neighbours by cells; then k-means
against scikit-learn's MiniBatchKMeans, and faiss where it is installed, on a tenth of the vectors and
centroids. Peak memory is that of the process, the embeddings included. Agreement with the speakers that were
drawn is a check of the programs, not a result: these vectors are what the algorithms assume.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report import finish, machine, show  # noqa: E402

from pydino.backend import (  # noqa: E402
    cosine_features,
    equal_error_rate,
    score_pairs,
    train_plda_chain,
)
from pydino.backend.clustering import (  # noqa: E402
    average_link,
    kmeans,
    make_cells,
    nearest_neighbours,
    recall,
)
from pydino.base import keyed_bits  # noqa: E402

DIM, UTTERANCES, SESSIONS, CHUNK = 256, 182, 25, 1 << 16
LDA_DIM, EM_ITERATIONS = 200, 10
PLACES = np.arange(DIM)
# Standard deviations in each dimension, of speakers, sessions and utterances.
SPEAKER, SESSION, UTTERANCE = np.exp(-PLACES / 60), 0.7 * np.exp(-PLACES / 60), 0.9 * np.exp(-PLACES / 100)


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings (count, 256) float32, and the speaker of each; about 182 of a speaker."""
    draws = np.random.default_rng(seed)
    speakers = max(2, count // UTTERANCES)
    popularity = draws.lognormal(0, 0.4, size=speakers)
    speaker = np.sort(draws.choice(speakers, size=count, p=popularity / popularity.sum()))
    session = speaker * SESSIONS + draws.integers(SESSIONS, size=count)
    of_speaker = SPEAKER * draws.standard_normal((speakers, DIM), dtype=np.float32)
    of_session = SESSION * draws.standard_normal((speakers * SESSIONS, DIM), dtype=np.float32)
    vectors = np.empty((count, DIM), dtype=np.float32)
    for start in range(0, count, CHUNK):
        part = slice(start, start + CHUNK)
        vectors[part] = of_speaker[speaker[part]] + of_session[session[part]]
        vectors[part] += UTTERANCE * draws.standard_normal((len(vectors[part]), DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, speaker


class Parts:
    """Rows of the table: what was done, how long it took, the time of all cores, how much memory the process
    has needed so far.
    """

    def __init__(self):
        self.rows = []

    def run(self, name: str, function):
        start, busy = time.perf_counter(), time.process_time()
        result = function()
        row = {
            "part": name,
            "seconds": time.perf_counter() - start,
            "core seconds": time.process_time() - busy,
            "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
        self.rows.append(row)
        print(
            ", ".join(f"{key} {value:.4g}" if key != "part" else value for key, value in row.items()),
            flush=True,
        )
        return result


def pair_agreement(labels: np.ndarray, speakers: np.ndarray) -> tuple[float, float]:
    """Return the share of pairs of a cluster that are one speaker, and of a speaker that are in one
    cluster, in percent.
    """

    def pairs(groups):
        counts = np.unique(groups, return_counts=True)[1].astype(np.float64)
        return (counts * (counts - 1)).sum()

    both = pairs(labels.astype(np.int64) * (speakers.max() + 1) + speakers)
    return 100 * both / pairs(labels), 100 * both / pairs(speakers)


def error_rates(chain, vectors, speakers) -> dict[str, float]:
    """Return EERs (%) of all pairs of vectors of speakers that nothing was trained on."""
    rows, columns = np.triu_indices(len(vectors), 1)
    target = speakers[rows] == speakers[columns]
    rates = {}
    for name, sides in (
        ("cosine", cosine_features(vectors, vectors)),
        ("PLDA on clusters", chain.comparison_features(vectors, np.ones(len(vectors), dtype=int), vectors)),
    ):
        scores = score_pairs(*sides, rows, columns)
        rates[name] = 100 * equal_error_rate(scores, target)
    return rates


def against_others(vectors, hashes, centroids: int, options: dict) -> list[dict]:
    """Return seconds and mean cosine of k-means by this package and by others, on the same vectors."""
    rows = []

    def add(name, function):
        start = time.perf_counter()
        labels = function()
        seconds = time.perf_counter() - start
        sums = np.zeros((centroids, DIM))
        np.add.at(sums, labels, vectors)
        rows.append(
            {"k-means": name, "seconds": seconds, "cosine": np.linalg.norm(sums, axis=1).sum() / len(vectors)}
        )

    add("pydino", lambda: kmeans(vectors, centroids, 1, hashes, **options).labels)

    def sklearn():
        from sklearn.cluster import MiniBatchKMeans

        return MiniBatchKMeans(
            centroids,
            init="random",
            batch_size=4096,
            max_iter=options["num_iterations"],
            n_init=1,
            random_state=1,
        ).fit_predict(vectors)

    add("scikit-learn, MiniBatchKMeans", sklearn)
    try:
        import faiss
    except ImportError:
        print("faiss is not installed: no comparison with it")
        return rows

    def by_faiss():
        found = faiss.Kmeans(
            DIM,
            centroids,
            niter=options["num_iterations"],
            seed=1,
            spherical=True,
            max_points_per_centroid=options["max_points_per_centroid"],
        )
        found.train(vectors)
        return found.index.search(vectors, 1)[1][:, 0]

    add("faiss", by_faiss)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name, default, meaning in (
        ("vectors", 1_100_000, "embeddings"),
        ("centroids", 12_000, "of k-means"),
        ("clusters", 7_500, "of average link"),
        ("points", 100, "vectors a centroid that k-means is trained on, if there are more"),
        ("candidates", 64, "centroids that a vector is compared with after the first iteration; 0 for all"),
        ("iterations", 10, "of k-means"),
        ("cells", 4_096, "for the search of neighbours; 0 for no search"),
        ("probes", 16, "cells in which neighbours are sought"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} (default: %(default)s)")
    parser.add_argument(
        "--precision", default="float32", help="of the assignment: float32, bfloat16 (default: %(default)s)"
    )
    parser.add_argument("--json", help="write the figures there")
    args = parser.parse_args()

    options = {
        "num_iterations": args.iterations,
        "max_points_per_centroid": args.points,
        "num_candidates": args.candidates or None,
        "precision": args.precision,
    }
    parts = Parts()
    vectors, speakers = parts.run("draw the embeddings", lambda: draw(args.vectors, 0))
    hashes = keyed_bits(0, np.arange(args.vectors))
    found = parts.run(
        f"k-means, {args.centroids} centroids",
        lambda: kmeans(vectors, args.centroids, 1, hashes, **options),
    )
    used = np.unique(found.labels, return_inverse=True)[1]
    labels = parts.run(
        f"average link, {args.clusters} clusters",
        lambda: average_link(vectors, vectors, num_clusters=args.clusters, start=used),
    )
    chain = parts.run("PLDA", lambda: train_plda_chain(vectors, labels, LDA_DIM, EM_ITERATIONS))
    if args.cells:
        cells = parts.run(
            f"{args.cells} cells", lambda: make_cells(vectors, 1, hashes, args.cells, args.probes)
        )
        near, _ = parts.run("6 neighbours by cells", lambda: nearest_neighbours(vectors, vectors, 6, cells))
    show("1. Parts", parts.rows)

    agreement = {}
    for name, partition in (("k-means", found.labels), ("average link", labels)):
        agreement[name] = dict(
            zip(("one speaker", "one cluster"), pair_agreement(partition, speakers), strict=True)
        )
    show(
        "2. Pairs of a cluster that are one speaker, of a speaker in one cluster, %",
        [{"clusters": name, **shares} for name, shares in agreement.items()],
    )
    rates = error_rates(chain, *draw(4000, 1))
    show("3. EER of new speakers, %", [{"score": name, "EER": value} for name, value in rates.items()])
    figures = {"parts": parts.rows, "pairs": agreement, "eer": rates}
    if args.cells:
        some = np.argsort(hashes)[: min(1000, args.vectors)]
        cosines = vectors[some] @ vectors.T
        cosines[np.arange(len(some)), some] = -np.inf
        exact = np.argsort(-cosines, axis=1)[:, :6]
        figures["recall"] = recall(near[some], exact)
        print(f"\n{100 * figures['recall']:.1f} % of the 6 nearest neighbours are found by cells")
    some = np.sort(np.argsort(hashes)[: max(args.vectors // 10, args.centroids // 10)])
    figures["kmeans"] = against_others(vectors[some], hashes[some], args.centroids // 10, options)
    show(f"4. {len(some)} vectors, {args.centroids // 10} centroids", figures["kmeans"])
    finish({"machine": machine(), "options": vars(args), **figures}, args.json)


if __name__ == "__main__":
    main()
