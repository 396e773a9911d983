"""The calls of the steps that a study takes: its tasks, its models, its cells."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from pydino.base import UserError, nearest

from .calls import Call
from .methods import method_of
from .rows import rows
from .run import Run
from .study import FROZEN, SCRATCH, Cell, Study, cells_of, slug
from .systems import System, method_name, systems
from .tasks import CLASSIFIERS, TUNING, Task
from .transfer_rows import task_dir_row

TRAIN_SSL = "data/train_ssl"


@dataclass(frozen=True)
class Jobs:
    """How the steps are run: parallel jobs of an extraction; GPUs and threads of a job."""

    nj: int = 1
    ngpu: int = 0
    num_threads: int = 1


@dataclass(frozen=True)
class Training:
    """A model that is trained on a part of the training set."""

    system: System
    hours: float
    seed: int
    folder: str  # of the run
    data: str  # its training directory


class StudyPlan:
    """The cells of a study, and the calls that make them; nothing here is run or read but the recipe.

    Args:
        run: the recipe; its seeds are the study's.
        study: the grid.
        jobs: see :class:`Jobs`.

    Raises:
        UserError: a task or a model that the recipe does not have.
    """

    def __init__(self, run: Run, study: Study, jobs: Jobs):
        self.study, self.jobs = study, jobs
        names = [str(value) for value in study.axes.get("model", {}).values() if value != SCRATCH]
        named = study.models or names
        known = [*run.recipe.models, *run.recipe.supervised.models]
        run = replace(run, models_named=bool(named))  # of a release, its own configuration otherwise
        for name in named:
            if not Path(run.config(name)).is_file():
                raise UserError(f"models: no {run.conf}/{name}.yaml{nearest(name, known)}")
        if not named and not run.given:
            named = run.models[:1]
        if not named and not run.given:
            raise UserError(
                f"the {run.recipe.name} recipe trains no model: give the model folders to study, --model DIR"
            )
        unlabelled = [name for name in named if name not in run.recipe.supervised.models]
        self.run, self.named = replace(run, seeds=study.seeds, models=unlabelled), named
        self.systems = [
            system for system in systems(self.run) if system.kind != "baseline" and not system.round
        ]
        given = [system for system in self.systems if system.kind == "given"]
        methods = [system.method for system in given]
        self.given = {
            system.method if methods.count(system.method) == 1 else system.name.split("/")[0]: system
            for system in given
        }
        self.axes, self.cells = cells_of(study, list(dict.fromkeys([*named, *self.given])))
        self.tasks = [self._task(name) for name in study.tasks or [self._first_task()]]
        for cell in self.cells:
            if cell.hours is not None and self._name(cell) in self.given:
                raise UserError(f"hours: {self._name(cell)} was given by --model, and is not trained here")
        self.folder = f"exp/studies/{study.name}"

    def _first_task(self) -> str:
        if not self.run.recipe.tasks:
            raise UserError(f"the {self.run.recipe.name} recipe has no task to study")
        return self.run.recipe.tasks[0].name

    def _task(self, name: str) -> Task:
        known = {task.name: task for task in self.run.recipe.tasks}
        if name not in known:
            raise UserError(f"tasks: the recipe has no '{name}'{nearest(name, known)}: {', '.join(known)}")
        task = known[name]
        modes = [cell.mode for cell in self.cells if cell.mode not in (*TUNING, FROZEN)]
        if wrong := [mode for mode in modes if mode not in CLASSIFIERS[task.kind]]:
            raise UserError(f"mode: '{wrong[0]}' is no classifier of {task.kind}es, as task '{name}' needs")
        if self.study.folds and not task.set:
            raise UserError(f"folds: the task '{name}' has a fixed division")
        return replace(task, folds=self.study.folds) if self.study.folds else task

    def _name(self, cell: Cell) -> str:
        return cell.model or [*self.named, *self.given][0]

    def system(self, cell: Cell, seed: int) -> System:
        """The model of a cell, as the recipe trains it or as it was given."""
        name = self._name(cell)
        if name in self.given:
            return self.given[name]
        method = method_name(self.run, name, 4 if name in self.run.models else 9)
        return next(s for s in self.systems if s.kind == "trained" and s.method == method and s.seed == seed)

    def _training(self, cell: Cell, seed: int) -> Training | None:
        if cell.hours is None:
            return None
        part = f"hours={cell.hours:g}"
        folder = f"{self.folder}/models/{slug(self._name(cell))},{part}/seed{seed}"
        data = f"{self.folder}/data/{part}/seed{seed}"
        return Training(self.system(cell, seed), cell.hours, seed, folder, data)

    def runs(self) -> list[tuple[Cell, Task, int]]:
        """Every cell with each task and seed."""
        return [(cell, task, seed) for cell in self.cells for task in self.tasks for seed in self.study.seeds]

    def trainings(self) -> list[Training]:
        """What is trained without labels on a part of the training set, and with the labels of that part."""
        found = [self._training(cell, seed) for cell, _, seed in self.runs()]
        return list({one.folder: one for one in found if one}.values())

    def check(self) -> None:
        """Raise UserError for a model that earlier stages should have trained, or a set without features."""
        for cell, _, seed in self.runs():
            system = self.system(cell, seed)
            if system.kind == "trained" and cell.hours is None:
                if not Path(system.model_dir, "config.yaml").is_file():
                    words = [] if self.run.from_release else ["--models", self._name(cell)]
                    words += ["--init", self.run.init] if self.run.init else []
                    raise UserError(
                        f"no {system.model_dir}, which the study needs: run.sh --stage {system.stage} "
                        f"--stop-stage {system.stage} {shlex.join(words)} --seeds {seed}"
                    )
        wanted = {f"data/{name}/feats.scp" for task in self.tasks for name in task.sets}
        wanted |= {f"{TRAIN_SSL}/feats.scp"} if self.trainings() else set()
        if absent := sorted(path for path in wanted if not Path(path).is_file()):
            raise UserError(f"no {absent[0]}: run the recipe's stages 0 to 3 first (run.sh --stop-stage 3)")

    def task_calls(self) -> list[Call]:
        """Folds, and shares of the labels."""
        found = []
        for task in self.tasks:
            row = task_dir_row(task).values
            folder = f"{self.folder}/tasks/{task.name}/whole"
            found.append(Call(["steps/make_task.sh", *row["options"], *row["data"], folder]))
        for cell, task, seed in self.runs():
            options = ["--share", f"{cell.share:g}", "--seed", str(seed if cell.share < 1 else 0)]
            whole = f"{self.folder}/tasks/{task.name}/whole"
            found.append(Call(["steps/subset_task.sh", *options, whole, self._task_dir(cell, task, seed)]))
        return _once(found)

    def _task_dir(self, cell: Cell, task: Task, seed: int) -> str:
        part = "labels=1" if cell.share == 1 else f"labels={cell.share:g}/seed{seed}"
        return f"{self.folder}/tasks/{task.name}/{part}"

    def data_calls(self) -> list[Call]:
        """Parts of the training set."""
        if not self.trainings():
            return []
        values, found = rows(self.run, "train_set", 3)[0].values, []
        for one in self.trainings():
            options = list(values["options"])
            options[options.index("--name") + 1] += f", {one.hours:g} h"
            options += ["--max-hours", f"{one.hours:g}", "--seed", str(one.seed)]
            found.append(Call(["steps/make_train_set.sh", *options, *values["data"], one.data]))
        return _once(found)

    def model_calls(self, settings: dict[str, list[str]]) -> list[Call]:
        """Trainings, and the embeddings for classifiers of frozen embeddings; those of a model are a group.

        Args:
            settings: folder of a training -> ``KEY=VALUE`` with which it has as many steps as on everything.
        """
        found = []
        for one in self.trainings():
            options = ["--config", one.system.config, "--seed", str(one.seed)]
            options += [word for pair in settings[one.folder] for word in ("--set", pair)]
            labels = self.run.label_maps() if method_of(one.system.config).reads_labels else []
            options += [word for path in labels for word in ("--labels", path)]
            options += ["--init", self.run.init] if self.run.init and one.system.stage == 4 else []
            command = ["steps/train.sh", "--cmd", "run_local.sh", *self._devices(), *options]
            found.append(Call([*command, one.data, one.folder], one.folder))
        for cell, task, seed in self.runs():
            if cell.mode not in TUNING:
                found.append(self._extraction(cell, task, seed))
        return _once(found)

    def _devices(self) -> list[str]:
        return ["--ngpu", str(self.jobs.ngpu), "--num-threads", str(self.jobs.num_threads)]

    def _extraction(self, cell: Cell, task: Task, seed: int) -> Call:
        model = self.model_dir(cell, seed)
        command = ["steps/extract_embeddings.sh", "--nj", str(self.jobs.nj), "--gpu", str(self.jobs.ngpu)]
        command += ["--system", self.name(cell, seed), model]
        for name, folder in zip(task.sets, self._embeddings(cell, task, seed), strict=True):
            command += [*(["--with-silence"] if task.keep_silence else []), f"data/{name}", folder]
        training = self._training(cell, seed)
        return Call(command, training.folder if training else model)

    def _embeddings(self, cell: Cell, task: Task, seed: int) -> list[str]:
        training, system = self._training(cell, seed), self.system(cell, seed)
        if training:
            system = replace(system, name=training.folder.removeprefix("exp/"))
        return [system.embeddings(name, task.keep_silence) for name in task.sets]

    def name(self, cell: Cell, seed: int) -> str:
        """The system of a cell in results."""
        training = self._training(cell, seed)
        return training.folder.removeprefix("exp/") if training else self.system(cell, seed).name

    def model_dir(self, cell: Cell, seed: int) -> str:
        """The model folder of a cell."""
        training = self._training(cell, seed)
        system = self.system(cell, seed)
        return f"{training.folder}/{system.role}" if training else system.model_dir

    def out(self, cell: Cell, task: Task, seed: int) -> str:
        """The folder of a cell's results."""
        return f"{self.folder}/cells/{cell.folder}/{task.name}/seed{seed}"

    def cell_calls(self) -> list[Call]:
        """Fine-tuning, a group for each cell, task and seed; classifiers, a group for each model."""
        found = []
        for cell, task, seed in self.runs():
            task_dir, out = self._task_dir(cell, task, seed), self.out(cell, task, seed)
            group = out
            varied = [word for pair in cell.varied.items() for word in ("--varied", "=".join(pair))]
            if cell.mode in TUNING:
                command = ["steps/finetune.sh", "--mode", cell.mode, *self._devices()]
                for name in TUNING[cell.mode]:
                    command += ["--config", self.run.config(name)]
                command += [word for pair in cell.settings for word in ("--set", pair)]
                command += ["--system", self.name(cell, seed)]
                inputs = [self.model_dir(cell, seed), *(f"data/{name}" for name in task.sets)]
            else:
                classifier = task.classifiers[0] if cell.mode == FROZEN else cell.mode
                command = ["steps/train_classifier.sh", "--classifier", classifier]
                inputs = self._embeddings(cell, task, seed)
                group = self.model_dir(cell, seed)
            command += ["--seed", str(seed), *varied, task_dir, *inputs, out]
            found.append(Call(command, group))
        return found


def _once(calls: list[Call]) -> list[Call]:
    return list({tuple(call.words): call for call in calls}.values())
