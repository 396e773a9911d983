"""Systems: models that turn utterances into embeddings, and are compared in the tables. Their names are built
here, and parsed nowhere.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydino.base import UserError, model_of, read_yaml

from .methods import encoder_of, finds_positives, method_of
from .names import name_of_init
from .run import Run
from .schema import Recipe
from .tasks import Task
from .verification import Scorer

STATISTICS = ("fbank-stats", "fbank-stats-cmn")
BESIDE = STATISTICS[1]  # beside embeddings in verification: of the encoders' input, without the level
TRAIN_SSL = "train_ssl"


@dataclass(frozen=True)
class System:
    """Something that turns utterances into embeddings: one row of the tables.

    ``name`` is its folder below ``exp/``, with everything made from it; ``config`` the training
    configuration, or for a baseline the configuration or model folder whose encoder it has (None: none);
    ``init`` of a round the system on whose clusters it is trained, and ``round`` its number from 1 (0: none).
    """

    kind: Literal["trained", "given", "baseline"]
    name: str
    method: str
    encoder: str
    seed: int
    role: str
    labels: Literal["none", "pseudo", "train", "unknown"]  # that its weights were trained on
    config: str | None
    stage: int  # that makes it
    model_dir: str
    round: int = 0
    init: "System | None" = None

    @property
    def exp(self) -> str:
        """The system's folder."""
        return f"exp/{self.name}"

    @property
    def exp_of_all_seeds(self) -> str:
        """The folder that holds the folders of the models that differ in their seed alone."""
        return str(Path(self.exp).parent)

    def embeddings(self, data_set: str, with_silence: bool = False, statistics: bool = False) -> str:
        """The folder of a set's embeddings; with the statistics of the filter banks beside each."""
        more = f"{'_with_silence' * with_silence}{'+statistics' * statistics}"
        return f"{self.exp}/xvectors_{data_set}{more}"

    @property
    def crops(self) -> str:
        """The folder of the embeddings of augmented crops."""
        return f"{self.exp}/crops_{TRAIN_SSL}"

    def label_free_trials(self, fitted_on: str, statistics: bool = False) -> str:
        """The folder of trials of ``crops`` or ``clusters``; with the statistics beside the embeddings."""
        return f"{self.exp}/{fitted_on.removesuffix('s')}_trials{'+statistics' * statistics}"

    @property
    def wccn(self) -> str:
        """The folder of the within-class covariance of the crops."""
        return f"{self.exp}/wccn"

    @property
    def clusters(self) -> str:
        """The folder of the clusters."""
        return f"{self.exp}/clusters"

    @property
    def threshold(self) -> str:
        """The folder of the threshold of same-speaker decisions."""
        return f"{self.exp}/threshold"

    def is_clustered(self, recipe: Recipe) -> bool:
        """Whether its training embeddings are clustered: of every system that is not trained with labels
        here; of baselines where something is measured.
        """
        return bool(recipe.clusters) and self.stage != 9 and (self.kind != "baseline" or bool(recipe.trials))

    def scorers(self, recipe: Recipe, stage: int = 8) -> list[Scorer]:
        """Return the scorers of a stage for it: of stage 6 those without clusters, of stage 7 the others, of
        stages 8 and 9 both.

        Without training sets, embeddings are scored raw. What is trained with labels has no clusters, and the
        statistics of the filter banks have none beside them.
        """
        return [
            scorer
            for scorer in recipe.scorers
            if (recipe.training_sets or not scorer.trained)
            and (self.is_clustered(recipe) or not scorer.clustered)
            and (self.method not in STATISTICS or not scorer.statistics)
            and (stage not in (6, 7) or scorer.clustered == (stage == 7))
        ]

    def scores(self, trials: str, name: str) -> str:
        """The score file of a list of trials with a scorer or calibration, by the names of both."""
        return f"{self.exp}/scores/{trials}.{name}.txt"

    def label_free_scores(self, fitted_on: str, scorer: Scorer) -> str:
        """The score file of trials of ``crops`` or ``clusters``."""
        return f"{self.label_free_trials(fitted_on)}/scores/{scorer.name}.txt"

    def tuning(self, task: Task) -> list[str]:
        """Return the modes in which it is fine-tuned for a task: a model from what it has learnt, a baseline
        with random weights from scratch, statistics never, nor rounds, which have learnt to tell clusters
        apart.
        """
        if self.round:
            return []
        untrained = ("from-scratch",) if self.method == "untrained" else ()
        own = untrained if self.kind == "baseline" else ("affine-then-all", "all-at-once")
        return [mode for mode in task.modes if mode in own]

    def embeds(self, task: Task) -> list[str]:
        """Return the sets of a task that are embedded with it."""
        statistics = self.method == STATISTICS[0] and (task.statistics or task.controls)
        sets = task.sets if "frozen" in task.modes or statistics else []
        return [*sets, *([task.interviewer] if sets and task.interviewer else [])]

    def needs(self, recipe: Recipe, stage: int = 5) -> dict[tuple[str, bool], list[str]]:
        """Return (set, with silence) -> trials and tasks that need its embeddings, in the order of the
        recipe's sets; for stage 10 the sets of the tasks alone.

        In a recipe without trials and tasks, models embed every set and baselines none.
        """
        needed: dict[tuple[str, bool], list[str]] = {}

        def need(name: str, whose: str, with_silence: bool = False) -> None:
            needed.setdefault((name, with_silence), []).append(whose)

        scored = recipe.trials if {6, 7, 8, 9} & set(recipe.stages) and stage != 10 else []
        tasks = recipe.tasks if 10 in recipe.stages else []
        for trials in scored:
            for name in dict.fromkeys([trials.set, trials.enroll]):
                need(name, f"trials {trials.name}")
        scorers = self.scorers(recipe) if scored else []
        if scored and self.method == BESIDE:
            scorers = recipe.scorers  # those of other systems that have it beside them
        for scorer in scorers:
            for name in scorer.sets(recipe.training_sets, recipe.plda):
                need(name, scorer.name)
        beside = self.method == BESIDE and recipe.clusters and recipe.clusters.statistics
        if stage != 10 and (beside or self.is_clustered(recipe)):
            for name in recipe.training_sets:
                need(name, "clusters")
        for task in tasks:
            for name in self.embeds(task):
                need(name, f"task {task.name}", task.keep_silence)
        if self.kind != "baseline" and stage != 10:
            for name in recipe.embed or ([] if scored or tasks else recipe.sets):
                need(name, "embed")
        return dict(sorted(needed.items(), key=lambda item: (item[0][1], recipe.sets.index(item[0][0]))))


def systems(run: Run) -> list[System]:
    """Return the systems of a run: those trained without labels, those given, their rounds, the baselines,
    those trained with labels.

    Raises:
        UserError: two systems would have the same name.
    """
    trained = [_trained(run, model, seed, 4) for model in run.models for seed in run.seeds]
    supervised = [
        _trained(run, model, seed, 9) for model in run.recipe.supervised.models for seed in run.seeds
    ]
    here = {os.path.realpath(system.model_dir) for system in (*trained, *supervised)}
    given = [_given(folder) for folder in dict.fromkeys(run.given) if os.path.realpath(folder) not in here]
    rounds = [system for start in (*trained, *given) for system in _rounds(run, start)]
    baselines = _baselines(run, [*trained, *given])
    names: dict[str, System] = {}
    for system in (*trained, *given, *rounds, *baselines, *supervised):
        other = names.setdefault(system.name, system)
        if other != system:
            raise UserError(
                f"{system.model_dir} and {other.model_dir} would both be called {system.name}: give "
                "another --tag"
            )
    return list(names.values())


def systems_of(run: Run, stage: int) -> list[System]:
    """Return the systems that a stage embeds, scores or trains classifiers on: those of stage 8 (of the run's
    round, if it names one) and of stage 9 only in their own stage and in stage 10, all others in every other
    stage.
    """
    rounds = [one.name for one in run.recipe.rounds]
    return [
        system
        for system in systems(run)
        if stage == 10
        or (system.stage == stage or not {system.stage, stage} & {8, 9})
        and (stage != 8 or run.round in ("", rounds[system.round - 1]))
    ]


def method_name(run: Run, model: str, stage: int) -> str:
    """Return what a model that a recipe trains is called in results and folders."""
    return f"{model}-from-{name_of_init(run.init)}" if stage == 4 and run.init else model


def _trained(run: Run, model: str, seed: int, stage: int) -> System:
    config = run.model_config(model) if stage == 4 else run.config(model)
    method, labels, model = method_of(config), "none", method_name(run, model, stage)
    if stage == 4 and run.init:
        labels = read_yaml(model_of(run.init) / "config.yaml").get("labels", "unknown")
    name = f"{model}_{run.tag}/seed{seed}"
    return System(
        "trained",
        name,
        method=model,
        encoder=encoder_of(config)[0],
        seed=seed,
        role=method.roles[0],
        labels="train" if method.reads_labels else labels,
        config=config,
        stage=stage,
        model_dir=f"exp/{name}/{method.roles[0]}",
    )


def _rounds(run: Run, start: System) -> list[System]:
    """The rounds that begin with a model; none for one that has seen labels, or that stage 4 trains on
    positives that it finds itself.
    """
    found: list[System] = []
    if start.labels == "train" or start.config and finds_positives(start.config):
        return found
    stem = start.method if start.kind == "trained" else start.name.split("/")[0]
    for number, one in enumerate(run.recipe.rounds, 1):
        config = run.config(one.train[-1])
        role = method_of(config).roles[0]
        name = f"{stem}-{one.name}_{run.tag}/seed{start.seed}"
        found.append(
            System(
                "trained",
                name,
                method=f"{stem}-{one.name}",
                encoder=encoder_of(config)[0],
                seed=start.seed,
                role=role,
                labels="pseudo",
                config=config,
                stage=8,
                model_dir=f"exp/{name}/{role}",
                round=number,
                init=found[-1] if found else start,
            )
        )
    return found


def _given(folder: str) -> System:
    """A model folder from elsewhere, or another role of a run: named by its own configuration and a digest of
    its path, as configurations may be equal. The folder ``seedN`` of its own seed is no part of the digest,
    so that the seeds of one model are one row of the tables.
    """
    config = f"{folder}/config.yaml"
    mapping = read_yaml(config)
    method, role = (
        re.sub(r"[^\w.+-]", "_", str(mapping.get(key) or "unknown")) for key in ("method", "role")
    )
    seed = mapping.get("seed") or 0
    if not isinstance(seed, int):
        raise UserError(f"{config}: seed must be a whole number, got {seed!r}")
    like_other_seeds = "/".join("seedN" if part == f"seed{seed}" else part for part in folder.split("/"))
    place = hashlib.sha256(like_other_seeds.encode()).hexdigest()[:6]
    return System(
        "given",
        f"{method}_{role}-{place}/seed{seed}",
        method=method,
        encoder=encoder_of(config)[0],
        seed=seed,
        role=role,
        labels=mapping.get("labels", "unknown"),
        config=None,
        stage=5,
        model_dir=folder,
    )


def _baselines(run: Run, models: list[System]) -> list[System]:
    """Statistics of the features, and each kind of encoder among the models with random weights.

    Encoders are compared by the ``config.yaml`` of the models, which holds every option and the whole front
    end, however much of it the training configuration spells out. Only before a model is trained, when
    nothing is made from it but a dry run, its training configuration stands for it.
    """

    def baseline(kind: str, name: str, encoder: str, like: str | None) -> System:
        return System("baseline", name, kind, encoder, 0, kind, "none", like, 5, f"exp/{name}/model")

    found = [baseline(kind, f"{kind}_{run.tag}/seed0", "statistics", None) for kind in STATISTICS]
    for system in models:
        like = system.config or system.model_dir
        resolved = f"{system.model_dir}/config.yaml"
        encoder, digest = encoder_of(resolved if Path(resolved).is_file() else like)
        name = f"untrained-{digest}_{run.tag}/seed0"
        if all(name != other.name for other in found):
            found.append(baseline("untrained", name, encoder, like))
    return found if models else []
