"""What every back-end of a task leaves: its outputs, the predictions of the units, the results, and the
confusions.
"""

from pathlib import Path

import numpy as np

from pydino.base import UserError, log, plural, warn, write_json, write_text
from pydino.downstream import TaskDir, evaluate
from pydino.kaldi import ArchiveWriter

from ._embeddings import configuration_name
from ._results import result_entries, value_text

FILES = ("posteriors.txt", "predictions.txt", "confusion.json")


def task_outputs(out_dir, task: TaskDir) -> list[Path]:
    """Return the files that :func:`write_task_outputs` writes."""
    names = FILES if task.config.kind == "class" else FILES[:2]
    return [Path(out_dir, name) for name in (*names, f"{task.config.name}.result.json")]


def is_first(out_dir) -> bool:
    """Whether no other back-end of the same task and system, a folder beside this one, has been made yet: the
    first says what is true of all.
    """
    out = Path(out_dir).absolute()
    return not any(mark.parent != out for mark in out.parent.glob("*/.done"))


def write_task_outputs(
    out_dir,
    task: TaskDir,
    outputs: dict[str, np.ndarray],
    meta: dict,
    *,
    backend: str,
    treatment: str,
    command: str,
    resamples: int,
    seed: int,
    extra: dict | None = None,
) -> None:
    """Measure the outputs for the test utterances of a task, each test set and each group by itself, write
    the files of docs/formats.md, and log one line for each of them.

    Args:
        out_dir: the folder of the back-end.
        outputs: test utterance -> log-posteriors (K,), or a number (1,), pooled over folds.
        meta: whose they are, as the meta.yaml of an embedding folder.
        backend, treatment: names in the results.
        command: the call that measured, as a person would type it.
        resamples, seed: of the bootstrap over speakers.
        extra: further keys of every result.

    Raises:
        UserError: a test set without any output, or as :func:`evaluate`.
    """
    out, config = Path(out_dir), task.config
    tested = sorted(name for fold in config.folds for name in task.part(fold, "test"))
    outputs = {name: np.asarray(outputs[name]).reshape(-1) for name in tested if name in outputs}
    if not outputs:
        raise UserError(f"{task.path}: none of its {len(tested)} test utterances has an output")
    if absent := [name for name in tested if name not in outputs]:
        warn(f"{task.path}: {len(absent)} of {len(tested)} test utterances are not measured: {absent[0]} ...")
    with ArchiveWriter(out / "posteriors.txt", text=True) as archive:
        for name, vector in outputs.items():
            archive.write(name, vector.astype(np.float32))
    together = evaluate(task, outputs, 0, seed)
    write_text(out / "predictions.txt", "".join(" ".join(line) + "\n" for line in together.predictions))
    entries = []
    for test_set, only in _parts_measured(task, list(outputs)):
        done = evaluate(task, outputs, resamples, seed, only)
        common = {
            "task": config.name,
            "backend": backend,
            "treatment": treatment,
            "labels": "train",
            "test_set": test_set,
            "n": len(done.predictions),
            "counted": config.average_over,
            "speakers": done.speakers,
            "folds": len(config.folds),
            "division": config.division,
            "task_dir": str(task.path),
            "interval": f"95 %, {resamples} resamples of {done.speakers} speakers, seed {seed}",
            **({"transductive": True} if config.transductive else {}),
            **(extra or {}),
        }
        for entry in result_entries(meta, common, done.measures, command):
            metric = entry["metric"]
            beside = {"chance": done.chance, "mean_of_folds": done.mean_of_folds}
            known = {key: round(of[metric], 6) for key, of in beside.items() if metric in of}
            entries.append(entry | known)
        _log(task, test_set, backend, treatment, done)
    write_json(out / f"{config.name}.result.json", entries)
    if together.confusion is not None:
        sets = sorted({task.sets[name] for name in outputs})
        write_json(out / "confusion.json", _confusion(task, together, sets, entries[0], meta))


def _parts_measured(task: TaskDir, tested: list[str]) -> list[tuple[str, set[str]]]:
    """(name, utterances) of each test set and of each of its groups."""
    parts: dict[str, set[str]] = {}
    for name in tested:
        parts.setdefault(task.sets[name], set()).add(name)
    groups: dict[str, set[str]] = {}
    for name in tested:
        if name in task.groups:
            groups.setdefault(f"{task.sets[name]}, {task.groups[name]}", set()).add(name)
    return [*sorted(parts.items()), *sorted(groups.items())]


def _log(task, test_set, backend, treatment, done) -> None:
    measures = ", ".join(f"{name} {value_text(value, ci)}" for name, value, _, ci in done.measures)
    chance = next(iter(done.chance.items()))
    name = backend if treatment == "raw" else f"{backend} {treatment}"
    log(
        f"{task.config.name}, {test_set}, {name}: {measures} "
        f"({plural(len(done.predictions), task.config.average_over)} of {plural(done.speakers, 'speaker')}, "
        f"{plural(len(task.config.folds), 'fold')}, {done.about}; chance: {chance[0]} {chance[1]:.2f})"
    )


def _confusion(task, done, sets, entry, meta) -> dict:
    counts = done.confusion
    actual = counts.sum(axis=1)
    recall = [
        round(float(hits / total), 6) if total else None
        for hits, total in zip(np.diag(counts), actual, strict=True)
    ]
    kept = ("model", "system", "model_labels", "backend", "treatment", "seed", "varied")
    return {
        "task": task.config.name,
        "test_set": "+".join(sets),
        "classes": task.config.classes,
        "counts": counts.tolist(),
        "recall": recall,
        "config": configuration_name(meta),
        **{key: entry[key] for key in kept},
    }
