"""Gather every result of an experiment folder into results.json, RESULTS.md and report.html.

pydino report exp --title "mini" --commands exp/commands.txt

Reads, anywhere under EXP_ROOT: *.result.json (numbers), *.det.json (DET curves and, through the files they
name, score histograms), log.jsonl (training curves), and folders of embeddings (the 2-D map). Run it in the
recipe's folder, where the paths inside those files begin. Nothing is ever edited by hand: run it again
instead.
"""

import json
from pathlib import Path

from pydino import __version__
from pydino.base import UserError, log, read_text, write_text


def add_arguments(parser):
    parser.add_argument(
        "exp_root", metavar="EXP_ROOT", help="folder of the experiments; the report is written there"
    )
    parser.add_argument(
        "--title", default="", help="heading of the report (default: the name of the recipe's folder)"
    )
    parser.add_argument(
        "--commands", metavar="FILE", help="text file with the commands that made the results, shown as it is"
    )


def run(args):
    from pydino.report import (
        comparison_table,
        gather_results,
        html_page,
        markdown_page,
        result_tables,
        training_table,
    )
    from pydino.report.exhibits import map_exhibits, training_exhibit, verification_exhibits
    from pydino.report.gather import gather_training_runs

    root = Path(args.exp_root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the folder that holds the experiments, such as exp")
    title = args.title or f"Results of {root.resolve().parent.name}"
    commands = _read_commands(args.commands)
    results = gather_results(root)
    runs = gather_training_runs(root)
    versions = ", ".join(sorted({str(result["version"]) for result in results}))
    made_by = (
        f"Made by `pydino report {args.exp_root}` (pydino {__version__}) from {len(results)} results of "
        f"pydino {versions}."
    )
    tables = [
        table for table in (comparison_table(results), *result_tables(results), training_table(runs)) if table
    ]
    models, test_sets = ({result[key] for result in results} for key in ("model", "test_set"))
    exhibits = [*training_exhibit(runs), *verification_exhibits(root, models), *map_exhibits(root, test_sets)]
    lines = ",\n".join(json.dumps(result, ensure_ascii=False) for result in results)
    write_text(root / "results.json", f"[\n{lines}\n]\n")
    write_text(root / "RESULTS.md", markdown_page(title, tables, commands, made_by))
    write_text(root / "report.html", html_page(title, tables, exhibits, commands, made_by))
    log(
        f"{len(results)} results, {len(tables)} tables, {len(exhibits)} figures: {root}/RESULTS.md, "
        f"{root}/report.html"
    )


def _read_commands(path) -> str:
    return read_text(path) if path else ""
