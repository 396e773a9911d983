"""What tables are made of: metrics and their order, rows, cells; and the table of training."""

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
    "actdcf_0.05": Metric("actDCF 0.05", 3, True),
    "cllr": Metric("Cllr", 3, True),
    "min_cllr": Metric("min Cllr", 3, True),
    "uar": Metric("UAR %", 1, False),
    "f1_micro": Metric("micro-F1 %", 1, False),
    "f1_macro": Metric("macro-F1 %", 1, False),
    "accuracy": Metric("accuracy %", 1, False),
    "mae": Metric("MAE", 2, True),
    "rmse": Metric("RMSE", 2, True),
    "pearson": Metric("correlation", 3, False),
    "cross_entropy": Metric("cross-entropy, nats", 3, True),
    "calibration_error": Metric("calibration error", 3, True),
}
TASK_TITLES = {
    "sv": "Speaker verification",
    "emotion": "Emotion",
    "gender": "Gender",
    "age": "Age",
    "child": "Child or adult",
    "ad": "Alzheimer's disease",
    "diagnosis": "Alzheimer's disease",
    "diagnosis-folds": "Alzheimer's disease, over folds",
    "mmse": "MMSE score",
    "mmse-folds": "MMSE score, over folds",
    "impairment": "Impairment",
}
# A task is compared by the first of these metrics that was measured.
LEADING = ("eer", "uar", "accuracy", "f1_micro", "mae")
# None of these is trained on speech; they are listed below the trained models.
BASELINES = ("untrained", "fbank-stats-cmn", "fbank-stats")
FROZEN = ("logreg", "svm", "plda", "mlp", "ridge")
TUNED = ("affine-then-all", "all-at-once", "from-scratch")
BACKENDS = ("cosine", *FROZEN, *TUNED)
TREATMENTS = ("raw", "centred", "whitened", "wccn", "centred, as-norm", "raw + statistics", "with statistics")
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


def is_calibrated(one: dict) -> bool:
    """Whether a result or DET curve is of log-likelihood ratios that steps/calibrate.sh has made."""
    return "calibrated" in str(one["treatment"])


def is_only_calibrated(one: dict) -> bool:
    """Whether it has the errors of the scores that it was made from: neither a fusion nor with quality
    measures.
    """
    return is_calibrated(one) and " + " not in one["backend"] and " with " not in one["treatment"]


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
        rank(BASELINES, model),
        model,
        *place,
        backend,
        treatment,
    )


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
        rank(BASELINES, model),
        rank(LABELS, model_labels) if model_labels in LABELS else 0,
        model,
        str(train_set),
        config,
        rank(BACKENDS, backend),
        backend,
        rank(LABELS, labels),
        rank(TREATMENTS, treatment),
        treatment,
    )


def rank(order: tuple, name: str) -> int:
    """The place of a name in an order; of one that is not in it: after all of them."""
    return order.index(name) if name in order else len(order)


def shown_metric(results: list[dict], metric: str) -> Metric:
    if metric in METRICS:
        how = METRICS[metric]
        unit = next(result["unit"] for result in results if result["metric"] == metric)
        in_units = metric in ("mae", "rmse") and unit
        return Metric(f"{how.heading}, {unit}", how.decimals, True) if in_units else how
    return Metric(metric, 3, False)


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
        "dev_uar": ("UAR % of dev", 1),
        "utterances_per_second": ("utterances/s", 0),
    }
    present = {key: how for key, how in shown.items() if any(key in run.epochs[-1] for run in runs)}
    if not runs:
        return None
    timed = any(run.minutes is not None for run in runs)
    header = ["run", "epochs"] + ["minutes"] * timed + [heading for heading, _ in present.values()]
    rows = []
    for run in runs:
        last = run.epochs[-1]
        values = [
            "" if last.get(key) is None else f"{last[key]:.{digits}f}" for key, (_, digits) in present.items()
        ]
        minutes = ["" if run.minutes is None else f"{run.minutes:.1f}"] * timed
        rows.append([run.name, f"{round(last.get('epoch', len(run.epochs)), 1):g}", *minutes, *values])
    caption = "The last line of each log.jsonl."
    if timed:
        caption += " Minutes are those of the steps, without starts and checkpoints."
    return Table("Training", caption, header, rows, text_columns=1)
