"""The tables of all tasks in the order of the page."""

from pathlib import Path

from pydino.report.confusions import Confusion, recall_table
from pydino.report.controls import controls_table
from pydino.report.differences import difference_tables
from pydino.report.result_tables import calibrated_tables, result_tables, tests_of, title_of
from pydino.report.tables import Table, is_calibrated


def task_tables(
    results: list[dict],
    controls: list[dict],
    folders: dict[str, Path],
    confused: list[Confusion],
) -> list[Table]:
    """The results of each test, each followed by its calibrated scores and its differences; after the tests
    of a task its leak controls and the recall of its classes.

    Args:
        controls: entries of ``controls.json``.
        folders: as of :func:`pydino.report.gather_transfer.gather_task_folders`.
        confused: as of :func:`pydino.report.confusions.confusions`.
    """
    differences = difference_tables(results, folders)
    recalls = {one.task: recall_table(one) for one in confused}
    controlled = {
        task: controls_table(title_of(task), [one for one in controls if one["task"] == task])
        for task in dict.fromkeys(one["task"] for one in controls)
    }
    calibrated = calibrated_tables(results)
    plain = [result for result in results if not is_calibrated(result)]
    tests = list(tests_of(plain))
    tables = []
    for place, (key, table) in enumerate(zip(tests, result_tables(plain, controls), strict=True)):
        tables.append(table)
        if key in calibrated:
            tables.append(calibrated.pop(key))
        if key in differences:
            tables.append(differences[key])
        if key[0] in (task for task, _ in tests[place + 1 :]):
            continue
        if key[0] in controlled:
            tables.append(controlled.pop(key[0]))
        if key[0] in recalls:
            tables.append(recalls[key[0]])
    return [*tables, *calibrated.values(), *controlled.values()]
