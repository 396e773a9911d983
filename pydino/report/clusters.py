"""Clusters and rounds in the report: how good the pseudo-labels are by the measure that chose them, what is
reached with them after each round, and what it costs.
"""

import math
from dataclasses import dataclass

from pydino.base import CLUSTERS, out_of_date, read_json
from pydino.report.figure_cache import FigureCache
from pydino.report.figures import Figure
from pydino.report.gather import TrainingRun, files_of, is_current
from pydino.report.tables import BASELINES, LABELS, Table, cell_text, is_baseline, mean_value, rank

# (back-end, labels of it, treatment) -> heading, in the order of the columns.
_SCORERS = {
    ("cosine", "none", "raw"): "cosine",
    ("cosine", "none", "centred"): "cosine, centred",
    ("cosine", "none", "wccn"): "cosine, wccn",
    ("cosine", "none", "centred, as-norm"): "cosine, as-norm",
    ("plda", "pseudo", "raw"): "PLDA, clusters",
    ("plda", "pseudo", "raw + statistics"): "PLDA, clusters, + statistics",
    ("plda", "train", "raw"): "PLDA, labels",
    ("plda", "train", "raw + statistics"): "PLDA, labels, + statistics",
}
_AGREEMENT = {"purity": "purity", "pair_precision": "pair precision", "pair_recall": "pair recall"}


@dataclass(frozen=True)
class ClustersOf:
    """The clusters of one system: ``clusters.json``, and ``agreement.json`` where there are labels."""

    system: str
    about: dict
    agreement: dict


def gather_clusters(root) -> list[ClustersOf]:
    """Every ``clusters.json`` under ``root`` that is up to date."""
    found = []
    for path in files_of(root, CLUSTERS):
        if is_current(path):
            agreement, mark = path.with_name("agreement.json"), path.with_name(".measured")
            current = agreement.is_file() and not (mark.is_file() and out_of_date(mark))
            measured = read_json(agreement) if current else {}
            about = read_json(path)
            found.append(ClustersOf(str(about["system"]), about, measured))
    return found


def rounds_tables(clusters: list[ClustersOf], results: list[dict], runs: list[TrainingRun]) -> list[Table]:
    """One table for each list of trials: systems in their rounds, clusters, EER of the main scorers, minutes
    of training. Without trials one table of the clusters alone; none without clusters.
    """
    if not clusters:
        return []
    rates = [r for r in results if r["task"] == "sv" and r["metric"] == "eer" and not r.get("varied")]
    tests = dict.fromkeys(r["test_set"] for r in rates) or [""]
    return [_table(name, clusters, [r for r in rates if r["test_set"] == name], runs) for name in tests]


def _table(test_set: str, clusters: list[ClustersOf], rates: list[dict], runs: list[TrainingRun]) -> Table:
    # Name without the seed -> clusters, rates, minutes: a value each seed.
    systems: dict[str, dict[str, list]] = {}
    for one in clusters:
        _of(systems, one.system)["clusters"].append(one)
    for rate in rates:
        _of(systems, rate["system"])["rates"].append(rate)
    for name, found in systems.items():
        found["minutes"] = minutes_of_training(name, runs)
    order = sorted(systems, key=lambda name: _order(name, systems[name]["rates"]))
    scorers = [key for key in _SCORERS if any(key == _scorer(rate) for rate in rates)]
    rows = [_row(name, systems[name], scorers) for name in order]
    header = ["system", "clusters", "alone %", "self-EER %", *(f"{name} % †" for name in _AGREEMENT.values())]
    header += [_SCORERS[key] for key in scorers] + ["minutes"]
    kept = [0, *(j for j in range(1, len(header)) if any(row[j] for row in rows))]
    table = Table(
        f"Clusters and rounds: {test_set}" if test_set else "Clusters",
        _caption(bool(rates), any(one.agreement for one in clusters)),
        [header[j] for j in kept],
        [[row[j] for j in kept] for row in rows],
        text_columns=1,
    )
    for key in scorers:
        values = [_mean(systems[name]["rates"], key) for name in order]
        best = min((value for value in values if value is not None), default=None)
        column = kept.index(header.index(_SCORERS[key]))
        table.best |= {(i, column) for i, value in enumerate(values) if value == best and len(order) > 1}
    return table


def _of(systems: dict, system: str) -> dict[str, list]:
    return systems.setdefault(system.split("/seed")[0], {"clusters": [], "rates": [], "minutes": []})


def _order(name: str, rates: list[dict]) -> tuple:
    """Models, then their rounds, then models trained with labels; baselines at the end."""
    first = rates[0] if rates else {}
    labels = first.get("model_labels", "none")
    return is_baseline(first.get("model", "")), rank(LABELS, labels), name


def _row(name: str, found: dict[str, list], scorers: list[tuple]) -> list[str]:
    about = [one.about for one in found["clusters"]]
    cells = [
        name,
        _cell([one["clusters"] for one in about], 0),
        _cell([100 * one["singletons"] for one in about], 0),
        _cell([one["self_eer"] for one in about], 1),
    ]
    for key in _AGREEMENT:
        cells.append(
            _cell([100 * one.agreement[key] for one in found["clusters"] if key in one.agreement], 0)
        )
    for key in scorers:
        cells.append(cell_text([rate for rate in found["rates"] if _scorer(rate) == key], 2))
    return [*cells, _cell(found["minutes"], 1)]


def _scorer(rate: dict) -> tuple:
    return rate["backend"], rate["labels"], rate["treatment"]


def _mean(rates: list[dict], key: tuple) -> float | None:
    return mean_value([rate for rate in rates if _scorer(rate) == key])


def _cell(values: list[float], decimals: int) -> str:
    """The mean over seeds and, of several, their range."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return cell_text([{"value": value, "ci": None} for value in finite], decimals)


def _caption(scored: bool, compared: bool) -> str:
    text = (
        "Clusters of the training embeddings, found without labels: their number, the share of those with "
        "one member (alone), and the split self-EER: the EER of a PLDA trained on the clusters of one half "
        "of the utterances, on those of the other half. It chose the clusters, and decides whether another "
        "round is trained. It falls as the clusters grow consistent, and is no estimate of the error rate."
    )
    if compared:
        text += " †: compared with the labels of the training set afterwards; nothing was chosen by it."
    if scored:
        text += (
            " EER % of the trials by cosine and by PLDA trained on clusters; PLDA trained on labels, and "
            "models trained with labels, for comparison. Baselines go through the same chain: the statistics "
            "of the filter banks show what it reaches without a network."
        )
    return text + " Minutes: of the training steps of the model, without those of the model it started from."


def minutes_of_training(system: str, runs: list[TrainingRun]) -> list[float]:
    """The minutes that the training steps of a system took, of each of its seeds; all its runs together."""
    by_seed: dict[str, float] = {}
    for run in runs:
        name, _, rest = run.name.partition("/seed")
        if name == system and run.minutes is not None and "/transfer/" not in run.name:
            seed = rest.split("/")[0]
            by_seed[seed] = by_seed.get(seed, 0.0) + run.minutes
    return list(by_seed.values())


def cluster_figures(clusters: list[ClustersOf], cache: FigureCache) -> list[Figure]:
    """The split self-EER of every candidate of each system; none without clusters that were chosen so."""
    shown = []
    for one in sorted(clusters, key=lambda one: (one.system.startswith(BASELINES), one.system)):
        values = [candidate["self_eer"] for candidate in one.about["candidates"]]
        if len(values) > 1 and all(value is not None and math.isfinite(value) for value in values):
            shown.append((one.system, values, one.about["chosen"]))
    if not shown:
        return []

    def draw() -> str:
        from pydino.report import plots

        return plots.candidates(shown, "candidates")

    caption = (
        "Split self-EER of the clusters that were considered for each system (start, number of neighbours, "
        "bound of the merging); the filled one was chosen."
    )
    return [Figure("Clusters", caption, cache.get(["clusters", shown], draw))]
