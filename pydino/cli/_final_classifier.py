"""The classifier of frozen embeddings that is given away: a model folder with a head, trained on all that the
task has for it.
"""

from pathlib import Path

import numpy as np
import torch

from pydino.base import config_to_dict
from pydino.downstream import FINAL, FrozenClassifier, Linear, Perceptron, TaskDir, fit_fold
from pydino.infer import (
    ClassifierConfig,
    default_note,
    hashes_of,
    load,
    read_training_audio,
    save_classifier,
)
from pydino.models import ClassifierHead
from pydino.train.model_folders import union


def write_final(
    folder,
    task: TaskDir,
    backend: str,
    vectors: dict[str, np.ndarray],
    meta: dict,
    statistics: bool,
    seed: int,
) -> list[Path]:
    """Train on the fold ``final`` and write a classifier folder; return its files.

    There is none of PLDA, which is no head of an encoder, nor of a task without that fold, nor where the
    model of the embeddings is not there any more.

    Args:
        folder: to write.
        task: the task folder.
        backend: name of the classifier.
        vectors: utterance -> (D,).
        meta: the meta.yaml of the embeddings.
        statistics: the vectors end with the statistics of the filter banks.
        seed: see :func:`pydino.downstream.fit_frozen`.
    """
    folder, place = Path(folder), Path(str(meta.get("model_dir") or ""))
    if backend == "plda" or FINAL not in task.folds_there or not (place / "config.yaml").is_file():
        return []
    fitted = fit_fold(task, FINAL, backend, vectors, seed)
    model = load(place)
    config = ClassifierConfig(
        task=task.config.name,
        kind=task.config.kind,
        classes=task.config.classes,
        unit=task.config.unit,
        statistics=statistics,
        hidden=len(fitted.scorer.hidden_bias) if isinstance(fitted.scorer, Perceptron) else 0,
        keep_silence=task.config.keep_silence,
        temperature=fitted.temperature or 1.0,
        trained_on=" ".join(task.config.data),
        back_end=backend,
        note=default_note(task.config.name, fitted.held_out, task.config.kind),
    )
    of = f"frozen embeddings of {meta.get('system') or place}"
    readme = f"# {task.config.name}\n\n{backend} on {of}, trained on {' '.join(task.config.data)}.\n"
    head, described = head_of(fitted), config_to_dict(model.config)
    save_classifier(folder, model.encoder, head, described, config, readme, _training_audio(task, place))
    return [folder / name for name in ("model.safetensors", "classifier.safetensors", "config.yaml")]


def head_of(fitted: FrozenClassifier) -> ClassifierHead:
    """Return a linear classifier or a perceptron as the head of an encoder."""
    scorer = fitted.scorer
    hidden = isinstance(scorer, Perceptron)
    if not isinstance(scorer, Linear | Perceptron):
        raise ValueError("PLDA is no head of an encoder")
    outputs, inputs = len(scorer.bias), len(fitted.mean)
    head = ClassifierHead(inputs, outputs, len(scorer.hidden_bias) if hidden else 0)
    layers = [(scorer.weight, scorer.bias)]
    if hidden:
        layers.insert(0, (scorer.hidden_weight, scorer.hidden_bias))
    with torch.no_grad():
        head.mean.copy_(torch.as_tensor(fitted.mean))
        head.scale.copy_(torch.as_tensor(fitted.scale))
        values = [value for layer in layers for value in layer]
        for parameter, value in zip(head.layers.parameters(), values, strict=True):
            parameter.copy_(torch.as_tensor(value))
    return head


def _training_audio(task: TaskDir, model: Path) -> np.ndarray | None:
    """Hashes of what the encoder was trained on, and the head."""
    taught = [*task.part(FINAL, "train"), *task.part(FINAL, "dev")]
    parts = [read_training_audio(model)]
    for data in task.config.data:
        parts.append(hashes_of(data, [name for name in taught if task.sets[name] == Path(data).name]))
    return union(parts)
