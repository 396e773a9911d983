"""The rows of stages 6 to 9 that make log-likelihood ratios of scores: trials of crops and of clusters, and
calibrations.
"""

from .rounds import made
from .row import Row
from .run import Run
from .schema import Recipe
from .systems import BESIDE, System
from .verification import Calibration, Scorer, Trials


def crop_trials(run: Run, stage: int) -> list[Row]:
    """Trials of crops, which need no label, for the systems whose scores are calibrated on them; also of the
    statistics beside other systems, by the same draw, so that they can be joined.
    """
    wanted = {system: calibrated_on(run, system, stage, "crops") for system in made(run, stage)}
    joined = any(scorer.statistics for scorers in wanted.values() for scorer in scorers)
    return [
        Row(_trials_of(run, system, "crops"))
        for system, scorers in wanted.items()
        if scorers or (system.method == BESIDE and joined)
    ]


def cluster_trials(run: Run, stage: int) -> list[Row]:
    """Trials of the clusters of each system whose scores are calibrated on them."""
    return [
        Row(
            {
                "options": ["--targets", "clusters", "--clusters", system.clusters],
                **_trials_of(run, system, "clusters"),
            },
            group=system.name,
        )
        for system in made(run, stage)
        if calibrated_on(run, system, stage, "clusters")
    ]


def _trials_of(run: Run, system: System, fitted_on: str) -> dict[str, str | list[str]]:
    return {
        "crops": system.crops,
        "embeddings": [system.embeddings(name) for name in run.recipe.training_sets],
        "label_free_trials": system.label_free_trials(fitted_on),
    }


def calibration(run: Run, stage: int) -> list[Row]:
    """Each list of trials with each calibration of the stage."""
    found = []
    for system in made(run, stage):
        for one in _calibrations(run.recipe, system, stage):
            for trials in run.recipe.trials:
                if one.fitted_on != "dev" or trials.dev:
                    values = {
                        "options": _options_of(run.recipe, system, one, trials),
                        "trials": trials.file,
                        "scores": [system.scores(trials.name, name) for name in one.scores],
                        "calibrated": system.scores(trials.name, one.name),
                    }
                    found.append(Row(values, group=system.name))
    return found


def calibrated_on(run: Run, system: System, stage: int, fitted_on: str) -> list[Scorer]:
    """Return the scorers of a system that are calibrated on ``crops`` or on ``clusters`` in a stage; none
    without trials.
    """
    wanted = _calibrations(run.recipe, system, stage) if run.recipe.trials else []
    names = {name for one in wanted if one.fitted_on == fitted_on for name in one.scores}
    return [scorer for scorer in run.recipe.scorers if scorer.name in names]


def _calibrations(recipe: Recipe, system: System, stage: int) -> list[Calibration]:
    """Return the calibrations of a stage for a system: of stage 6 those that need neither clusters nor crops,
    of stage 7 the others, of stages 8 and 9 both.
    """
    known, found = system.scorers(recipe), []
    for one in recipe.calibrations:
        scorers = recipe.scorers_of(one)
        later = one.fitted_on != "dev" or any(scorer.clustered for scorer in scorers)
        possible = one.fitted_on == "dev" or system.is_clustered(recipe)
        if possible and all(scorer in known for scorer in scorers):
            found += [one] if stage not in (6, 7) or later == (stage == 7) else []
    return found


def _options_of(recipe: Recipe, system: System, wanted: Calibration, trials: Trials) -> list[str]:
    scorers, sets = recipe.scorers_of(wanted), list(dict.fromkeys([trials.set, trials.enroll]))
    if wanted.fitted_on != "dev":
        dev_trials = f"{system.label_free_trials(wanted.fitted_on)}/trials"
        dev_sets = recipe.training_sets
        dev_scores = [system.label_free_scores(wanted.fitted_on, scorer) for scorer in scorers]
    else:
        dev = next(other for other in recipe.trials if other.name == trials.dev)
        dev_trials, dev_sets = dev.file, [dev.set, dev.enroll]
        dev_scores = [system.scores(dev.name, name) for name in wanted.scores]
    options = ["--dev-trials", dev_trials, *(word for path in dev_scores for word in ("--dev-scores", path))]
    for scorer in scorers:
        options += ["--plda-dir", f"{system.exp}/{scorer.plda}"] if scorer.plda else []
    for measure in wanted.quality:
        for name in dict.fromkeys([*dev_sets, *sets]):
            if measure == "norm":
                options += ["--norms", system.embeddings(name)]
            else:
                options += ["--quality", f"data/{name}/{measure}"]
    speakers = [word for name in sets for word in ("--utt2spk", f"data/{name}/utt2spk")]
    return [*options, "--trials-name", trials.name, *speakers]
