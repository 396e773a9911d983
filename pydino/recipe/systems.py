"""Systems: models that turn utterances into embeddings, and are compared in the tables. Their names are built
here, and parsed nowhere.
"""

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydino.base import UserError, read_yaml

from .methods import encoder_of, method_of
from .schema import Recipe
from .tasks import Task

STATISTICS = ("fbank-stats", "fbank-stats-cmn")


@dataclass
class Run:
    """One call of run.sh: its recipe, and the options that determine the rows of its stages. All paths are
    absolute, except those below the work folder.
    """

    recipe: Recipe
    conf: str  # folder of the recipe's configurations
    default_conf: str  # the project's
    models: list[str]
    seeds: list[int]
    tag: str
    given: list[str] = field(default_factory=list)  # model folders
    corpora: dict[str, str] = field(default_factory=dict)  # name -> folder
    download: bool = False
    train_sets: str = ""
    test_sets: str = ""
    stage: int = 0
    stop_stage: int = 11
    skip_stages: list[int] = field(default_factory=list)
    dry_run: bool = False
    beside: str = ""  # folder of a recipe's file that lies elsewhere, whose configurations come first

    def wants(self, stage: int) -> bool:
        """Whether the recipe has a stage that is not skipped."""
        return stage in self.recipe.stages and stage not in self.skip_stages

    def runs(self, stage: int) -> bool:
        """Whether a stage is run by this call."""
        return self.wants(stage) and self.stage <= stage <= self.stop_stage

    def config(self, name: str) -> str:
        """Return the path of a configuration: that beside the recipe's file, the recipe's, or otherwise the
        project's.
        """
        return self.own_config(name) or str(Path(self.default_conf) / f"{name}.yaml")

    def own_config(self, name: str) -> str | None:
        """Return the path of a configuration of the recipe; None where it has none."""
        paths = [Path(folder) / f"{name}.yaml" for folder in (self.beside, self.conf) if folder]
        return next((str(path) for path in paths if path.exists()), None)

    def label_maps(self) -> list[str]:
        """Return the tables that supervised training reads, one a training set."""
        return [f"data/{name}/{self.recipe.supervised.labels}" for name in self.recipe.training_sets]

    def check_tables(self) -> None:
        """Raise UserError where data directories lack a table that a later stage reads, before stage 4 has
        trained for days. Directories that do not exist yet are not checked.
        """
        wanted = []
        if self.wants(6) or self.wants(9):
            wanted += [(trials.file, "trials") for trials in self.recipe.trials]
        if self.wants(9):
            wanted += [(path, "supervised.labels") for path in self.label_maps()]
        if self.wants(10):
            wanted += [
                (f"data/{name}/{table}", f"task '{task.name}'")
                for task in self.recipe.tasks
                for name in task.sets
                for table in task.tables
            ]
        for name, whose in wanted if not self.dry_run else ():
            path = Path(name)
            if path.parent.is_dir() and not path.is_file():
                there = " ".join(sorted(file.name for file in path.parent.glob("[ut]*") if file.is_file()))
                raise UserError(f"no {path}, which {whose} of the recipe names; there are {there}")


@dataclass(frozen=True)
class System:
    """Something that turns utterances into embeddings: one row of the tables.

    ``name`` is its folder below ``exp/``, with everything made from it; ``config`` the training
    configuration, or for a baseline the configuration or model folder whose encoder it has (None: none).
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

    @property
    def exp(self) -> str:
        """The system's folder."""
        return f"exp/{self.name}"

    @property
    def exp_of_all_seeds(self) -> str:
        """The folder that holds the folders of the models that differ in their seed alone."""
        return str(Path(self.exp).parent)

    def embeddings(self, data_set: str, with_silence: bool = False) -> str:
        """The folder of a set's embeddings."""
        return f"{self.exp}/xvectors_{data_set}{'_with_silence' if with_silence else ''}"

    def tuning(self, task: Task) -> list[str]:
        """Return the modes in which it is fine-tuned for a task: a model from what it has learnt, a baseline
        with random weights from scratch, statistics never.
        """
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

        scored = recipe.trials if {6, 9} & set(recipe.stages) and stage != 10 else []
        tasks = recipe.tasks if 10 in recipe.stages else []
        for trials in scored:
            for name in dict.fromkeys([trials.set, trials.enroll]):
                need(name, f"trials {trials.name}")
        for name in recipe.training_sets if scored else ():
            for scorer in recipe.scorers:
                if scorer.centring != "raw":
                    need(name, scorer.name)
        if scored and any(scorer.backend == "plda" for scorer in recipe.scorers):
            need(recipe.plda.set, "plda")
        for task in tasks:
            for name in self.embeds(task):
                need(name, f"task {task.name}", task.keep_silence)
        if self.kind != "baseline" and stage != 10:
            for name in recipe.embed or ([] if scored or tasks else recipe.sets):
                need(name, "embed")
        return dict(sorted(needed.items(), key=lambda item: (item[0][1], recipe.sets.index(item[0][0]))))


def systems(run: Run) -> list[System]:
    """Return the systems of a run: those trained without labels, those given, the baselines, those trained
    with labels.

    Raises:
        UserError: two systems would have the same name.
    """
    trained = [_trained(run, model, seed, 4) for model in run.models for seed in run.seeds]
    supervised = [
        _trained(run, model, seed, 9) for model in run.recipe.supervised.models for seed in run.seeds
    ]
    here = {os.path.realpath(system.model_dir) for system in (*trained, *supervised)}
    given = [_given(folder) for folder in dict.fromkeys(run.given) if os.path.realpath(folder) not in here]
    baselines = _baselines(run, [*trained, *given])
    names: dict[str, System] = {}
    for system in (*trained, *given, *baselines, *supervised):
        other = names.setdefault(system.name, system)
        if other != system:
            raise UserError(
                f"{system.model_dir} and {other.model_dir} would both be called {system.name}: give "
                "another --tag"
            )
    return list(names.values())


def systems_of(run: Run, stage: int) -> list[System]:
    """Return the systems that a stage embeds, scores or trains classifiers on: those of stage 9 only in
    stages 9 and 10, all others in every stage except 9.
    """
    return [system for system in systems(run) if stage == 10 or (system.stage == 9) == (stage == 9)]


def _trained(run: Run, model: str, seed: int, stage: int) -> System:
    config = run.config(model)
    method = method_of(config)
    name = f"{model}_{run.tag}/seed{seed}"
    return System(
        "trained",
        name,
        method=model,
        encoder=encoder_of(config)[0],
        seed=seed,
        role=method.roles[0],
        labels="train" if method.reads_labels else "none",
        config=config,
        stage=stage,
        model_dir=f"exp/{name}/{method.roles[0]}",
    )


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
