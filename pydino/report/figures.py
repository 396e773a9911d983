"""The figures of an experiment folder: reads curves, scores and embeddings, and draws each."""

from dataclasses import dataclass
from pathlib import Path

from pydino.base import UserError, warn
from pydino.kaldi.trials import join_scores, read_scores, read_trials
from pydino.report.embeddings import map_points, side_by_side, speakers_of
from pydino.report.figure_cache import FigureCache
from pydino.report.gather import TrainingRun
from pydino.report.tables import system_order

# Quantities of the training log and their line styles; a log without one lacks the panel.
TRAINING_PANELS = {
    "loss": {"loss": "-"},
    "entropy: teacher (solid), student (dashed)": {"teacher_entropy": "-", "student_entropy": "--"},
    "entropy of the mean teacher output": {"mean_teacher_entropy": "-"},
    "KL(teacher, student)": {"kl": "-"},
    "spread of the embeddings": {"embedding_spread": "-"},
    "effective rank of the embeddings": {"effective_rank": "-"},
    "KoLeo term": {"koleo": "-"},
    "loss of the development part": {"dev_loss": "-"},
    "UAR of the development part, %": {"dev_uar": "-"},
    "learning rate": {"lr": "-"},
}


@dataclass(frozen=True)
class Figure:
    """A figure of the page: heading, caption, and drawing as SVG."""

    title: str
    caption: str
    svg: str


def training_figures(runs: list[TrainingRun], cache: FigureCache) -> list[Figure]:
    """The training curves of every run (one figure), or none where no run has a number to show."""
    keys = {key for run in runs for epoch in run.epochs for key in epoch}
    panels = {title: lines for title, lines in TRAINING_PANELS.items() if keys & set(lines)}
    if not panels:
        return []

    def draw() -> str:
        from pydino.report import plots

        return plots.training_curves(runs, panels, "training")

    caption = (
        "In a healthy training run the entropy of the mean teacher output stays high while the entropy of "
        "the single outputs falls. If both stay at the maximum, every output is uniform; if both fall to "
        "zero, every output is the same: either is a collapse."
    )
    return [Figure("Training", caption, cache.get(["training", panels, runs], draw))]


def verification_figures(curves: list[dict], models, cache: FigureCache) -> list[Figure]:
    """A DET curve and a score histogram for each list of trials that has been scored.

    Args:
        curves: as returned by :func:`pydino.report.gather.gather_det_curves`.
        models: all models of the report.
    """
    by_trials = {}
    for curve in curves:
        by_trials.setdefault(str(curve["trials"]), []).append(curve)
    figures = []
    for number, (trials, scored) in enumerate(sorted(by_trials.items())):
        shown = _plain_systems(scored)
        caption = (
            "Lower is better. Solid lines: raw embeddings; dashed: centred; dotted: whitened. "
            "A curve crosses the thin diagonal at its EER."
        )
        svg = _det_curve(shown, sorted(models), f"det{number}", cache)
        figures.append(Figure(f"DET: {trials}", caption, svg))
        if svg := _histograms(shown, f"scores{number}", cache):
            caption = "The less the two overlap, the better the scores separate the speakers."
            figures.append(Figure(f"Scores: {trials}", caption, svg))
    return figures


def _det_curve(curves: list[dict], models: list[str], name: str, cache: FigureCache) -> str:
    def draw() -> str:
        from pydino.report import plots

        return plots.det_curve(curves, models, name)

    return cache.get(["det", models, name, curves], draw)


def _histograms(curves: list[dict], name: str, cache: FigureCache) -> str:
    """Return the drawing, empty where no list has both target and non-target trials."""
    first = {}
    for curve in curves:
        first.setdefault(curve["model"], curve)
    files = {}  # title -> trials, scores
    for curve in side_by_side(list(first.values())):
        if paths := score_files(curve):
            files[f"{curve['model']}, {curve['backend']}, {curve['treatment']}"] = paths

    def draw() -> str:
        from pydino.report import plots

        systems = []
        for title, paths in files.items():
            try:
                trials = read_trials(paths[0])
                scores = join_scores(read_scores(paths[1]), trials, paths[1], paths[0])
            except UserError as error:
                warn(f"the histogram of {title} is omitted: {error}")
                continue
            sides = scores[trials.values], scores[~trials.values]
            if min(map(len, sides)):
                systems.append((title, *sides))
        return plots.score_histograms(systems, name) if systems else ""

    return cache.get(["scores", name, files], draw) if files else ""


def _plain_systems(curves: list[dict]) -> list[dict]:
    """Cosine scores of raw and centred embeddings where there are any; everything otherwise. One curve per
    system.
    """
    plain = [c for c in curves if c["backend"] == "cosine" and c["treatment"] in ("raw", "centred")] or curves
    first = {}
    for curve in sorted(plain, key=system_order):
        first.setdefault((curve["model"], curve["backend"], curve["treatment"]), curve)
    return list(first.values())


def main_systems(curves: list[dict]) -> list[dict]:
    """The curves of the back-ends that a model is judged by: cosine as it is, and PLDA on clusters, with and
    without statistics.
    """
    shown = {("cosine", "raw"), ("plda", "raw"), ("plda", "raw + statistics")}
    return [
        curve
        for curve in curves
        if (curve["backend"], curve["treatment"]) in shown and curve.get("labels") != "train"
    ]


def score_files(curve: dict) -> tuple[Path, Path] | None:
    """The files of trials and scores that a curve names; ``None``, with a warning, if they are missing."""
    beside = Path(curve["path"]).parent
    paths = []
    for name in (curve["trials_file"], curve["scores"]):
        found = [path for path in (Path(name), beside / Path(name).name) if path.is_file()]
        if not found:
            warn(f"{name}, named in {curve['path']}, is missing: its histogram is omitted")
            return None
        paths.append(found[0])
    return paths[0], paths[1]


def map_figures(sets: list[tuple[str, list[dict]]], cache: FigureCache) -> list[Figure]:
    """For each set, the embeddings of up to three systems in a plane, some speakers in colour.

    Args:
        sets: as returned by :func:`pydino.report.embeddings.systems_by_set`.
    """
    figures = []
    for number, (name, systems) in enumerate(sets):
        chosen = side_by_side(systems)
        speakers = speakers_of(chosen[0])
        panels = [(folder["model"], *map_points(folder, speakers)) for folder in chosen]
        coloured = len({group for _, _, groups in panels for group in groups} - {None})
        caption = "t-SNE of the length-normalised embeddings; " + (
            f"{coloured} speakers, chosen at random, in colour, the others grey."
            if coloured
            else "the speakers are unknown, so all points are grey."
        )
        svg = _maps(panels, f"map{number}", cache)
        figures.append(Figure(f"Map of {name}", caption, svg))
    return figures


def _maps(panels: list[tuple], name: str, cache: FigureCache) -> str:
    def draw() -> str:
        from pydino.report import plots

        return plots.embedding_maps(panels, name)

    return cache.get(["map", name, panels], draw)
