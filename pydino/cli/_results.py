"""Result files, with the keys of docs/formats.md, for the verbs that measure."""

from pydino import __version__
from pydino.base import write_json

from ._embeddings import configuration_name


def write_results(path, meta: dict, common: dict, measures: list[tuple], command: str) -> None:
    """Write :func:`result_entries` to ``path``, which ends in ``.result.json``."""
    write_json(path, result_entries(meta, common, measures, command))


def result_entries(meta: dict, common: dict, measures: list[tuple], command: str) -> list[dict]:
    """Return a list of results, one a measure.

    Args:
        meta: the meta.yaml of the embeddings that were measured.
        common: task, backend, treatment, labels, test_set, n, and anything else all the results say.
        measures: (metric, value, unit, [low, high] or None).
        command: the call that measured, as a person would type it.
    """
    known = {key: common[key] for key in ("task", "backend", "treatment", "labels", "test_set", "n")}
    extra = {key: value for key, value in common.items() if key not in known}
    return [
        {
            "task": known["task"],
            "model": meta.get("model") or "unknown",
            "encoder": meta.get("encoder") or "unknown",
            "system": meta.get("system") or "unknown",
            "model_labels": meta.get("model_labels") or "unknown",
            "backend": known["backend"],
            "treatment": known["treatment"],
            "labels": known["labels"],
            "train_set": meta.get("train_set") or "none",
            "test_set": known["test_set"],
            "metric": metric,
            "value": round(float(value), 6),
            "unit": unit,
            "ci": None if interval is None else [round(x, 6) for x in interval],
            "n": known["n"],
            "seed": meta.get("seed"),
            "config": configuration_name(meta),
            "varied": meta.get("varied") or {},
            "version": __version__,
            **extra,
            "command": command,
        }
        for metric, value, unit, interval in measures
    ]


def value_text(value: float, interval, decimals: int = 2) -> str:
    """``14.83 [13.90, 15.80]``."""
    text = f"{value:.{decimals}f}"
    return text if interval is None else f"{text} [{interval[0]:.{decimals}f}, {interval[1]:.{decimals}f}]"
