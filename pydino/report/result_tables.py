"""Results to tables: one table per task and test set, one row per model, back-end and treatment, one column
per metric.
"""

import math

from pydino.report.controls import suspicions
from pydino.report.tables import (
    LEADING,
    METRICS,
    TASK_TITLES,
    Metric,
    Row,
    Table,
    cell_text,
    commands_of,
    group_rows,
    is_calibrated,
    mean_value,
    rank,
    shown_metric,
)

# Tasks whose results need leak controls to be believed.
_CLINICAL = ("ad", "diagnosis", "mmse", "impairment")


def result_tables(results: list[dict], controls: list[dict] = ()) -> list[Table]:
    """One table for each task and test set, verification first. Seeds of one configuration become mean and
    range.

    Args:
        controls: entries of ``controls.json``.
    """
    return [
        _result_table(task, test_set, group, [one for one in controls if one["task"] == task])
        for (task, test_set), group in tests_of(results).items()
    ]


def calibrated_tables(results: list[dict]) -> dict[tuple[str, str], Table]:
    """(task, test set) -> the table of its log-likelihood ratios, for the tests that have any."""
    calibrated = [result for result in results if is_calibrated(result)]
    tables = {}
    for (task, test_set), group in tests_of(calibrated).items():
        tables[task, test_set] = table = _result_table(task, f"{test_set}, calibrated", group, [])
        table.caption += (
            " Log-likelihood ratios: actDCF is the cost at the threshold that follows from the prior, Cllr "
            "that over all priors in bits; what they exceed minDCF and min Cllr by is lost by calibration."
        )
    return tables


def tests_of(results: list[dict]) -> dict[tuple[str, str], list[dict]]:
    """(task, test set) -> its results, in the order of the tables."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for result in results:
        groups.setdefault((result["task"], result["test_set"]), []).append(result)
    order = sorted(groups, key=lambda key: (key[0] != "sv", key[0] == "ad", key))
    return {key: groups[key] for key in order}


def title_of(task: str, test_set: str = "") -> str:
    """The heading of what is shown of a task."""
    title = TASK_TITLES.get(task, task.capitalize())
    return f"{title}: {test_set}" if test_set else title


def leading_metric(results: list[dict]) -> str | None:
    """The metric by which a task is compared."""
    present = {result["metric"] for result in results}
    return next((name for name in LEADING if name in present), None)


def _result_table(task: str, test_set: str, results: list[dict], controls: list[dict]) -> Table:
    of_task = task != "sv"
    rows = group_rows(results)
    metrics = _metrics(results)
    # A value that all rows share is given in the caption only.
    columns = {
        "model": [row.key[0] for row in rows],
        "trained on": [str(row.key[1]) for row in rows],
        "configuration": [row.key[5] for row in rows],
        "model labels": [row.key[6] for row in rows],
        "back-end": [row.key[2] for row in rows],
        "labels": [row.key[3] for row in rows],
        "treatment": [_treatment(row) for row in rows],
        "n": [_counts(row) for row in rows],
        "seeds": [str(max(len(found) for found in row.metrics.values())) for row in rows],
    }
    if not _is_distinctive(rows):
        del columns["configuration"]
    if set(columns["model labels"]) == {"none"}:
        del columns["model labels"]
    if of_task:
        for name, usual in (("labels", "train"), ("treatment", "raw")):
            if set(columns[name]) == {usual}:
                del columns[name]
    said = []
    for name, phrase in (
        ("trained on", "models trained on {}"),
        ("n", "{} " + (_counted(results) if of_task else "trials")),
        ("seeds", "{} seeds"),
    ):
        # "none" is the training set of baselines, which are not trained.
        values = set(columns[name]) - {"none"} if name == "trained on" else set(columns[name])
        if len(values) <= 1:
            said += [
                "one seed" if (name, value) == ("seeds", "1") else phrase.format(value) for value in values
            ]
            del columns[name]
        elif name == "n" and of_task:
            said.append(_counted(results))
    suspect = suspicions(controls)
    if suspect:
        columns["controls"] = ["suspect"] * len(rows)
    caption = [_sentence(said)]
    if of_task:
        caption += [_chance(results, metrics), _controlled(task, controls, suspect)]
    table = Table(
        title_of(task, test_set),
        " ".join(text for text in caption if text),
        list(columns),
        [[cells[i] for cells in columns.values()] for i in range(len(rows))],
        text_columns=len(columns),
        commands=commands_of(results),
    )
    for metric in metrics:
        _add_metric(table, rows, metric, shown_metric(results, metric))
        if metric == leading_metric(results):
            _add_mean_of_folds(table, rows, metric, shown_metric(results, metric))
    return table


def _metrics(results: list[dict]) -> list[str]:
    """The metrics of a table in the order of its columns. Every utterance has one label, so the accuracy is
    micro-F1; where that is there with the same values, it is left out.
    """
    values: dict[str, list[float]] = {}
    for result in results:
        values.setdefault(result["metric"], []).append(result["value"])
    if values.get("accuracy") == values.get("f1_micro"):
        values.pop("accuracy", None)
    return sorted(values, key=lambda name: (rank(tuple(METRICS), name), name))


def _add_metric(table: Table, rows: list[Row], metric: str, how: Metric) -> None:
    values = [mean_value(row.metrics.get(metric, [])) for row in rows]
    finite = [value for value in values if value is not None and math.isfinite(value)]
    if len(finite) > 1:
        goal = min(finite) if how.lower_is_better else max(finite)
        table.best |= {(i, len(table.header)) for i, value in enumerate(values) if value == goal}
    table.header.append(how.heading)
    for row, cells in zip(rows, table.rows, strict=True):
        cells.append(cell_text(row.metrics.get(metric, []), how.decimals))


def _add_mean_of_folds(table: Table, rows: list[Row], metric: str, how: Metric) -> None:
    """Add the mean over folds of the leading metric, where there are folds."""
    means = []
    for row in rows:
        found = row.metrics.get(metric, [])
        known = [r["mean_of_folds"] for r in found if r.get("folds", 1) > 1 and "mean_of_folds" in r]
        means.append(f"{sum(known) / len(known):.{how.decimals}f}" if known else "")
    if any(means):
        table.header.append("mean of folds")
        for cells, mean in zip(table.rows, means, strict=True):
            cells.append(mean)


def _treatment(row: Row) -> str:
    found = [result for results in row.metrics.values() for result in results]
    return row.key[4] + (", transductive" if any(result.get("transductive") for result in found) else "")


def _first(results: list[dict], key: str, default):
    """What the results say of their task, which is the same in all of them."""
    return next((result[key] for result in results if key in result), default)


def _counted(results: list[dict]) -> str:
    """What is counted, of whom, and how it is divided."""
    counted = _first(results, "counted", "utterance")
    speakers, folds, division = (_first(results, key, "") for key in ("speakers", "folds", "division"))
    text = f"{counted}s" + (f" of {speakers:,} speakers" if speakers and counted != "subject" else "")
    of_folds = f"{folds} folds" if folds and folds > 1 else ""
    said = ["" if of_folds and division.startswith(of_folds) else of_folds, division]
    return f"{text} ({': '.join(part for part in said if part)})" if any(said) else text


def _chance(results: list[dict], metrics: list[str]) -> str:
    """What always giving the same answer reaches."""
    parts = []
    for metric in metrics:
        known = [result["chance"] for result in results if result["metric"] == metric and "chance" in result]
        if known:
            parts.append(_in_words(shown_metric(results, metric), min(known), max(known)))
    answer = "mean of the labels" if "mae" in metrics else "most frequent class"
    return f"Always answering the {answer}: {'; '.join(parts)}." if parts else ""


def _in_words(how: Metric, *values: float) -> str:
    """A metric and its value or range, as in a sentence."""
    text = " to ".join(dict.fromkeys(f"{value:.{how.decimals}f}" for value in values))
    name, _, unit = how.heading.replace(" %", ", %").partition(", ")
    return f"{name} {text} {unit}".rstrip()


def _controlled(task: str, controls: list[dict], suspect: list[str]) -> str:
    """What the leak controls say, and the band of chance that permuted labels have."""
    asked = [one for one in controls if one["suspicious_if_above_chance"]]
    tested = dict.fromkeys(one["control"] for one in asked if one["value"] is not None)
    unmeasured = dict.fromkeys(one["control"] for one in asked if one["value"] is None)
    if suspect:
        said = [f"Suspect: {'; and '.join(suspect)}."]
    elif tested:
        said = [f"No leak control is above chance ({', '.join(tested)})."]
    else:
        said = (
            ["No leak control was run."]
            if not unmeasured and task.removesuffix("-folds") in _CLINICAL
            else []
        )
    if unmeasured:
        said.append(
            f"Too few recordings have what these need, so they were not measured: {', '.join(unmeasured)}."
        )
    for one in controls:
        if one["control"] == "permutation" and one["interval"]:
            said.append(
                f"Permuted labels: {_in_words(shown_metric([one], one['metric']), *one['interval'])}."
            )
    return " ".join(said)


def _is_distinctive(rows: list[Row]) -> bool:
    """Whether some rows differ only in their configuration."""
    return len({row.key[:5] for row in rows}) < len(rows)


def _counts(row: Row) -> str:
    counts = sorted(
        {result["n"] for found in row.metrics.values() for result in found if result["n"] is not None}
    )
    return " to ".join(f"{n:,}" for n in (counts[:1] + counts[-1:] if len(counts) > 1 else counts))


def _sentence(parts: list[str]) -> str:
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""
