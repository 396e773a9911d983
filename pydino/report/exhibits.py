"""Which figures an experiment folder gives: reads curves, scores and embeddings, and hands each to its
drawing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pydino.base import keyed_permutation, purpose, utterance_hash, warn
from pydino.kaldi import read_scp_objects, read_table
from pydino.kaldi.trials import join_scores, read_scores, read_trials
from pydino.report import figures
from pydino.report.gather import TrainingRun, gather_det_curves, gather_embedding_folders
from pydino.report.tables import is_baseline

# What the training log may hold, and how it is shown; a log without one of these simply lacks the panel.
TRAINING_PANELS = {
    "loss": {"loss": "-"},
    "entropy: teacher (line), student (dashes)": {"teacher_entropy": "-", "student_entropy": "--"},
    "entropy of the mean teacher output": {"mean_teacher_entropy": "-"},
    "KL(teacher, student)": {"kl": "-"},
    "spread of the embeddings": {"embedding_spread": "-"},
    "effective rank of the embeddings": {"effective_rank": "-"},
    "KoLeo term": {"koleo": "-"},
    "learning rate": {"lr": "-"},
}
MAP_POINTS = 800
MAP_SYSTEMS = 3


@dataclass(frozen=True)
class Exhibit:
    """A figure of the page: heading, what to see in it, and the drawing as SVG."""

    title: str
    caption: str
    svg: str


def training_exhibit(runs: list[TrainingRun]) -> list[Exhibit]:
    """The training curves of every run (one exhibit), or nothing where no run has a number to show."""
    keys = {key for run in runs for epoch in run.epochs for key in epoch}
    panels = {title: lines for title, lines in TRAINING_PANELS.items() if keys & set(lines)}
    if not panels:
        return []
    caption = (
        "A run that learns keeps the entropy of the mean teacher output high while that of the single "
        "teacher outputs falls. "
        "If both meet at the top every output is uniform, if both fall to zero every output is the same: "
        "either is a collapse."
    )
    return [Exhibit("Training", caption, figures.training_curves(runs, panels, "training"))]


def verification_exhibits(root, models) -> list[Exhibit]:
    """A DET curve and a score histogram for each list of trials that has been scored under ``root``."""
    colours = figures.model_colours(models)
    by_trials = {}
    for curve in gather_det_curves(root):
        by_trials.setdefault(str(curve["trials"]), []).append(curve)
    exhibits = []
    for number, (trials, curves) in enumerate(sorted(by_trials.items())):
        shown = _plain_systems(curves)
        caption = (
            "Lower is better. Line: raw embeddings; dashes: centred; dots: whitened. The thin diagonal "
            "crosses each curve at its EER."
        )
        exhibits.append(Exhibit(f"DET: {trials}", caption, figures.det_curve(shown, colours, f"det{number}")))
        histograms = []
        for curve in _one_per_model(shown):
            sides = _scores_of(curve)
            if sides and min(map(len, sides)):
                histograms.append((f"{curve['model']}, {curve['backend']}, {curve['treatment']}", *sides))
        if histograms:
            caption = "The less the two overlap, the better the scores tell speakers apart."
            drawing = figures.score_histograms(histograms, f"scores{number}")
            exhibits.append(Exhibit(f"Scores: {trials}", caption, drawing))
    return exhibits


def _plain_systems(curves: list[dict]) -> list[dict]:
    """Cosine scores of raw and centred embeddings where there are any; everything otherwise. One curve a
    system.
    """
    plain = [c for c in curves if c["backend"] == "cosine" and c["treatment"] in ("raw", "centred")] or curves
    first = {}
    for curve in sorted(plain, key=figures.system_order):
        first.setdefault((curve["model"], curve["backend"], curve["treatment"]), curve)
    return list(first.values())


def _one_per_model(curves: list[dict]) -> list[dict]:
    """The first curve of up to MAP_SYSTEMS models: what has learnt, and at least one baseline beside it."""
    first = {}
    for curve in curves:
        first.setdefault(curve["model"], curve)
    return _with_a_baseline(list(first.values()))


def _with_a_baseline(systems: list[dict]) -> list[dict]:
    """Up to MAP_SYSTEMS of the systems; where there are baselines the last of them is kept, for the eye to
    compare.
    """
    learnt = [s for s in systems if not is_baseline(s["model"])]
    baselines = [s for s in systems if is_baseline(s["model"])]
    return learnt[: MAP_SYSTEMS - bool(baselines)] + baselines[-1:]


def _scores_of(curve: dict):
    """(target, non-target) scores of a curve, from the files it names; ``None``, with a warning, where they
    have gone.
    """
    beside = Path(curve["path"]).parent
    paths = []
    for named in (curve["scores"], curve["trials_file"]):
        found = [path for path in (Path(named), beside / Path(named).name) if path.is_file()]
        if not found:
            warn(f"{named}, named in {curve['path']}, is not there: its histogram is left out")
            return None
        paths.append(found[0])
    trials = read_trials(paths[1])
    scores = join_scores(read_scores(paths[0]), trials, *paths)
    return scores[trials.values], scores[~trials.values]


def map_exhibits(root, test_sets) -> list[Exhibit]:
    """For each test set, the embeddings of up to three models in a plane, some speakers in colour.

    A set whose ``utt2spk`` names no speaker (every utterance its own) has nothing to colour and is left out.
    """
    by_set = {}
    for folder in gather_embedding_folders(root):
        if str(folder["data"]) in test_sets and not folder.get("keep_silence"):
            by_set.setdefault(str(folder["data"]), {}).setdefault(folder["model"], folder)
    exhibits = []
    for number, (name, models) in enumerate(sorted(by_set.items())):
        chosen = _with_a_baseline(sorted(models.values(), key=figures.system_order))
        if all(is_baseline(folder["model"]) for folder in chosen):
            continue
        speakers = _speakers(chosen[0])
        if not speakers:
            continue
        panels = [(folder["model"], *_positions(folder, speakers)) for folder in chosen]
        coloured = len({group for _, _, groups in panels for group in groups} - {None})
        caption = (
            f"t-SNE of the length-normalised embeddings; {coloured} speakers, chosen at random, in colour, "
            "the others grey."
        )
        exhibits.append(Exhibit(f"Map of {name}", caption, figures.embedding_maps(panels, f"map{number}")))
    return exhibits


def _speakers(folder: dict) -> dict:
    """utt2spk of the extracted set, or nothing where it is gone or hides the speakers."""
    path = Path(folder.get("data_dir", "")) / "utt2spk"
    if not path.is_file():
        return {}
    utt2spk = read_table(path)
    return {} if len(set(utt2spk.values())) == len(utt2spk) else utt2spk


def _positions(folder: dict, utt2spk: dict) -> tuple[np.ndarray, list]:
    """((N, 2) positions, speaker of each point or ``None`` for those that are drawn grey), at most MAP_POINTS
    points.
    """
    speakers = sorted(set(utt2spk.values()), key=utterance_hash)[: figures.MAX_GROUPS]
    embeddings = {
        key: vector
        for key, vector in read_scp_objects(Path(folder["folder"]) / "xvector.scp")
        if key in utt2spk
    }
    keys = list(embeddings)
    if len(keys) > MAP_POINTS:
        shuffled = [keys[i] for i in keyed_permutation(len(keys), 0, purpose("embedding map"))]
        keys = sorted(shuffled, key=lambda key: utt2spk[key] not in speakers)[:MAP_POINTS]
    positions = figures.flatten_to_plane(np.stack([embeddings[key] for key in keys]).astype(np.float64))
    return positions, [utt2spk[key] if utt2spk[key] in speakers else None for key in keys]
