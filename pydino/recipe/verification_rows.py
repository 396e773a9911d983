"""The rows of stages 6 to 9 between embeddings and scores: crops, joined vectors, clusters, PLDA, trials."""

from pathlib import Path

from pydino.base import UTT2CLUSTER, log

from .calibration_rows import calibrated_on
from .rounds import made
from .row import Row
from .run import Run
from .schema import Recipe
from .systems import BESIDE, STATISTICS, TRAIN_SSL, System, systems
from .verification import Scorer


def crops(run: Run, stage: int) -> list[Row]:
    """Augmented crops of each training utterance, embedded; also as the statistics beside other systems."""
    wanted = run.recipe.clusters
    if not wanted:
        return []
    return [
        Row(
            {
                "options": ["--config", run.config(wanted.crops), "--system", system.name],
                "model": system.model_dir,
                "data": f"data/{TRAIN_SSL}",
                "crops": system.crops,
            }
        )
        for system in made(run, stage)
        if system.is_clustered(run.recipe) or (system.method == BESIDE and wanted.statistics)
    ]


def joins(run: Run, stage: int) -> list[Row]:
    """Embeddings with the statistics of the filter banks beside them, of the sets that scorers need and of
    trials of crops.
    """
    found = []
    for system in made(run, stage):
        sets = {
            name: None
            for scorer in system.scorers(run.recipe, stage)
            if scorer.statistics and run.recipe.trials
            for name in (*_tested(run.recipe), *scorer.sets(run.recipe.training_sets, run.recipe.plda))
        }
        for name in sets:
            values = {
                "embeddings": [system.embeddings(name), _beside(run).embeddings(name)],
                "joined": system.embeddings(name, statistics=True),
            }
            found.append(Row(values, group=system.name))
        if any(scorer.statistics for scorer in calibrated_on(run, system, stage, "crops")):
            values = {
                "embeddings": [one.label_free_trials("crops") for one in (system, _beside(run))],
                "joined": system.label_free_trials("crops", statistics=True),
            }
            found.append(Row(values, group=system.name))
    return found


def wccn(run: Run, stage: int) -> list[Row]:
    """Within-class covariance of the crops, for the systems that are scored with it."""
    return [
        Row({"crops": system.crops, "wccn": system.wccn}, group=system.name)
        for system in made(run, stage)
        if run.recipe.trials
        and any(scorer.centring == "wccn" for scorer in system.scorers(run.recipe, stage))
    ]


def clusters(run: Run, stage: int) -> list[Row]:
    """Clusters of the training embeddings."""
    found = []
    for system in made(run, stage):
        if system.is_clustered(run.recipe):
            wanted, sets = run.recipe.clusters, run.recipe.training_sets
            options = ["--config", run.config(wanted.config), "--crops", system.crops, *_trained_on(run)]
            if wanted.statistics and system.method not in STATISTICS:
                beside = _beside(run)
                options += [word for name in sets for word in ("--beside", beside.embeddings(name))]
                options += ["--beside-crops", beside.crops]
            values = {
                "options": options,
                "embeddings": [system.embeddings(name) for name in sets],
                "clusters": system.clusters,
            }
            found.append(Row(values, group=system.name))
    return found


def agreement(run: Run, stage: int) -> list[Row]:
    """Comparison of the clusters with labels, where there are any: read by the report alone."""
    wanted = run.recipe.clusters
    if not wanted or not wanted.labels or len(run.recipe.training_sets) != 1:
        return []
    labels = f"data/{run.recipe.training_sets[0]}/{wanted.labels}"
    return [
        Row({"labels": labels, "clusters": system.clusters}, group=system.name)
        for system in made(run, stage)
        if system.is_clustered(run.recipe) and (run.dry_run or Path(labels).is_file())
    ]


def thresholds(run: Run, stage: int) -> list[Row]:
    """Thresholds of same-speaker decisions, set without labels, for the models."""
    wanted, sets = run.recipe.clusters, run.recipe.training_sets
    if not wanted or not wanted.threshold:
        return []
    found = []
    for system in made(run, stage):
        if system.kind != "baseline" and system.is_clustered(run.recipe):
            options = ["--crops", system.crops, "--clusters", system.clusters]
            options += ["--xvectors", system.embeddings(sets[0])] if len(sets) == 1 else []
            values = {
                "options": options,
                "model": system.model_dir,
                "data": f"data/{TRAIN_SSL}",
                "threshold": system.threshold,
            }
            found.append(Row(values, group=system.name))
    return found


def plda(run: Run, stage: int) -> list[Row]:
    """PLDA on labels, and on clusters, as the scorers of the stage need it."""
    recipe, found = run.recipe, []
    for system in made(run, stage):
        scorers = system.scorers(recipe, stage) if recipe.trials else []
        for scorer in {scorer.plda: scorer for scorer in scorers if scorer.plda}.values():
            if scorer.labels == "pseudo":
                sets, labels = recipe.training_sets, f"{system.clusters}/{UTT2CLUSTER}"
                options = ["--min-utts", f"{recipe.clusters.min_utts}", "--lda-dim"]
                options += [f"{recipe.clusters.lda_dim}", *_trained_on(run)]
            else:
                sets, labels = [recipe.plda.set], f"data/{recipe.plda.set}/utt2spk"
                options = ["--lda-dim", f"{recipe.plda.lda_dim}"]
            values = {
                "options": options,
                "labels": labels,
                "embeddings": [system.embeddings(name, statistics=scorer.statistics) for name in sets],
                "plda": f"{system.exp}/{scorer.plda}",
            }
            found.append(Row(values, group=system.name))
    return found


def scoring(run: Run, stage: int) -> list[Row]:
    """Each list of trials with each scorer of the stage, and trials of crops and clusters with those that are
    calibrated on them.
    """
    recipe, found = run.recipe, []
    if recipe.trials and not recipe.training_sets and any(scorer.trained for scorer in recipe.scorers):
        log(
            f"no training set ({' '.join(recipe.train_set.sets)}) among the recipe's sets: embeddings are "
            "scored raw, neither centred nor whitened, and scores are not normalised"
        )
    for system in made(run, stage):
        for trials in recipe.trials:
            sets = dict.fromkeys([trials.set, trials.enroll])
            speakers = [word for name in sets for word in ("--utt2spk", f"data/{name}/utt2spk")]
            for scorer in system.scorers(recipe, stage):
                options = [*_options_of(run, system, scorer), "--trials-name", trials.name]
                values = {
                    "options": [*options, *speakers],
                    "trials": trials.file,
                    "enroll": system.embeddings(trials.enroll, statistics=scorer.statistics),
                    "test": system.embeddings(trials.set, statistics=scorer.statistics),
                    "scores": system.scores(trials.name, scorer.name),
                }
                found.append(Row(values, group=system.name))
        for kind in ("crops", "clusters"):
            for scorer in calibrated_on(run, system, stage, kind):
                folder = system.label_free_trials(kind, statistics=scorer.statistics)
                values = {
                    "options": _options_of(run, system, scorer),
                    "trials": f"{system.label_free_trials(kind)}/pairs",
                    "enroll": folder,
                    "test": folder,
                    "scores": system.label_free_scores(kind, scorer),
                }
                found.append(Row(values, group=system.name))
    return found


def _trained_on(run: Run) -> list[str]:
    """Where the recipe excludes recordings from training, they are in nothing else that is learnt without
    labels either: clusters and the PLDA on them, centring, whitening, cohorts.
    """
    return ["--utterances", f"data/{TRAIN_SSL}/utt2hash"] if run.recipe.train_set.exclude else []


def _options_of(run: Run, system: System, scorer: Scorer) -> list[str]:
    training = [system.embeddings(name, statistics=scorer.statistics) for name in run.recipe.training_sets]
    options = ["--backend", scorer.backend]
    if scorer.backend == "plda":
        options += ["--plda-dir", f"{system.exp}/{scorer.plda}"]
    else:
        options += ["--centring", scorer.centring]
        for folder in training if scorer.centring != "raw" else ():
            options += ["--train-dir", folder]
        options += ["--wccn-dir", system.wccn] if scorer.centring == "wccn" else []
    if scorer.normalisation != "none":
        options += ["--normalisation", scorer.normalisation]
        options += ["--top", f"{scorer.top}"] if scorer.normalisation == "as-norm" else []
        options += [word for folder in training for word in ("--cohort-dir", folder)]
        if scorer.cohort == "clusters":
            options += ["--cohort-clusters", f"{system.clusters}/{UTT2CLUSTER}"]
    return options + (_trained_on(run) if scorer.trained else [])


def _tested(recipe: Recipe) -> list[str]:
    return [name for trials in recipe.trials for name in (trials.set, trials.enroll)]


def _beside(run: Run) -> System:
    """The baseline whose vectors are put beside those of other systems."""
    return next(system for system in systems(run) if system.method == BESIDE)
