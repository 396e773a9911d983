"""Gather the results of an experiment folder into results.json, RESULTS.md and report.html.

pydino report exp --title "mini" --commands exp/commands.txt

Reads, anywhere under EXP_ROOT: *.result.json (numbers; with predictions.txt and confusion.json beside them
paired differences and confusion matrices), clusters.json (pseudo-labels), controls.json (leak controls),
monitor.jsonl with monitor/health.json (scores without labels and verdicts), *.det.json (DET curves and,
through the files they name, score histograms), log.jsonl (training curves), and folders of embeddings (maps,
and without any result nearest neighbours). Run it in the recipe's folder: relative paths in those files start
there. Figures whose inputs are unchanged are taken from EXP_ROOT/report. Do not edit the report; run this
again instead.
"""

import json
from pathlib import Path

from pydino import __version__
from pydino.base import UserError, load_config, log, plural, read_text, write_text
from pydino.cli._arguments import option
from pydino.recipe import Recipe


def add_arguments(parser):
    text = "folder of the experiments; the report is written there"
    parser.add_argument("exp_root", metavar="EXP_ROOT", help=text)
    option(parser, "--title", "", "heading of the report (default: the name of the recipe's folder)")
    text = "text file with the commands that made the results, shown as it is"
    option(parser, "--commands", None, text, metavar="FILE")
    text = "recipe.yaml, whose published numbers of tasks are shown"
    option(parser, "--recipe", "", text, metavar="FILE")


def run(args):
    from pydino.report import (
        comparison_table,
        gather_controls,
        gather_results,
        html_page,
        markdown_page,
        task_tables,
        training_table,
    )
    from pydino.report.clusters import cluster_figures, gather_clusters, rounds_tables
    from pydino.report.confusions import confusion_figures, confusions
    from pydino.report.embeddings import neighbours_table, systems_by_set
    from pydino.report.figure_cache import FigureCache
    from pydino.report.figures import main_systems, map_figures, training_figures, verification_figures
    from pydino.report.gather import gather_det_curves, gather_training_runs
    from pydino.report.gather_transfer import gather_task_folders
    from pydino.report.health import gather_monitored_runs, health_figures, health_table
    from pydino.report.score_confusions import confusion_tables
    from pydino.report.studies import gather_studies, gather_study_results, study_figures, study_tables

    root = Path(args.exp_root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the folder that holds the experiments, such as exp")
    title = args.title or f"Results of {root.resolve().parent.name}"
    commands = _read_commands(args.commands)
    results = gather_results(root)
    studies, of_studies = gather_studies(root), gather_study_results(root)
    controls = gather_controls(root)
    runs, monitored = gather_training_runs(root), gather_monitored_runs(root)
    curves = gather_det_curves(root)
    models, test_sets = ({result[key] for result in results} for key in ("model", "test_set"))
    models |= {curve["model"] for curve in curves}
    clusters = gather_clusters(root)
    # Results of trials have the name of the trials, of which a set may have several: data/SET/trials_NAME.
    test_sets |= {Path(curve["trials_file"]).parent.name for curve in curves}
    sets = systems_by_set(root, test_sets)
    if not results and not runs and not sets and not studies:
        raise UserError(
            f"nothing to report: no result, training log or embedding under {root}; run the scoring, "
            "training or extraction stages first (./run.sh runs all)"
        )
    folders = gather_task_folders(root)
    measured = [result for result in results if "control" not in result]
    confused = confusions(measured, folders)
    cache = FigureCache(root / "report")
    tables = [
        comparison_table(measured, folders),
        *rounds_tables(clusters, measured, runs),
        *confusion_tables(main_systems(curves), cache),
        *task_tables(measured, controls, folders, confused),
        _published(args.recipe, {result["task"] for result in results}),
        training_table(runs),
        health_table(monitored),
    ]
    if not results and not studies:
        tables += [neighbours_table(name, systems[0]) for name, systems in sets]
    tables += [table for study in studies for table in study_tables(study)]
    tables = [table for table in tables if table]
    figures = [
        *training_figures(runs, cache),
        *health_figures(monitored, cache),
        *verification_figures(curves, models, cache),
        *cluster_figures(clusters, cache),
        *confusion_figures(confused, cache),
        *study_figures(studies, cache),
        *map_figures(sets, cache),
    ]
    gathered = [*results, *of_studies]
    made_by = _made_by(args.exp_root, gathered)
    lines = ",\n".join(json.dumps(result, ensure_ascii=False) for result in gathered)
    write_text(root / "results.json", f"[\n{lines}\n]\n" if gathered else "[]\n")
    write_text(root / "RESULTS.md", markdown_page(title, tables, commands, made_by))
    write_text(root / "report.html", html_page(title, tables, figures, commands, made_by))
    cache.remove_unused()
    log(
        f"{plural(len(gathered), 'result')}, {plural(len(tables), 'table')}, "
        f"{plural(len(figures), 'figure')}: {root}/RESULTS.md, {root}/report.html"
    )


def _published(recipe: str, tasks: set[str]):
    """The table of published numbers of the recipe's tasks that have results."""
    from pydino.report.published import published_table

    if not recipe:
        return None
    return published_table(task for task in load_config(Recipe, recipe).tasks if task.name in tasks)


def _made_by(exp_root: str, results: list[dict]) -> str:
    made_by = f"Made by `pydino report {exp_root}` (pydino {__version__})"
    if not results:
        return f"{made_by}. There are no trials or tasks with results: the embeddings are shown as they are."
    versions = ", ".join(sorted({str(result["version"]) for result in results}))
    return f"{made_by} from {plural(len(results), 'result')} of pydino {versions}."


def _read_commands(path) -> str:
    return read_text(path) if path else ""
