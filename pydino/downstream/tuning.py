"""What is fine-tuned in every fold of a task, and the development part that its epochs are judged by."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from pydino.base import UserError, read_yaml
from pydino.data.training_dir import read_hashes
from pydino.infer import StoredFeatures, load, stored_inputs
from pydino.infer.classifier import Classifier
from pydino.infer.classifier_config import ClassifierConfig
from pydino.infer.model import Model
from pydino.train import DistributedContext
from pydino.train.tuning_config import TuningConfig

from .task_dir import TaskDir

# Bytes of encoder inputs of development utterances that stay in memory between epochs.
_CACHE_BYTES = 512_000_000


@dataclass
class Tuning:
    """What is trained in every fold.

    Attributes:
        task: labels and folds.
        data: the name of a set -> its data directory.
        train_set: directory of the task's utterances with labels hidden (pydino.data.make_training_dir).
        model_dir: folder of the model that the encoder is.
        trainings: configurations, one after another, with their names.
        back_end: name in results.
        seed: of everything random.
        from_scratch: the encoder starts from random weights; the model only says which encoder it is.
        statistics: utterance -> vector (S,) beside the embedding; None: none.
        distributed: this process among others.
        num_threads, workers: as of :func:`pydino.train.training.run_training`.
    """

    task: TaskDir
    data: dict[str, Path]
    train_set: Path
    model_dir: Path
    trainings: list[tuple[str, TuningConfig]]
    back_end: str
    seed: int
    distributed: DistributedContext
    from_scratch: bool = False
    statistics: dict[str, np.ndarray] | None = None
    num_threads: int = 1
    workers: int | None = None

    def __post_init__(self):
        check_trainings(self.trainings, self.task.config.kind)
        config = read_yaml(self.model_dir / "config.yaml")
        normalisation = self.model.config.front_end.normalisation
        self.trainings = [
            (name, replace(training, encoder=config["encoder"], normalisation=normalisation))
            for name, training in self.trainings
        ]

    @property
    def short(self) -> str:
        """What becomes of an utterance shorter than a chunk, in all trainings."""
        return self.trainings[-1][1].crops.short

    @cached_property
    def model(self) -> Model:
        return load(self.model_dir, str(self.distributed.device))

    @cached_property
    def stored(self) -> dict[str, StoredFeatures]:
        """The features of each set, as input of the model's encoder."""
        silence = self.task.config.keep_silence
        return {name: stored_inputs(data, self.model.front_end, silence) for name, data in self.data.items()}

    def part(self, fold: str, part: str) -> list[str]:
        """Return the utterances of a part of a fold that have features; the call that submits the folds has
        reported the others.
        """
        return [key for key in self.task.part(fold, part) if self.stored[self.task.sets[key]].has(key)]

    @cached_property
    def hashes(self) -> dict[str, int]:
        """Utterance -> hash of those that can be trained on: they have a voiced frame."""
        hashes, keys = read_hashes(self.train_set)
        return dict(zip(keys, hashes.tolist(), strict=True))

    @cached_property
    def embeddings(self) -> dict[str, np.ndarray]:
        """Utterance -> embedding (D,) of all that are trained on in some fold, by the frozen model."""
        keys = sorted(self.hashes, key=lambda key: (self.task.sets.get(key, ""), key))
        found: dict[str, np.ndarray] = {}
        for names, features in self.inputs([key for key in keys if key in self.task.sets]):
            found |= zip(names, self.model.embed_features(features), strict=True)
        return found

    def inputs(self, keys: list[str]) -> Iterator[tuple[list[str], list[torch.Tensor]]]:
        """Yield utterances and their encoder inputs, whole, a block at a time."""
        sets = self.task.sets
        for name in sorted({sets[key] for key in keys}):
            for names, features, _ in self.stored[name].blocks([key for key in keys if sets[key] == name]):
                yield names, features

    def beside(self, keys: list[str]) -> np.ndarray | None:
        """Return the vectors (N, S) beside the embeddings."""
        if self.statistics is None:
            return None
        missing = [key for key in keys if key not in self.statistics]
        if missing:
            raise UserError(f"--statistics: no vector for {len(missing)} utterances, such as {missing[0]}")
        return np.stack([self.statistics[key] for key in keys]).astype(np.float32)

    def classifier(self, encoder, head: torch.nn.Module, chunk_seconds: float) -> Classifier:
        """Return encoder and head as what classifies whole utterances."""
        return Classifier(
            Model(encoder, self.model.front_end, None, self.distributed.device),
            head,
            self.describe(head, chunk_seconds),
        )

    def describe(self, head: torch.nn.Module, chunk_seconds: float) -> ClassifierConfig:
        task = self.task.config
        return ClassifierConfig(
            task=task.name,
            kind=task.kind,
            classes=task.classes,
            unit=task.unit,
            statistics=self.statistics is not None,
            hidden=0 if isinstance(head.layers, torch.nn.Linear) else head.layers[0].out_features,
            chunk_seconds=chunk_seconds,
            short=self.short,
            keep_silence=task.keep_silence,
            trained_on=" ".join(sorted(self.data)),
            back_end=self.back_end,
        )

    def outputs(self, classifier: Classifier, keys: list[str]) -> dict[str, np.ndarray]:
        """Return utterance -> log-posteriors (K,), or a number (1,)."""
        found: dict[str, np.ndarray] = {}
        for names, features in self.inputs(keys):
            found |= zip(names, classifier.outputs(features, self.beside(names)), strict=True)
        return found


def check_trainings(trainings: list[tuple[str, TuningConfig]], kind: str) -> None:
    """Check that trainings can follow one another, for labels of a kind, class or number.

    Raises:
        UserError: they treat short utterances in different ways, their heads have different layers, or the
            best epoch of numbers is to be chosen by a measure of classes.
    """
    for name, config in trainings:
        if config.select == "uar" and kind == "number":
            raise UserError(
                f"select: uar in {name} is for classes, and this task has numbers; set select: loss, their "
                "squared error"
            )
    for what, values in (
        ("crops.short", [config.crops.short for _, config in trainings]),
        ("hidden", [config.hidden for _, config in trainings]),
    ):
        if len(set(values)) > 1:
            said = ", ".join(f"{value} in {name}" for (name, _), value in zip(trainings, values, strict=True))
            raise UserError(f"{what}: {said}; all trainings of a task must have the same")


class DevelopmentPart:
    """The development part of a fold (:class:`pydino.train.supervision.Held`)."""

    def __init__(self, tuning: Tuning, keys: list[str], targets: np.ndarray, chunk_seconds: float):
        self._tuning, self._chunk_seconds, self.targets = tuning, chunk_seconds, targets
        texts = [f"{key} {target}" for key, target in zip(keys, self.targets, strict=True)]
        texts.append(f"{chunk_seconds:g} {tuning.short}")
        digest, beside = hashlib.sha256("\n".join(texts).encode()), tuning.beside(keys)
        digest.update(b"" if beside is None else beside.tobytes())
        self.digest = digest.hexdigest()[:16]
        self._keys, self._kept = keys, None

    def outputs(self, encoder, head, share: tuple[int, int]) -> np.ndarray:
        keys = self._keys[share[0] :: share[1]]
        classifier = self._tuning.classifier(encoder, head, self._chunk_seconds)
        found: dict[str, np.ndarray] = {}
        for names, features in self._blocks(keys):
            outputs = classifier.outputs(features, self._tuning.beside(names))
            found |= zip(names, outputs, strict=True)
        columns = head(torch.zeros(1, head.mean.numel(), device=head.mean.device)).shape[1]
        return np.stack([found[key] for key in keys]) if keys else np.zeros((0, columns))

    def _blocks(self, keys: list[str]):
        if self._kept is not None:
            return self._kept
        blocks, size = [], 0
        for names, features in self._tuning.inputs(keys):
            size += sum(x.nbytes for x in features)
            if size > _CACHE_BYTES:
                return self._tuning.inputs(keys)
            blocks.append((names, features))
        self._kept = blocks
        return blocks
