"""Tables and figures: gathers the small result files of an experiment folder into results.json, RESULTS.md
and report.html.
"""

from pydino.report.comparison import comparison_table
from pydino.report.controls import gather_controls, suspicions
from pydino.report.gather import RESULT_KEYS, gather_results
from pydino.report.page import html_page, markdown_page
from pydino.report.result_tables import result_tables
from pydino.report.tables import Table, training_table
from pydino.report.task_tables import task_tables

__all__ = [
    "RESULT_KEYS",
    "Table",
    "comparison_table",
    "gather_controls",
    "gather_results",
    "html_page",
    "markdown_page",
    "result_tables",
    "suspicions",
    "task_tables",
    "training_table",
]
