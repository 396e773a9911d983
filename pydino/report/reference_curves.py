"""Curves of a healthy and of a collapsed run of egs/mini, to compare a run with: files beside this one, made
by ``benchmarks/reference_curves.py`` (docs/monitoring.md).
"""

from functools import cache
from pathlib import Path

import numpy as np

from pydino.base import read_json

FOLDER = Path(__file__).parent / "reference_runs"
NAMES = ("healthy", "collapsed")
# Key of a line of monitor.jsonl, or of :func:`with_log` -> heading, decimals.
SCORES = {
    "self_eer": ("self-EER %", 1),
    "lidar": ("LiDAR", 1),
    "rankme": ("RankMe", 1),
    "stability": ("stability", 2),
    "effective_rank": ("rank in training", 1),
    "information": ("nats in training", 2),
    "embedding_spread": ("spread in training", 2),
}
MOST_ROWS = 12


@cache
def reference_runs() -> dict[str, dict]:
    """Return name -> ``epochs``, ``embedding_dim`` and ``points``, one mapping a snapshot, of the runs in the
    package.
    """
    return {name: read_json(FOLDER / f"{name}.json") for name in NAMES}


def with_log(lines: list[dict], log: list[dict]) -> list[dict]:
    """Return the lines of snapshots with what the log of the training says of their epochs:
    ``effective_rank``, ``embedding_spread`` and, of a method with a teacher, ``information``, the entropy of
    its mean output less the mean of the entropies, in nats.

    Args:
        lines: of monitor.jsonl.
        log: of log.jsonl; a snapshot takes the line that is nearest to its epoch, if it is within half of
        one.
    """
    found = []
    for line in lines:
        near = min(log, key=lambda one: abs(one.get("epoch", -1) - line["epoch"]), default={})
        added = {}
        if line["epoch"] and abs(near.get("epoch", -1) - line["epoch"]) <= 0.5:
            added = {key: near.get(key) for key in ("effective_rank", "embedding_spread")}
            entropies = near.get("mean_teacher_entropy"), near.get("teacher_entropy")
            added["information"] = None if None in entropies else entropies[0] - entropies[1]
        found.append(line | added)
    return found


def curve(points: list[dict], key: str, epochs: float) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of the training, 0 to 1, and values of a score, both (P,), of the points that have it."""
    found = sorted((one["epoch"] / epochs, one[key]) for one in points if one.get(key) is not None)
    return np.array([x for x, _ in found]), np.array([y for _, y in found])


def beside_reference(lines: list[dict], epochs: float) -> str:
    """Return a table as text: each snapshot's scores, in brackets those of the healthy and of the collapsed
    run at the same share of the training.

    Args:
        lines: of monitor.jsonl without labels, as of :func:`with_log`.
        epochs: of the whole training.
    """
    rows = {line["epoch"]: line for line in lines if line.get("self_eer") is not None}
    kept = sorted(rows)
    if len(kept) > MOST_ROWS:
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, MOST_ROWS).round().astype(int)]
    shown = {
        key: how for key, how in SCORES.items() if any(rows[epoch].get(key) is not None for epoch in kept)
    }
    cells = [["epoch", *(heading for heading, _ in shown.values())]]
    for epoch in kept:
        cells.append([f"{epoch:g}"])
        for key, (_, decimals) in shown.items():
            value = rows[epoch].get(key)
            beside = [
                _at(reference, key, epoch / epochs, decimals) for reference in reference_runs().values()
            ]
            text = "-" if value is None else f"{value:.{decimals}f}"
            cells[-1].append(f"{text} ({', '.join(beside)})")
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells
    )


def _at(reference: dict, key: str, share: float, decimals: int) -> str:
    shares, values = curve(reference["points"], key, reference["epochs"])
    return f"{np.interp(share, shares, values):.{decimals}f}" if len(shares) and share >= shares[0] else "-"
