"""Numbers from papers, apart from those that are measured here."""

from pydino.report.result_tables import title_of
from pydino.report.tables import METRICS, Table


def published_table(tasks) -> Table | None:
    """The published numbers of tasks of a recipe, with their protocols; None where there are none.

    Args:
        tasks: objects with ``name`` and ``published``, objects with ``system``, ``metric``, ``value``,
            ``protocol`` and ``source``.
    """
    rows = []
    for task in tasks:
        for one in task.published:
            metric = METRICS[one.metric].heading if one.metric in METRICS else one.metric
            rows.append([title_of(task.name), one.system, one.protocol, one.source, metric, f"{one.value:g}"])
    if not rows:
        return None
    header = ["task", "system", "protocol", "source", "metric", "value"]
    caption = (
        "From papers. Each has its own data, folds and way of choosing a model: not comparable, line by "
        "line, with the tables above."
    )
    return Table("Published, with their protocol", caption, header, rows, text_columns=5, explained=False)
