"""Seconds of PLDA training, scoring and score normalisation, beside a loop in numpy and Kaldi's programs.

    python3 benchmarks/backend.py [--utterances N] [--speakers N] [--dim D] [--trials N] [--json FILE]

Embeddings of a two-covariance model are drawn, with speakers of unequal size. Three ways are timed in the
same run: ours; the plain form, a loop over classes or trials in numpy as one would write it first; and, where
they are on PATH, Kaldi's programs (ivector-compute-plda, ivector-plda-scoring), from archives to files, as
ours is in the rows "in and out". The median of several runs is reported; a ratio is the other's time over
ours. The plain forms work on a sample of the classes or trials, and their times are scaled up to all of them.
OMP_NUM_THREADS sets the number of threads.
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from report import finish, machine, show

from pydino.backend import Plda, cohort_moments, normalise_scores, score_pairs, train_plda
from pydino.cli._embeddings import _read_embeddings
from pydino.kaldi import ArchiveWriter, read_utt2label, write_table
from pydino.kaldi.plda_file import read_plda, write_plda
from pydino.kaldi.trials import read_trials, write_scores, write_trials

ITERATIONS = 10
SAMPLE = 200  # classes and, times 50, trials of the plain forms


def made(count: int, speakers: int, dim: int):
    """Return vectors (N, D) float32 and their speakers (N,): sizes spread by a factor of nine."""
    rng = np.random.default_rng(0)
    share = rng.uniform(0.2, 1.8, speakers)
    sizes = np.maximum(1, np.floor(count * share / share.sum()).astype(np.int64))
    sizes[: count - sizes.sum()] += 1
    labels = np.repeat(np.arange(speakers), sizes)[:count]
    own = rng.standard_normal((speakers, dim), dtype=np.float32) * np.geomspace(3, 0.1, dim, dtype=np.float32)
    vectors = rng.standard_normal((len(labels), dim), dtype=np.float32)
    for start in range(0, len(labels), 1 << 16):
        vectors[start : start + (1 << 16)] += own[labels[start : start + (1 << 16)]]
    return vectors, labels


def plain_em(vectors, labels) -> float:
    """Seconds of ten iterations class by class, measured on a sample of the classes."""
    dim, classes = vectors.shape[1], int(labels.max()) + 1
    means = [vectors[labels == c].astype(np.float64).mean(axis=0) for c in range(SAMPLE)]
    sizes = np.bincount(labels)
    within, between = np.eye(dim), np.eye(dim)
    began = time.perf_counter()
    between_inverse, within_inverse = np.linalg.inv(between), np.linalg.inv(within)
    for n, m in zip(sizes[:SAMPLE], means, strict=True):
        variance = np.linalg.inv(between_inverse + n * within_inverse)
        w = variance @ (n * within_inverse @ m)
        between = between + variance + np.outer(w, w)
        within = within + n * (variance + np.outer(m - w, m - w))
    return (time.perf_counter() - began) * ITERATIONS * classes / SAMPLE


def plain_scores(model, models, tests, rows, columns) -> float:
    """Seconds of the log-likelihood ratios one trial at a time, on a sample of the trials."""
    gain = model.psi / (model.psi + 1)
    same, other = 1 + model.psi / (model.psi + 1), 1 + model.psi
    began = time.perf_counter()
    for e, t in zip(rows[: 50 * SAMPLE], columns[: 50 * SAMPLE], strict=True):
        with_class = -0.5 * (np.log(same) + (tests[t] - gain * models[e]) ** 2 / same).sum()
        _ = with_class + 0.5 * (np.log(other) + tests[t] ** 2 / other).sum()
    return (time.perf_counter() - began) * len(rows) / (50 * SAMPLE)


def plain_normalisation(left, right, cohort_left, cohort_right, rows, columns, top) -> float:
    """Seconds of as-norm, cohort scores sorted vector by vector, then trial by trial, on a sample of both."""
    few = min(SAMPLE, len(left), len(right))
    began = time.perf_counter()
    moments = []
    for side, cohort in ((left, cohort_right), (right, cohort_left)):
        highest = [np.sort(cohort @ one)[-top:] for one in side[:few]]
        moments.append([(scores.mean(), scores.std()) for scores in highest])
    spent = (time.perf_counter() - began) * (len(left) + len(right)) / (2 * few)
    began = time.perf_counter()
    for e, t in zip(rows[: 50 * SAMPLE] % few, columns[: 50 * SAMPLE] % few, strict=True):
        score, (m, d), (n, s) = left[e] @ right[t], moments[0][e], moments[1][t]
        _ = ((score - m) / d + (score - n) / s) / 2
    return spent + (time.perf_counter() - began) * len(rows) / (50 * SAMPLE)


def seconds(function, passes: int) -> float:
    spent = []
    for _ in range(passes):
        began = time.perf_counter()
        function()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def row(name, ours, plain, kaldi) -> dict:
    ratio = {"plain s": plain, "ratio": plain / ours} if plain else {"plain s": "-", "ratio": "-"}
    return (
        {"what": name, "s": ours}
        | ratio
        | {
            "Kaldi s": kaldi or "not on PATH",
            "ratio to Kaldi": kaldi / ours if kaldi else "-",
        }
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--utterances", type=int, default=30_000, metavar="N")
    parser.add_argument("--speakers", type=int, default=3_000, metavar="N")
    parser.add_argument("--dim", type=int, default=200, metavar="D")
    parser.add_argument("--trials", type=int, default=500_000, metavar="N")
    parser.add_argument("--passes", type=int, default=3, metavar="N", help="runs of each (default: 3)")
    parser.add_argument("--training-only", action="store_true", help="only the training, in memory")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    args = parser.parse_args()
    vectors, labels = made(args.utterances, args.speakers, args.dim)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours = seconds(lambda: train_plda(vectors, labels, ITERATIONS), args.passes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = [row("train PLDA, in memory", ours, plain_em(vectors, labels), None)]
    if not args.training_only:
        with tempfile.TemporaryDirectory() as folder:
            rows += _with_files(args, vectors, labels, Path(folder))
    title = (
        f"{args.utterances:,} x {args.dim}, {args.speakers:,} speakers, {ITERATIONS} iterations, "
        f"{args.trials:,} trials; training took {(peak - before) / 1024:.0f} MiB besides its vectors"
    )
    show(title, rows)
    finish({"title": title, "rows": rows, "machine": machine()}, args.json)


def _with_files(args, vectors, labels, folder: Path) -> list[dict]:
    width = len(str(len(labels)))
    keys = [f"s{label:0{width}d}-u{i:0{width}d}" for i, label in enumerate(labels)]
    with ArchiveWriter(str(folder / "xvector.ark"), str(folder / "xvector.scp")) as archive:
        for key, vector in zip(keys, vectors, strict=True):
            archive.write(key, vector)
    write_table(folder / "utt2spk", {key: key.partition("-")[0] for key in keys})
    (folder / "spk2utt").write_text(
        "".join(
            f"s{c:0{width}d} {' '.join(keys[i] for i in places)}\n"
            for c, places in enumerate(np.split(np.arange(len(keys)), np.cumsum(np.bincount(labels))[:-1]))
        )
    )
    side = max(2, int(round(np.sqrt(args.trials * 2))))  # half of all pairs of so many utterances
    chosen = np.random.default_rng(1).choice(len(keys), min(side, len(keys)), replace=False)
    pairs = np.triu_indices(len(chosen), 1)
    order = np.random.default_rng(2).permutation(len(pairs[0]))[: args.trials]
    rows, columns = pairs[0][order], pairs[1][order]
    names = [keys[i] for i in chosen]
    write_trials(folder / "trials", names, rows, columns, labels[chosen[rows]] == labels[chosen[columns]])
    kaldi = {name: shutil.which(name) for name in ("ivector-compute-plda", "ivector-plda-scoring")}
    found = []

    def train():
        embedded = _read_embeddings(folder / "xvector.scp")
        speaker_of = read_utt2label(folder / "utt2spk")
        speakers = np.unique([speaker_of[key] for key in embedded.keys], return_inverse=True)[1]
        model = train_plda(embedded.vectors, speakers, ITERATIONS)
        write_plda(folder / "plda", model.mean, model.transform, model.psi)

    words = ["ark:" + str(folder / "spk2utt"), "scp:" + str(folder / "xvector.scp"), folder / "kaldi.plda"]
    ours = seconds(train, args.passes)
    found.append(
        row("train PLDA, in and out", ours, None, _kaldi(kaldi, "ivector-compute-plda", words, args))
    )
    model = Plda(*read_plda(folder / "plda"))
    some = vectors[chosen]
    projected = model.project(some)
    left, right = model.comparison_features(projected, 1, projected)
    ours = seconds(
        lambda: score_pairs(*model.comparison_features(projected, 1, projected), rows, columns), args.passes
    )
    plain = plain_scores(model, projected, projected, rows, columns)
    found.append(row("score trials, in memory", ours, plain, None))

    def score():
        embedded, trials = _read_embeddings(folder / "xvector.scp"), read_trials(folder / "trials")
        place = {key: i for i, key in enumerate(embedded.keys)}
        one, two = (
            model.project(embedded.vectors[[place[name] for name in side]])
            for side in (trials.models, trials.tests)
        )
        scores = score_pairs(*model.comparison_features(one, 1, two), trials.rows, trials.columns)
        write_scores(folder / "scores", trials, scores)

    scp = "scp:" + str(folder / "xvector.scp")
    words = [folder / "plda", scp, scp, folder / "trials", folder / "kaldi.scores"]
    ours = seconds(score, args.passes)
    found.append(
        row("score trials, in and out", ours, None, _kaldi(kaldi, "ivector-plda-scoring", words, args))
    )
    cohort = model.project(vectors[:: max(1, len(vectors) // 5000)])
    cohort_left, cohort_right = model.comparison_features(cohort, 1, cohort)
    raw = score_pairs(left, right, rows, columns)

    def normalise():
        moments = cohort_moments(left, cohort_right, 300), cohort_moments(right, cohort_left, 300)
        normalise_scores(raw.copy(), rows, columns, *moments)

    plain = plain_normalisation(left, right, cohort_left, cohort_right, rows, columns, 300)
    what = f"as-norm, {len(cohort)} in the cohort"
    return [*found, row(what, seconds(normalise, args.passes), plain, None)]


def _kaldi(programs, name, words, args) -> float | None:
    if not programs[name]:
        return None
    command = [programs[name], *map(str, words)]
    return seconds(lambda: subprocess.run(command, check=True, stderr=subprocess.DEVNULL), args.passes)


if __name__ == "__main__":
    sys.exit(main())
