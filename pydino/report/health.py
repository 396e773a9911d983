"""Scores without labels and verdicts of training runs, as pydino monitor left them: a table, and curves
beside those of a healthy and of a collapsed run.
"""

from dataclasses import dataclass

from pydino.base import read_json, read_json_lines, read_yaml
from pydino.report.figure_cache import FigureCache
from pydino.report.figures import Figure
from pydino.report.gather import files_of
from pydino.report.reference_curves import SCORES, curve, reference_runs, with_log
from pydino.report.tables import Table

MOST_CURVES = 8  # in a figure: as many as there are colours


@dataclass(frozen=True)
class MonitoredRun:
    """A run that pydino monitor has judged without labels, or should have.

    Attributes:
        name: folder below that of the experiments.
        epochs: of the whole training.
        points: lines of monitor.jsonl, one a snapshot, earliest first, with the untrained encoder; none where
            it failed.
        verdict: one sentence.
    """

    name: str
    epochs: float
    points: list[dict]
    verdict: str


def gather_monitored_runs(root) -> list[MonitoredRun]:
    """Every run under ``root`` that pydino monitor began to measure, by its folder ``monitor`` or its log,
    also without a verdict; lines that a kill truncated are skipped.
    """
    found = []
    begun = {path.parent for path in files_of(root, "monitor")}
    failed = {path.parents[1] for path in files_of(root, "monitor.log")}
    begun |= {exp for exp in failed if not (exp / "monitor.jsonl").is_file()}  # else measured on trials alone
    for exp in sorted(begun):
        if not (exp / "config.yaml").is_file():  # such as EXP/tensorboard
            continue
        measured = [
            line for line in read_json_lines(exp / "monitor.jsonl") if line.get("self_eer") is not None
        ]
        points = {line["epoch"]: line for line in measured}  # the latest, where one was measured again
        health = exp / "monitor/health.json"
        verdict = read_json(health).get("sentence") if health.is_file() else None
        ordered = [points[epoch] for epoch in sorted(points)]
        found.append(
            MonitoredRun(
                str(exp.relative_to(root)),
                read_yaml(exp / "config.yaml").get("epochs", 1.0),
                with_log(ordered, read_json_lines(exp / "log.jsonl")),
                verdict or f"not measured: {exp}/log/monitor.log may say why",
            )
        )
    return found


def health_table(runs: list[MonitoredRun]) -> Table | None:
    """The last scores of each run, and its verdict; None without runs."""
    if not runs:
        return None
    rows = []
    for run in runs:
        last = run.points[-1] if run.points else {}
        shown = {"epoch": "g"} | {key: f".{decimals}f" for key, (_, decimals) in SCORES.items()}
        values = ["" if last.get(key) is None else f"{last[key]:{how}}" for key, how in shown.items()]
        rows.append([run.name, run.verdict, *values])
    header = ["run", "verdict", "epoch", *(heading for heading, _ in SCORES.values())]
    caption = (
        "Scores without labels of the last snapshot, by `pydino monitor`, on the same views of training "
        "utterances for all snapshots of a run; the verdict is by them and by the log (docs/monitoring.md)."
    )
    return Table("Is each run healthy?", caption, header, rows, text_columns=2)


def health_figures(runs: list[MonitoredRun], cache: FigureCache) -> list[Figure]:
    """The scores along the training beside those of the reference runs, or none without scores."""
    runs = [run for run in runs if run.points]
    if not runs:
        return []

    def curves(points: list[dict], epochs: float) -> dict:
        return {key: curve(points, key, epochs) for key in SCORES}

    # every model before the second seed of any, those with snapshots before those with a final model alone
    ordered = sorted(runs, key=lambda run: (len(run.points) < 3, *run.name.rpartition("/")[::-2]))
    shown = {run.name: curves(run.points, run.epochs) for run in ordered[:MOST_CURVES]}
    references = {name: curves(run["points"], run["epochs"]) for name, run in reference_runs().items()}

    def draw() -> str:
        from pydino.report import plots

        return plots.monitor_curves(shown, references, SCORES, "monitor")

    caption = (
        "Self-EER: lower is better. LiDAR and RankMe: directions that tell utterances apart, and that are "
        "used at all, up to the dimension of the embeddings (the references have "
        f"{reference_runs()['healthy']['embedding_dim']}). Stability: agreement of clusters with those of "
        "the snapshot before. Rank, nats (what an output tells about its utterance) and spread are from the "
        "log of the training. Compare shapes, not levels, with the references, which are of egs/mini."
    )
    if len(runs) > MOST_CURVES:
        caption += f" {MOST_CURVES} of the {len(runs)} runs are drawn; the table has all."
    return [Figure("Scores without labels", caption, cache.get(["monitor", runs, references], draw))]
