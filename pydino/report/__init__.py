"""Tables and figures: gathers the small result files of an experiment folder into results.json, RESULTS.md
and report.html.
"""

from pydino.report.comparison import comparison_table
from pydino.report.controls import controls_tables, gather_controls, mark_suspects, suspicions
from pydino.report.gather import RESULT_KEYS, gather_results
from pydino.report.page import html_page, markdown_page
from pydino.report.tables import Table, result_tables, training_table

__all__ = [
    "RESULT_KEYS",
    "Table",
    "comparison_table",
    "controls_tables",
    "gather_controls",
    "gather_results",
    "html_page",
    "mark_suspects",
    "markdown_page",
    "result_tables",
    "suspicions",
    "training_table",
]
