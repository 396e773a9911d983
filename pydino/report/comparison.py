"""The best model trained without labels beside the best baseline and the best model trained with labels, each
with the same back-end and treatment.
"""

from pathlib import Path

from pydino.report.differences import Compared, verdict_between
from pydino.report.tables import (
    LEADING,
    TASK_TITLES,
    Row,
    Table,
    cell_text,
    group_rows,
    is_baseline,
    is_only_calibrated,
    mean_value,
    shown_metric,
)

# Where a model belongs, by the labels that its weights were trained on; of unknown ones: nowhere.
_SIDES = {"none": 0, "pseudo": 0, "train": 2}


def comparison_table(results: list[dict], folders: dict[str, Path] | None = None) -> Table | None:
    """The best model trained without labels beside the best baseline, for each back-end and treatment; where
    models are trained with labels, the best of these as well. A model of which that is not known is omitted.

    Of a task, the two are compared on the same test units. Otherwise, as of verification, intervals are: that
    over several seeds is the hull of their intervals, so that "disjoint" never depends on a lucky seed. None
    when there is no baseline to compare with.

    Args:
        folders: as of :func:`pydino.report.gather_transfer.gather_task_folders`.
    """
    cells, paired = [], False
    groups = {}
    for result in results:
        if not is_only_calibrated(result):
            groups.setdefault((result["task"], result["test_set"]), []).append(result)
    for (task, test_set), group in sorted(groups.items(), key=lambda item: (item[0][0] != "sv", item[0])):
        present = {result["metric"] for result in group}
        metric = next((name for name in LEADING if name in present), None)
        if metric is None:
            continue
        how = shown_metric(group, metric)
        sides = {}
        rows = group_rows([result for result in group if result["metric"] == metric])
        test = Compared(task, test_set, metric, how, rows)
        for row in rows:
            alike = sides.setdefault(row.key[2:5], ([], [], []))
            side = 1 if is_baseline(row.key[0]) else _SIDES.get(row.key[6])
            if side is not None:
                alike[side].append(row)
        for (backend, labels, treatment), (trained, baselines, supervised) in sides.items():
            if baselines and (trained or supervised):
                verdict = None
                if trained and task != "sv":
                    verdict = verdict_between(test, test.best(trained), test.best(baselines), folders or {})
                paired = paired or verdict is not None
                cells.append(
                    [
                        f"{TASK_TITLES.get(task, task)}: {test_set}",
                        backend,
                        labels,
                        treatment,
                        how.heading,
                        *(_best_of(side, test) for side in (trained, baselines)),
                        verdict or _verdict(trained, baselines, test),
                        _best_of(supervised, test),
                    ]
                )
    header = [
        "test",
        "back-end",
        "labels",
        "treatment",
        "metric",
        "best trained",
        "best baseline",
        "trained model is",
    ]
    caption = (
        "The best model trained without labels beside the best baseline with the same back-end and treatment."
    )
    if paired:
        caption += (
            " A difference with its 95 % interval is that of the two on the same test units: where the "
            "interval holds 0, they tie."
        )
    if any(row[-1] for row in cells):
        header.append("trained with labels")
        caption += " The last column is the best encoder trained with labels."
    else:
        cells = [row[:-1] for row in cells]
    return (
        Table("Trained models and baselines", caption, header, cells, text_columns=len(header))
        if cells
        else None
    )


def _best_of(side: list[Row], test: Compared) -> str:
    """The best system of a side and its value, with its configuration where several have the same name."""
    if not side:
        return ""
    best = test.best(side)
    namesakes = [other for other in side if other.key[0] == best.key[0]]
    name = best.key[0] if len(namesakes) == 1 else f"{best.key[0]} ({best.key[5].split('/')[0]})"
    return f"{name}: {cell_text(test.found(best), test.how.decimals)}"


def _verdict(trained: list[Row], baselines: list[Row], test: Compared) -> str:
    if not trained:
        return ""
    ours, theirs = (test.found(test.best(side)) for side in (trained, baselines))
    better = (mean_value(ours) < mean_value(theirs)) == test.how.lower_is_better and mean_value(
        ours
    ) != mean_value(theirs)
    word = "better" if better else "not better"
    hulls = []
    for found in (ours, theirs):
        bounds = [result["ci"] for result in found if result["ci"]]
        if len(bounds) < len(found):
            return word
        hulls.append((min(low for low, _ in bounds), max(high for _, high in bounds)))
    disjoint = hulls[0][1] < hulls[1][0] or hulls[1][1] < hulls[0][0]
    return f"{word}, intervals {'disjoint' if disjoint else 'overlap'}"
