"""The rows of stage 10: task folders, classifiers of frozen embeddings, fine-tuning, leak controls."""

from pathlib import Path

from pydino.base import log

from .row import Row
from .run import Run
from .systems import STATISTICS, System, systems_of
from .tasks import TUNING, Task


def task_dirs(run: Run, stage: int) -> list[Row]:
    return [task_dir_row(task) for task in run.recipe.tasks]


def task_dir_row(task: Task) -> Row:
    """The row of a task's folder."""
    options = ["--name", task.name, "--labels", task.labels, "--kind", task.kind]
    options += ["--unit", task.unit] if task.unit else []
    options += ["--average-over", task.average_over]
    options += ["--groups", task.groups] if task.groups else []
    options += ["--keep-silence", "true"] if task.keep_silence else []
    options += ["--transductive", "true"] if task.transductive else []
    if task.set:
        options += ["--folds", task.folds, "--dev", task.dev]
        data = [f"data/{task.set}"]
    else:
        dev = task.dev if isinstance(task.dev, list) else []
        parts = (("--train", task.train), ("--dev-set", dev), ("--test", task.test))
        data = [word for option, names in parts for name in names for word in (option, f"data/{name}")]
    return Row({"options": options, "data": data, "task_dir": task.folder})


def transferred(run: Run) -> list[System]:
    """Return the systems of stage 10, without those that stages 8 and 9 have not trained."""
    return [system for system in systems_of(run, 10) if _is_there(run, system)]


def _is_there(run: Run, system: System) -> bool:
    # Stage 8 trains a round only where it pays, so a plan has all of them, and a run what is there.
    planned = run.runs(system.stage) and (system.stage != 8 or run.dry_run)
    return system.stage not in (8, 9) or planned or Path(system.exp, ".done.train").exists()


def tasks(run: Run, stage: int) -> list[Row]:
    """Classifiers of frozen embeddings, also with the statistics of the filter banks beside them."""
    found = []
    for system in systems_of(run, 10):
        if not _is_there(run, system):
            if not run.runs(system.stage):
                made = f"stage {system.stage}"
                log(f"without {system.name}, which {made} has not trained yet: ./run.sh --{made}")
            continue
        for task in run.recipe.tasks:
            beside = [False, True] if task.statistics and system.method not in STATISTICS else [False]
            found += [
                _classifier(run, system, task, classifier, statistics)
                for classifier in (task.classifiers if "frozen" in task.modes else ())
                for statistics in beside
            ]
    return found


def tuning(run: Run, stage: int) -> list[Row]:
    """Fine-tuning: one row for each system, task, mode and seed."""
    found = []
    for system in transferred(run):
        # Models that differ in their seed are tuned with their own; a single one with each seed of the call.
        siblings = [other for other in transferred(run) if other.exp_of_all_seeds == system.exp_of_all_seeds]
        own = system.kind == "trained" or len(siblings) > 1
        for task in run.recipe.tasks:
            for mode in system.tuning(task):
                transfer = _transfer(system, task, mode, task.statistics)
                for seed in [system.seed] if own else run.seeds:
                    values = {
                        "options": _tuning_options(run, system, task, mode, seed),
                        "task_dir": task.folder,
                        "model": system.model_dir,
                        "sets": [f"data/{name}" for name in task.sets],
                        "transfer": transfer if own else f"{transfer}/seed{seed}",
                    }
                    found.append(Row(values))
    return found


def controls(run: Run, stage: int) -> list[Row]:
    """Leak controls: one row for each task that has any. Their embeddings are those of the first model."""
    model = next((system.model_dir for system in transferred(run) if system.kind != "baseline"), None)
    found = []
    for task in run.recipe.tasks:
        options = ["--controls", " ".join(task.controls)]
        options += ["--interviewer", f"data/{task.interviewer}"] if task.interviewer else []
        options += [word for table in task.metadata for word in ("--metadata", table)]
        options += ["--model", model] if model else []
        values = {
            "options": options,
            "task_dir": task.folder,
            "sets": [f"data/{name}" for name in task.sets],
            "controls": f"exp/controls_{run.tag}/{task.name}",
        }
        found += [Row(values, group=f"controls of {task.name}")] if task.controls else []
    return found


def _tuning_options(run: Run, system: System, task: Task, mode: str, seed: int) -> list[str]:
    options = ["--mode", mode, "--system", system.name]
    for name in TUNING[mode]:
        options += ["--config", run.config(name)]
    for folder in _statistics(run, task) if task.statistics else ():
        options += ["--statistics", folder]
    return [*options, "--seed", str(seed)]


def _classifier(run: Run, system: System, task: Task, classifier: str, statistics: bool) -> Row:
    options = ["--classifier", classifier]
    for folder in _statistics(run, task) if statistics else ():
        options += ["--append", folder]
    values = {
        "options": options,
        "task_dir": task.folder,
        "embeddings": [system.embeddings(name, task.keep_silence) for name in task.sets],
        "transfer": _transfer(system, task, classifier, statistics),
    }
    return Row(values, group=system.name)


def _transfer(system: System, task: Task, backend: str, statistics: bool) -> str:
    return f"{system.exp}/transfer/{task.name}/{backend}{'+statistics' if statistics else ''}"


def _statistics(run: Run, task: Task) -> list[str]:
    """The folders of the statistics of the filter banks, one for each of the task's sets."""
    baseline = next(system for system in systems_of(run, 10) if system.method == STATISTICS[0])
    return [baseline.embeddings(name, task.keep_silence) for name in task.sets]
