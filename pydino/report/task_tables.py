"""The tables of all tasks in the order of the page."""

from pathlib import Path

from pydino.report.confusions import Confusion, recall_table
from pydino.report.differences import difference_tables
from pydino.report.result_tables import result_tables, tests_of
from pydino.report.tables import Table


def task_tables(
    results: list[dict],
    controls: dict[str, list[dict]],
    folders: dict[str, Path],
    confused: list[Confusion],
) -> list[Table]:
    """The results of each test, each followed by its differences; after the tests of a task the recall of its
    classes.

    Args:
        controls: as of :func:`pydino.report.gather_transfer.gather_controls`.
        folders: as of :func:`pydino.report.gather_transfer.gather_task_folders`.
        confused: as of :func:`pydino.report.confusions.confusions`.
    """
    differences = difference_tables(results, folders)
    recalls = {one.task: recall_table(one) for one in confused}
    tests = list(tests_of(results))
    tables = []
    for place, (key, table) in enumerate(zip(tests, result_tables(results, controls), strict=True)):
        tables.append(table)
        if key in differences:
            tables.append(differences[key])
        is_last = key[0] not in (task for task, _ in tests[place + 1 :])
        if is_last and key[0] in recalls:
            tables.append(recalls[key[0]])
    return tables
