"""Finds and checks the inputs of the report: result files, DET curves, training logs, embedding folders."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from pydino.base import UserError, nearest, out_of_date, plural, read_json, read_lines, read_yaml, warn

# The keys of every result, in the order of results.json.
RESULT_KEYS = (
    "task",
    "model",
    "model_labels",
    "backend",
    "treatment",
    "labels",
    "train_set",
    "test_set",
    "metric",
    "value",
    "unit",
    "ci",
    "n",
    "seed",
    "config",
    "version",
)
DET_KEYS = ("trials", "model", "backend", "treatment", "false_alarm", "miss", "scores", "trials_file")


# Below the folder of the experiments: what studies make, which have tables and figures of their own.
STUDIES = "studies"


def files_of(root, pattern: str) -> list[Path]:
    """The files of that name anywhere under ``root``, sorted, but for those of its studies."""
    root = Path(root)
    return sorted(path for path in root.rglob(pattern) if path.relative_to(root).parts[0] != STUDIES)


@dataclass(frozen=True)
class TrainingRun:
    """One training log: `name` is its folder under the experiment root, `epochs` one mapping per line,
    possibly many for an epoch.
    """

    name: str
    epochs: list
    batch_size: int | None = None  # utterances of a step; None: unknown

    @property
    def minutes(self) -> float | None:
        """What the steps took by the speed in the log, without starts and checkpoints; None: unknown."""
        if self.batch_size is None or not all(line.get("utterances_per_second") for line in self.epochs):
            return None
        seconds, done = 0.0, 0
        for line in self.epochs:
            seconds += (line["step"] - done) * self.batch_size / line["utterances_per_second"]
            done = line["step"]
        return seconds / 60


def gather_results(root) -> list[dict]:
    """Every result under `root`, checked, in the order of the files' names.

    A `*.result.json` file holds one result (a mapping of RESULT_KEYS) or a list of them. Files whose inputs
    (trials, embeddings, labels) have changed since are omitted with a warning. Raises UserError, naming file
    and key, for an invalid file, and for two different values of the same measurement.
    """
    results, origin, omitted = [], {}, {}
    for path in files_of(root, "*.result.json"):
        loaded = load_results(path)
        if reason := _out_of_date(path):
            omitted.setdefault((path.parent, reason), []).extend(loaded)
            continue
        for result in loaded:
            _check_result(result, path)
            result = {key: result[key] for key in RESULT_KEYS} | {
                k: v for k, v in result.items() if k not in RESULT_KEYS
            }
            measured = identity(result)
            if measured not in origin:
                origin[measured] = (path, result["value"])
                results.append(result)
            elif not _same(origin[measured][1], result["value"]):
                raise UserError(
                    f"{path} and {origin[measured][0]} have different values ({result['value']} and "
                    f"{origin[measured][1]}) of one measurement, {result['metric']} of {result['model']} on "
                    f"{result['test_set']}: delete the stale file"
                )
    for (folder, reason), found in omitted.items():
        command = next(
            (result["command"] for result in found if "command" in result), "the step that made them"
        )
        warn(
            f"{folder}: {len(found)} results are omitted: {reason} since they were made; make them again "
            f"({command}) or remove the folder"
        )
    return results


def _out_of_date(path: Path) -> str:
    """Return which input of a result or DET curve has changed since it was made; an empty string if none has,
    or if no step made it.
    """
    beside = path.parent
    if (beside / "predictions.txt").is_file() and not (beside / "posteriors.txt").is_file():
        return "the format of predictions.txt has changed"  # of versions without task folders
    stem = path.name.removesuffix(".json").removesuffix(".result").removesuffix(".det")
    marks = [path.with_name(name) for name in (f".done.{stem}", ".done")]
    return next((out_of_date(mark) for mark in marks if mark.is_file()), "")


def load_results(path: Path) -> list[dict]:
    """The results in a file, those of rounds with the name of their system as ``model``
    (:func:`shown_name`).
    """
    loaded = read_json(path)
    return [
        result | {"model": shown_name(result["model"], result)}
        if isinstance(result, dict) and "model" in result
        else result
        for result in (loaded if isinstance(loaded, list) else [loaded])
    ]


def is_current(path: Path) -> bool:
    """Whether no input of a result, DET curve or control has changed since."""
    return not _out_of_date(path)


def identity(result: dict) -> str:
    """What identifies a measurement: everything but the outcome and the version of the program."""
    outcome = ("value", "unit", "ci", "n", "speakers", "chance", "mean_of_folds", "version", "command")
    return json.dumps({key: value for key, value in result.items() if key not in outcome}, sort_keys=True)


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _check_result(result, path: Path) -> None:
    if not isinstance(result, dict):
        raise UserError(f"{path}: a result must be a mapping, found {type(result).__name__}")
    for key in RESULT_KEYS:
        if key not in result:
            raise UserError(
                f"{path}: key '{key}' is missing{nearest(key, [k for k in result if k not in RESULT_KEYS])}"
            )
    if isinstance(result["value"], bool) or not isinstance(result["value"], (int, float)):
        raise UserError(f"{path}: 'value' must be a number, found {result['value']!r}")
    ci = result["ci"]
    if ci is not None and not (
        isinstance(ci, list) and len(ci) == 2 and all(isinstance(x, (int, float)) for x in ci)
    ):
        raise UserError(f"{path}: 'ci' must be [low, high] or null, found {ci!r}")


def gather_det_curves(root) -> list[dict]:
    """Every `*.det.json` under `root` that is up to date (:func:`gather_results` warns of the others):
    DET_KEYS, with `false_alarm` and `miss` as rates in [0, 1].
    """
    curves = []
    for path in files_of(root, "*.det.json"):
        if not is_current(path):
            continue
        curve = read_json(path)
        missing = [key for key in DET_KEYS if key not in curve] if isinstance(curve, dict) else list(DET_KEYS)
        if missing:
            raise UserError(f"{path}: key '{missing[0]}' is missing; remove the file and score again")
        beside = path.with_name(f"{path.name.removesuffix('.det.json')}.result.json")
        about = load_results(beside)[0] if beside.is_file() else {}
        of_result = {"labels": about["labels"]} if "labels" in about else {}
        name = shown_name(curve["model"], about)
        curves.append(curve | of_result | {"path": str(path), "model": name})
    return curves


def shown_name(model: str, about: dict) -> str:
    """The name of a model in tables, figures and results.json. All rounds of training on clusters are of one
    method, so they are called after their system, without the seed: ``dino-koleo-round-2_mini``.

    Args:
        about: of it, with ``model_labels`` and ``system``; of a fusion, those of its parts joined by " + ".
    """
    if "pseudo" not in str(about.get("model_labels")).split(" + "):
        return model
    systems = [re.sub(r"/seed\d+$", "", part) for part in str(about.get("system") or "").split(" + ")]
    return model if systems in ([""], ["unknown"]) else " + ".join(dict.fromkeys(systems))


def gather_training_runs(root) -> list[TrainingRun]:
    """Every `log.jsonl` under `root`; an unfinished last line of a running or killed training is skipped. The
    runs of a fine-tuning over folds are one, after all others: the means over the folds.
    """
    runs = []
    for path in files_of(root, "log.jsonl"):
        epochs = []
        for number, line in enumerate(read_lines(path), start=1):
            try:
                epochs.append(json.loads(line))
            except json.JSONDecodeError:
                warn(f"{path}: line {number} is not JSON and is skipped")
        if epochs:
            runs.append(TrainingRun(str(path.parent.relative_to(root)), epochs, _batch_size(path.parent)))
    return _over_folds(runs)


def _batch_size(exp: Path) -> int | None:
    path = exp / "config.yaml"
    value = (read_yaml(path) or {}).get("batch_size") if path.is_file() else None
    return value if isinstance(value, int) else None


def _over_folds(runs: list[TrainingRun]) -> list[TrainingRun]:
    """Put runs in folders ``fold_NAME`` together that differ in it alone, without the one of the final model,
    which has no test part.
    """
    alone, of_folds = [], {}
    for run in runs:
        parts = run.name.split("/")
        folds = [part for part in parts if part.startswith("fold_")]
        if not folds:
            alone.append(run)
        elif folds != ["fold_final"]:
            name = "/".join(part for part in parts if part not in folds)
            of_folds.setdefault(name, []).append(run.epochs)
    return alone + [
        TrainingRun(f"{name} ({plural(len(folds), 'fold')})", _mean_log(folds))
        for name, folds in of_folds.items()
    ]


def _mean_log(folds: list[list[dict]]) -> list[dict]:
    """The means of the logs of folds, line by line; one that has ended before counts with its last line."""
    longest = max(map(len, folds))
    return [_mean_line([fold[min(line, len(fold) - 1)] for fold in folds]) for line in range(longest)]


def _mean_line(lines: list[dict]) -> dict:
    values: dict[str, list[float]] = {}
    for line in lines:
        for key, value in line.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                values.setdefault(key, []).append(value)
    return {key: sum(found) / len(found) for key, found in values.items()}


def gather_embedding_folders(root) -> list[dict]:
    """meta.yaml of every extracted set under `root`, with the key `folder` added."""
    folders = []
    for scp in files_of(root, "xvector.scp"):
        meta_path = scp.parent / "meta.yaml"
        if meta_path.exists():
            meta = read_yaml(meta_path)
            # Crops of utterances, and embeddings with statistics beside them, are not sets to be shown.
            if "crops" not in meta and not meta.get("beside"):
                folders.append(meta | {"folder": str(scp.parent), "model": shown_name(meta["model"], meta)})
    return folders
