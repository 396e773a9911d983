"""The rows of each stage: run.sh calls a step once per row, with its values for the {placeholders}."""

from collections.abc import Callable

from pydino.base import nearest

from . import calibration_rows, rounds, transfer_rows, verification_rows
from .methods import method_of
from .row import Row
from .run import Run
from .systems import systems_of


def rows(run: Run, kind: str, stage: int) -> list[Row]:
    """Return the rows of a kind for a stage.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"no rows '{kind}'{nearest(kind, KINDS)}; there are {', '.join(KINDS)}")
    return KINDS[kind](run, stage)


def folder_of(run: Run, corpus: str) -> str:
    """Return the folder where a corpus is, or is downloaded to."""
    return run.corpora.get(corpus, f"downloads/{corpus}")


def _corpora(run: Run) -> list[str]:
    """The recipe's corpora, and the noise corpora that were given."""
    return [*run.recipe.corpora, *(name for name in run.recipe.noises if name in run.corpora)]


def _check(run: Run, stage: int) -> list[Row]:
    names = (
        []
        if run.download
        else [name for name in _corpora(run) if name not in run.recipe.corpora or not run.recipe.generated]
    )
    folders = [word for name in names for word in (name, folder_of(run, name))]
    return [
        Row(
            {
                "disk_gb": f"{run.recipe.disk_gb:g}",
                "programs": " ".join(run.recipe.programs),
                "corpora": folders,
            }
        )
    ]


def _downloads(run: Run, stage: int) -> list[Row]:
    parts = []
    if run.train_sets or run.test_sets:  # LibriSpeech's
        parts = ["--parts", f"{run.train_sets or 'train-clean-100'} {run.test_sets or 'test-other'}"]
    return [
        Row(
            {
                "corpus": name,
                "folder": folder_of(run, name),
                "options": parts if name in run.recipe.corpora else [],
            }
        )
        for name in (_corpora(run) if run.download else ())
        if name not in run.recipe.corpora or not run.recipe.generated
    ]


def _preparation(run: Run, stage: int) -> list[Row]:
    options = [word for key, value in run.recipe.prepare_options.items() for word in (f"--{key}", value)]
    for name, value in (("train-sets", run.train_sets), ("test-sets", run.test_sets)):
        options += [f"--{name}", value] if value else []
    folders = [folder_of(run, name) for name in run.recipe.corpora]
    return [Row({"program": f"{run.recipe.prepare}.py", "options": options, "corpora": folders})]


def _noises(run: Run, stage: int) -> list[Row]:
    return [
        Row({"program": f"prepare_{name}.py", "corpus": name, "folder": folder_of(run, name)})
        for name in run.recipe.noises
        if name in run.corpora
    ]


def _sets(run: Run, stage: int) -> list[Row]:
    return [
        Row(
            {
                "set": name,
                "compress": str(run.recipe.compress).lower(),
                "fbank": run.config("fbank"),
                "vad": run.config("vad"),
            }
        )
        for name in run.recipe.sets
    ]


def _train_set(run: Run, stage: int) -> list[Row]:
    run.check_tables()
    wanted = run.recipe.train_set
    options = [
        "--min-duration",
        f"{wanted.min_duration:g}",
        "--keep-silence",
        str(wanted.keep_silence).lower(),
    ]
    options += ["--name", f"{run.recipe.name}/{'+'.join(wanted.sets)}"]
    options += [word for name in wanted.exclude for word in ("--exclude", f"data/{name}")]
    return [Row({"options": options, "data": [f"data/{name}" for name in wanted.sets]})]


def _training(run: Run, stage: int) -> list[Row]:
    if stage == 8:
        return rounds.training(run)
    found = []
    for system in systems_of(run, stage):
        if system.kind == "trained":
            labels = run.label_maps() if method_of(system.config).reads_labels else []
            options = ["--config", system.config, "--seed", str(system.seed)]
            options += [word for path in labels for word in ("--labels", path)]
            options += ["--init", run.init] if run.init and stage == 4 else []
            found.append(Row({"options": options, "exp": system.exp}))
    return found


def _baselines(run: Run, stage: int) -> list[Row]:
    return [
        Row(
            {
                "options": ["--kind", system.method, *(["--like", system.config] if system.config else [])],
                "data": f"data/{run.recipe.sets[0]}",
                "model": system.model_dir,
            }
        )
        for system in systems_of(run, stage)
        if system.kind == "baseline"
        and (system.needs(run.recipe, stage) or any(map(system.tuning, run.recipe.tasks)))
    ]


def _extraction(run: Run, stage: int) -> list[Row]:
    found = []
    for system in transfer_rows.transferred(run) if stage == 10 else rounds.made(run, stage):
        sets = system.needs(run.recipe, stage)
        plain = [
            word
            for name, silence in sets
            if not silence
            for word in (f"data/{name}", system.embeddings(name))
        ]
        paused = [
            word
            for name, silence in sets
            if silence
            for word in ("--with-silence", f"data/{name}", system.embeddings(name, with_silence=True))
        ]
        if sets:
            values = {"system": system.name, "model": system.model_dir, "sets": plain, "with_silence": paused}
            found.append(Row(values))
    return found


KINDS: dict[str, Callable[[Run, int], list[Row]]] = {
    "check": _check,
    "downloads": _downloads,
    "preparation": _preparation,
    "noises": _noises,
    "sets": _sets,
    "train_set": _train_set,
    "training": _training,
    "baselines": _baselines,
    "extraction": _extraction,
    "crops": verification_rows.crops,
    "crop_trials": calibration_rows.crop_trials,
    "joins": verification_rows.joins,
    "wccn": verification_rows.wccn,
    "clusters": verification_rows.clusters,
    "cluster_trials": calibration_rows.cluster_trials,
    "agreement": verification_rows.agreement,
    "thresholds": verification_rows.thresholds,
    "plda": verification_rows.plda,
    "scoring": verification_rows.scoring,
    "calibration": calibration_rows.calibration,
    "task_dirs": transfer_rows.task_dirs,
    "tasks": transfer_rows.tasks,
    "tuning": transfer_rows.tuning,
    "controls": transfer_rows.controls,
}
