"""Results to tables: one table per task and test set, one row per model, back-end and treatment, one column
per metric.
"""

import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Metric:
    """How one metric is shown: heading, decimals, and whether the lower value is the better one."""

    heading: str
    decimals: int
    lower_is_better: bool


METRICS = {
    "eer": Metric("EER %", 2, True),
    "mindcf_0.01": Metric("minDCF 0.01", 3, True),
    "mindcf_0.05": Metric("minDCF 0.05", 3, True),
    "actdcf_0.01": Metric("actDCF 0.01", 3, True),
    "cllr": Metric("Cllr", 3, True),
    "uar": Metric("UAR %", 1, False),
    "f1_micro": Metric("micro-F1 %", 1, False),
    "f1_macro": Metric("macro-F1 %", 1, False),
    "accuracy": Metric("accuracy %", 1, False),
    "mae": Metric("MAE", 2, True),
    "rmse": Metric("RMSE", 2, True),
    "pearson": Metric("correlation", 3, False),
}
TASK_TITLES = {
    "sv": "Speaker verification",
    "emotion": "Emotion",
    "gender": "Gender",
    "age": "Age",
    "child": "Child or adult",
    "ad": "Alzheimer's disease",
    "impairment": "Impairment",
}
# None of these is trained on speech; they are listed below the trained models.
BASELINES = ("untrained", "fbank-stats-cmn", "fbank-stats")
BACKENDS = (
    "cosine", "plda", "logreg", "svm", "mlp", "ridge", "from-scratch", "all-at-once", "affine-then-all"
)  # fmt: skip
TREATMENTS = ("raw", "centred", "whitened", "asnorm", "with statistics")
LABELS = ("none", "pseudo", "train")


@dataclass
class Table:
    """Cells as plain text. `best`: (row, column) of the best value of a metric; `text_columns`: aligned
    left.
    """

    title: str
    caption: str
    header: list[str]
    rows: list[list[str]]
    text_columns: int
    best: set = field(default_factory=set)
    commands: list[str] = field(default_factory=list)
    explained: bool = True  # its cells contain terms that the page explains


@dataclass
class Row:
    """The results of one model, back-end and treatment: metric -> results, one per seed."""

    key: tuple
    metrics: dict


def is_baseline(model: str) -> bool:
    return model in BASELINES


def system_order(system: dict) -> tuple:
    """Sort key of a DET curve or embedding folder: trained models first, then the plainest back-end and
    treatment.
    """
    model, backend, treatment = system["model"], system.get("backend", ""), system.get("treatment", "")
    place = [
        names.index(name) if name in names else len(names)
        for names, name in ((BACKENDS, backend), (TREATMENTS, treatment))
    ]
    return (
        is_baseline(model),
        BASELINES.index(model) if is_baseline(model) else 0,
        model,
        *place,
        backend,
        treatment,
    )


def result_tables(results: list[dict]) -> list[Table]:
    """One table for each task and test set, verification first. Seeds of one configuration become mean and
    range.
    """
    groups = {}
    for result in results:
        groups.setdefault((result["task"], result["test_set"]), []).append(result)
    order = sorted(groups, key=lambda key: (key[0] != "sv", key[0] == "ad", key))
    return [_result_table(task, test_set, groups[task, test_set]) for task, test_set in order]


def group_rows(results: list[dict]) -> list[Row]:
    """Rows of one table in their order: trained models, with labels after those without, before baselines;
    then back-end and the like.
    """
    rows = {}
    for result in results:
        # Two configurations of one method are two rows, never two "seeds" of one.
        key = (
            result["model"],
            result["train_set"],
            result["backend"],
            result["labels"],
            result["treatment"],
            str(result["config"]),
            result["model_labels"],
        )
        rows.setdefault(key, Row(key, {})).metrics.setdefault(result["metric"], []).append(result)
    return sorted(rows.values(), key=lambda row: _row_order(row.key))


def _row_order(key: tuple) -> tuple:
    model, train_set, backend, labels, treatment, config, model_labels = key
    return (
        is_baseline(model),
        _rank(BASELINES, model),
        model_labels == "train",
        model,
        str(train_set),
        config,
        _rank(BACKENDS, backend),
        backend,
        _rank(LABELS, labels),
        _rank(TREATMENTS, treatment),
        treatment,
    )


def _rank(order: tuple, name: str) -> int:
    return order.index(name) if name in order else len(order)


def _result_table(task: str, test_set: str, results: list[dict]) -> Table:
    rows = group_rows(results)
    metrics = sorted(
        {result["metric"] for result in results}, key=lambda name: (_rank(tuple(METRICS), name), name)
    )
    # A value that all rows share is given in the caption only.
    columns = {
        "model": [row.key[0] for row in rows],
        "trained on": [str(row.key[1]) for row in rows],
        "configuration": [row.key[5] for row in rows],
        "model labels": [row.key[6] for row in rows],
        "back-end": [row.key[2] for row in rows],
        "labels": [row.key[3] for row in rows],
        "treatment": [row.key[4] for row in rows],
        "n": [_counts(row) for row in rows],
        "seeds": [str(max(len(found) for found in row.metrics.values())) for row in rows],
    }
    if not _is_distinctive(rows):
        del columns["configuration"]
    if set(columns["model labels"]) == {"none"}:
        del columns["model labels"]
    said = []
    counted = "trials" if task == "sv" else "utterances"
    for name, phrase in (
        ("trained on", "models trained on {}"),
        ("n", "{} " + counted),
        ("seeds", "{} seeds"),
    ):
        # "none" is the training set of baselines, which are not trained.
        values = set(columns[name]) - {"none"} if name == "trained on" else set(columns[name])
        if len(values) <= 1:
            said += [
                "one seed" if (name, value) == ("seeds", "1") else phrase.format(value) for value in values
            ]
            del columns[name]
    shown = [shown_metric(results, metric) for metric in metrics]
    header = list(columns) + [metric.heading for metric in shown]
    cells = [
        [columns[name][i] for name in columns]
        + [
            cell_text(row.metrics.get(metric, []), how.decimals)
            for metric, how in zip(metrics, shown, strict=True)
        ]
        for i, row in enumerate(rows)
    ]
    title = f"{TASK_TITLES.get(task, task.capitalize())}: {test_set}"
    table = Table(
        title, _sentence(said), header, cells, text_columns=len(columns), commands=commands_of(results)
    )
    for j, (metric, how) in enumerate(zip(metrics, shown, strict=True)):
        values = [mean_value(row.metrics.get(metric, [])) for row in rows]
        finite = [value for value in values if value is not None and math.isfinite(value)]
        if len(finite) > 1:
            goal = min(finite) if how.lower_is_better else max(finite)
            table.best |= {(i, len(columns) + j) for i, value in enumerate(values) if value == goal}
    return table


def _is_distinctive(rows: list[Row]) -> bool:
    """Whether some rows differ only in their configuration."""
    return len({row.key[:5] for row in rows}) < len(rows)


def shown_metric(results: list[dict], metric: str) -> Metric:
    if metric in METRICS:
        how = METRICS[metric]
        unit = next(result["unit"] for result in results if result["metric"] == metric)
        with_unit = metric in ("mae", "rmse") and unit
        return Metric(f"{how.heading}, {unit}", how.decimals, True) if with_unit else how
    return Metric(metric, 3, False)


def _counts(row: Row) -> str:
    counts = sorted(
        {result["n"] for found in row.metrics.values() for result in found if result["n"] is not None}
    )
    return " to ".join(f"{n:,}" for n in (counts[:1] + counts[-1:] if len(counts) > 1 else counts))


def _sentence(parts: list[str]) -> str:
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""


def mean_value(found: list[dict]) -> float | None:
    return sum(result["value"] for result in found) / len(found) if found else None


def cell_text(found: list[dict], decimals: int) -> str:
    """`14.83 [13.90, 15.80]` (95 % interval) for one seed, `14.83 (14.10 to 15.20)` (range) for several."""
    if not found:
        return ""
    mean = f"{mean_value(found):.{decimals}f}"
    low, high = _spread(found)
    if low is None:
        return mean
    inside = f"{low:.{decimals}f}{' to ' if len(found) > 1 else ', '}{high:.{decimals}f}"
    return f"{mean} ({inside})" if len(found) > 1 else f"{mean} [{inside}]"


def _spread(found: list[dict]) -> tuple:
    if len(found) > 1:
        values = [result["value"] for result in found]
        return min(values), max(values)
    return tuple(found[0]["ci"]) if found[0]["ci"] else (None, None)


def commands_of(results: list[dict]) -> list[str]:
    """The commands that made these results, as recorded in them, each once, in order of appearance."""
    return list(dict.fromkeys(result["command"] for result in results if result.get("command")))


def training_table(runs: list) -> Table | None:
    """The last line of each training log: where the run ended. None without runs."""
    shown = {
        "loss": ("loss", 3),
        "teacher_entropy": ("teacher entropy", 3),
        "mean_teacher_entropy": ("entropy of mean teacher", 3),
        "embedding_spread": ("spread", 3),
        "effective_rank": ("effective rank", 1),
        "utterances_per_second": ("utterances/s", 0),
    }
    present = {key: how for key, how in shown.items() if any(key in run.epochs[-1] for run in runs)}
    if not runs:
        return None
    header = ["run", "epochs"] + [heading for heading, _ in present.values()]
    rows = []
    for run in runs:
        last = run.epochs[-1]
        values = [
            "" if last.get(key) is None else f"{last[key]:.{digits}f}" for key, (_, digits) in present.items()
        ]
        rows.append([run.name, f"{round(last.get('epoch', len(run.epochs)), 1):g}", *values])
    return Table("Training", "The last line of each log.jsonl.", header, rows, text_columns=1)
