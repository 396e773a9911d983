"""One call of run.sh."""

from dataclasses import dataclass, field
from pathlib import Path

from pydino.base import UserError, is_release

from .schema import Recipe


@dataclass
class Run:
    """One call of run.sh: its recipe, and the options that determine the rows of its stages. All paths are
    absolute, except those below the work folder.
    """

    recipe: Recipe
    conf: str  # folder of the recipe's configurations
    default_conf: str  # the project's
    models: list[str]  # that stage 4 trains
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
    models_named: bool = False  # by --models
    init: str = ""  # release, or model folder, that stage 4 starts from
    beside: str = ""  # folder of a recipe's file that lies elsewhere, whose configurations come first
    round: str = ""  # of stage 8, whose rows are made

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

    @property
    def from_release(self) -> bool:
        """Whether stage 4 goes on with the training of a release, by its own configuration."""
        return bool(self.init) and not self.models_named and is_release(self.init)

    def model_config(self, name: str) -> str:
        """Return the path of the configuration of a model of stage 4."""
        return f"{self.init}/config.yaml" if self.from_release else self.config(name)

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
        clusters = self.recipe.clusters
        if clusters and clusters.labels and (self.wants(7) or self.wants(8)):
            wanted += [
                (f"data/{name}/{clusters.labels}", "clusters.labels") for name in self.recipe.training_sets
            ]
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
