"""How far scores without labels order snapshots and runs as their equal error rates do, and what is lost by
choosing by them.

    python benchmarks/label_free_scores.py egs/mini/exp/*/seed*
    python benchmarks/label_free_scores.py --data data/train_ssl --eval data/test \\
        --trials data/test/trials exp/*/seed*

Reads EXP/monitor.jsonl, where pydino monitor has left scores without labels and, with --trials, error rates;
the second form measures first what is missing. Of the first role (the model) of each run:

within runs   Spearman correlation of a score with the EER over the snapshots of a run, mean over the runs
              with three snapshots or more. 1: the better score always has the lower EER.
between runs  the same over the last snapshots of all runs: methods and settings.
regret        EER of the snapshot that the score is best for, less the least EER of the snapshots of the run,
              mean over the runs, in percent points; "last" is the last snapshot. pydino monitor --choose
              takes the best self-EER.

Intervals are of 95 %, by bootstrap over runs (2,000 draws, seed 0); with fewer than five runs they say
little. Runs of one configuration and several seeds count as several.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pydino.backend import percentile_interval  # noqa: E402
from pydino.base import UserError, read_json_lines  # noqa: E402

# Score -> 1 where more is better, -1 where less is.
DIRECTION = {
    "self_eer": -1,
    "lidar": 1,
    "rankme": 1,
    "alignment": -1,
    "uniformity": -1,
    "stability": 1,
}
DRAWS = 2000


def read_run(exp: Path) -> list[dict]:
    """Return the snapshots of a run that have both kinds of figures, earliest first: scores and ``eer``.

    Raises:
        UserError: none has.
    """
    lines = read_json_lines(exp / "monitor.jsonl")
    errors = {(line["model"], line["weights"]): line["eer"] for line in lines if line.get("eer") is not None}
    found = {
        line["model"]: line | {"eer": errors[line["model"], line["weights"]]}
        for line in lines
        if line.get("self_eer") is not None and (line["model"], line["weights"]) in errors
    }
    if not found:
        raise UserError(
            f"{exp}: no snapshot has both scores without labels and an EER; run pydino monitor with --data "
            "of the training directory, then with --data and --trials of the trials"
        )
    return sorted(found.values(), key=lambda line: line["epoch"])


def spearman(x, y) -> float:
    """Return the rank correlation of two sequences, ties averaged; NaN where one of them is constant or there
    are fewer than three pairs.
    """
    x, y = rankdata(x), rankdata(y)
    if len(x) < 3 or not np.ptp(x) or not np.ptp(y):
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def correlation(points: list[dict], score: str) -> float:
    """Return the Spearman correlation of a score with the EER: 1 where the better score has the lower EER."""
    pairs = [(DIRECTION[score] * one[score], -one["eer"]) for one in points if one.get(score) is not None]
    return spearman(*zip(*pairs, strict=True)) if pairs else float("nan")


def regret(points: list[dict], score: str) -> float:
    """Return the EER of the snapshot that a score chooses, less the least EER."""
    least = min(one["eer"] for one in points)
    if score == "last":
        return points[-1]["eer"] - least
    known = [one for one in points if one.get(score) is not None]
    return max(known, key=lambda one: DIRECTION[score] * one[score])["eer"] - least if known else float("nan")


def with_interval(values: np.ndarray, decimals: int = 2) -> str:
    """Return the mean of one value a run, without the NaNs, and its interval by bootstrap over the runs."""
    values = values[np.isfinite(values)]
    if not len(values):
        return "-"
    drawn = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = percentile_interval(values[drawn].mean(axis=1))
    return f"{values.mean():.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def between(runs: list[list[dict]], score: str) -> str:
    """Return the correlation over the last snapshots of runs, and its interval by bootstrap over the runs."""
    ends = [points[-1] for points in runs]
    drawn = np.random.default_rng(0).integers(0, len(ends), (DRAWS, len(ends)))
    values = np.array([correlation([ends[i] for i in draw], score) for draw in drawn])
    values = values[np.isfinite(values)]
    if not np.isfinite(correlation(ends, score)) or not len(values):
        return "-"
    low, high = percentile_interval(values)
    return f"{correlation(ends, score):.2f} [{low:.2f}, {high:.2f}]"


def table(runs: list[list[dict]]) -> str:
    """Return the study as a table in Markdown."""
    lines = [
        f"{len(runs)} runs, {sum(map(len, runs))} snapshots.",
        "",
        "| score | within runs, Spearman | between runs, Spearman | regret, EER % |",
        "|---|--:|--:|--:|",
    ]
    for score in (*DIRECTION, "last"):
        cells = ["-", "-"]
        if score in DIRECTION:
            cells = [
                with_interval(np.array([correlation(points, score) for points in runs])),
                between(runs, score),
            ]
        several = [points for points in runs if len(points) > 1]
        cells.append(with_interval(np.array([regret(points, score) for points in several])))
        lines.append(f"| {score} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("exp", metavar="EXP", type=Path, nargs="+", help="folders of training runs")
    parser.add_argument("--data", metavar="DATA", help="pre-training directory: measure what is missing")
    parser.add_argument("--eval", metavar="DATA", help="with --data, data directory of the trials")
    parser.add_argument("--trials", metavar="TRIALS", help="with --data")
    args = parser.parse_args()
    if len({args.data is None, args.eval is None, args.trials is None}) > 1:
        parser.error("--data, --eval and --trials go together")
    for exp in args.exp if args.data else ():
        monitor = [sys.executable, "-m", "pydino", "monitor", str(exp)]
        subprocess.run([*monitor, "--data", args.data], check=True)
        subprocess.run([*monitor, "--data", args.eval, "--trials", args.trials], check=True)
    try:
        print(table([read_run(exp) for exp in args.exp]))
    except UserError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
