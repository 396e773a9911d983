"""What was learnt: the best trained model beside the best baseline, like against like."""

from pydino.report.tables import TASK_TITLES, Metric, Table, cell_text, group_rows, is_baseline, mean_value, shown_metric

# The one metric of a task that its comparison rests on: the first of these that was measured.
_LEADING = ("eer", "uar", "accuracy", "f1_micro", "mae")


def comparison_table(results: list[dict]) -> Table | None:
    """Like against like: the best model that learnt from speech beside the best baseline, for the same treatment.

    The intervals of several seeds are hulls over the seeds' own intervals, so that "apart" never rests on a lucky seed.
    None when there is no baseline to compare with.
    """
    cells = []
    groups = {}
    for result in results:
        groups.setdefault((result["task"], result["test_set"]), []).append(result)
    for (task, test_set), group in sorted(groups.items(), key=lambda item: (item[0][0] != "sv", item[0])):
        present = {result["metric"] for result in group}
        metric = next((name for name in _LEADING if name in present), None)
        if metric is None:
            continue
        how = shown_metric(group, metric)
        sides = {}
        for row in group_rows([result for result in group if result["metric"] == metric]):
            alike = sides.setdefault(row.key[2:5], ([], []))
            alike[is_baseline(row.key[0])].append((row.key[0], row.metrics[metric]))
        for (backend, labels, treatment), (trained, baselines) in sides.items():
            if trained and baselines:
                ours, theirs = (_best(side, how) for side in (trained, baselines))
                cells.append([
                    f"{TASK_TITLES.get(task, task)}: {test_set}", backend, labels, treatment, how.heading,
                    f"{ours[0]}: {cell_text(ours[1], how.decimals)}", f"{theirs[0]}: {cell_text(theirs[1], how.decimals)}",
                    _verdict(ours[1], theirs[1], how),
                ])  # fmt: skip
    header = ["test", "back-end", "labels", "treatment", "metric", "best trained", "best baseline", "trained model is"]
    caption = "The best trained model beside the best baseline, treated alike."
    return Table("Learnt from speech, or not", caption, header, cells, text_columns=len(header)) if cells else None


def _best(side: list, how: Metric):
    return (min if how.lower_is_better else max)(side, key=lambda item: mean_value(item[1]))


def _verdict(ours: list[dict], theirs: list[dict], how: Metric) -> str:
    better = (mean_value(ours) < mean_value(theirs)) == how.lower_is_better and mean_value(ours) != mean_value(theirs)
    word = "better" if better else "not better"
    hulls = []
    for found in (ours, theirs):
        bounds = [result["ci"] for result in found if result["ci"]]
        if len(bounds) < len(found):
            return word
        hulls.append((min(low for low, _ in bounds), max(high for _, high in bounds)))
    apart = hulls[0][1] < hulls[1][0] or hulls[1][1] < hulls[0][0]
    return f"{word}, intervals {'apart' if apart else 'touch'}"
