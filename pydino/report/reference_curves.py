"""Curves of a healthy and of a collapsed run of egs/mini, to compare a run with: files beside this one, made
by ``benchmarks/reference_curves.py`` (docs/monitoring.md).
"""

from functools import cache
from pathlib import Path

import numpy as np

from pydino.base import read_json

FOLDER = Path(__file__).parent / "reference_runs"
NAMES = ("healthy", "collapsed")
# Key of a line of monitor.jsonl -> heading, decimals.
SCORES = {
    "self_eer": ("self-EER %", 1),
    "lidar": ("LiDAR", 1),
    "rankme": ("RankMe", 1),
    "stability": ("stability", 2),
}
MOST_ROWS = 12


@cache
def reference_runs() -> dict[str, dict]:
    """Return name -> ``epochs``, ``embedding_dim`` and ``points``, one mapping a snapshot, of the runs in the
    package.
    """
    return {name: read_json(FOLDER / f"{name}.json") for name in NAMES}


def curve(points: list[dict], key: str, epochs: float) -> tuple[np.ndarray, np.ndarray]:
    """Return shares of the training, 0 to 1, and values of a score, both (P,), of the points that have it."""
    found = sorted((one["epoch"] / epochs, one[key]) for one in points if one.get(key) is not None)
    return np.array([x for x, _ in found]), np.array([y for _, y in found])


def beside_reference(lines: list[dict], epochs: float) -> str:
    """Return a table as text: each snapshot's scores, in brackets those of the healthy and of the collapsed
    run at the same share of the training.

    Args:
        lines: of monitor.jsonl without labels.
        epochs: of the whole training.
    """
    rows = {line["epoch"]: line for line in lines if line.get("self_eer") is not None}
    kept = sorted(rows)
    if len(kept) > MOST_ROWS:
        kept = [kept[i] for i in np.linspace(0, len(kept) - 1, MOST_ROWS).round().astype(int)]
    cells = [["epoch", *(f"{heading} (healthy, collapsed)" for heading, _ in SCORES.values())]]
    for epoch in kept:
        cells.append([f"{epoch:g}"])
        for key, (_, decimals) in SCORES.items():
            value = rows[epoch].get(key)
            beside = [
                _at(reference, key, epoch / epochs, decimals) for reference in reference_runs().values()
            ]
            shown = "-" if value is None else f"{value:.{decimals}f}"
            cells[-1].append(f"{shown} ({', '.join(beside)})")
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells
    )


def _at(reference: dict, key: str, share: float, decimals: int) -> str:
    shares, values = curve(reference["points"], key, reference["epochs"])
    return f"{np.interp(share, shares, values):.{decimals}f}" if len(shares) else "-"
