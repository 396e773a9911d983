"""The rows of stages 6 to 9 that make log-likelihood ratios of scores: trials of crops, and calibrations."""

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
    joined = any(scorer.statistics for system in made(run, stage) for scorer in on_crops(run, system, stage))
    return [
        Row(
            {
                "crops": system.crops,
                "embeddings": [system.embeddings(name) for name in run.recipe.training_sets],
                "crop_trials": system.crop_trials(),
            }
        )
        for system in made(run, stage)
        if on_crops(run, system, stage) or (system.method == BESIDE and joined)
    ]


def calibration(run: Run, stage: int) -> list[Row]:
    """Each list of trials with each calibration of the stage."""
    found = []
    for system in made(run, stage):
        for one in _calibrations(run.recipe, system, stage):
            for trials in run.recipe.trials:
                if one.fitted_on == "crops" or trials.dev:
                    values = {
                        "options": _options_of(run.recipe, system, one, trials),
                        "trials": trials.file,
                        "scores": [system.scores(trials.name, name) for name in one.scores],
                        "calibrated": system.scores(trials.name, one.name),
                    }
                    found.append(Row(values, group=system.name))
    return found


def on_crops(run: Run, system: System, stage: int) -> list[Scorer]:
    """Return the scorers of a system that are calibrated on crops in a stage; none without trials."""
    wanted = _calibrations(run.recipe, system, stage) if run.recipe.trials else []
    names = {name for one in wanted if one.fitted_on == "crops" for name in one.scores}
    return [scorer for scorer in run.recipe.scorers if scorer.name in names]


def _calibrations(recipe: Recipe, system: System, stage: int) -> list[Calibration]:
    """Return the calibrations of a stage for a system: of stage 6 those that need neither clusters nor crops,
    of stage 7 the others, of stages 8 and 9 both.
    """
    known, found = system.scorers(recipe), []
    for one in recipe.calibrations:
        scorers = recipe.scorers_of(one)
        later = one.fitted_on == "crops" or any(scorer.clustered for scorer in scorers)
        possible = one.fitted_on != "crops" or system.is_clustered(recipe)
        if possible and all(scorer in known for scorer in scorers):
            found += [one] if stage not in (6, 7) or later == (stage == 7) else []
    return found


def _options_of(recipe: Recipe, system: System, wanted: Calibration, trials: Trials) -> list[str]:
    scorers, sets = recipe.scorers_of(wanted), list(dict.fromkeys([trials.set, trials.enroll]))
    if wanted.fitted_on == "crops":
        dev_trials, dev_sets = f"{system.crop_trials()}/trials", []
        dev_scores = [system.crop_scores(scorer) for scorer in scorers]
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
