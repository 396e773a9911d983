"""Fine-tuning an encoder for a task, one fold at a time, by the training engine.

A fold is trained on its training part, the epochs are judged by its development part, and the test part,
whose labels are never read here, is classified at the end.
"""

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from pydino.backend.calibration import fit_temperature
from pydino.base import UserError, config_to_dict, log, read_yaml
from pydino.data.training_dir import read_hashes
from pydino.infer import StoredFeatures, load, read_training_audio
from pydino.infer.classifier import Classifier, save_classifier
from pydino.infer.classifier_config import ClassifierConfig
from pydino.infer.model import Model
from pydino.train import DistributedContext
from pydino.train.exp_dir import is_finished, is_to_be_discarded
from pydino.train.methods.classifier import TaskClassifier, TuningConfig
from pydino.train.run import Run
from pydino.train.supervision import Supervision, head_of
from pydino.train.training import run_training

from .solved_head import solve_head, standardisation
from .task_dir import FINAL, TaskDir

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
        config = read_yaml(self.model_dir / "config.yaml")
        normalisation = self.model.config.front_end.normalisation
        self.trainings = [
            (name, replace(training, encoder=config["encoder"], normalisation=normalisation))
            for name, training in self.trainings
        ]

    @cached_property
    def model(self) -> Model:
        return load(self.model_dir, str(self.distributed.device))

    @cached_property
    def stored(self) -> dict[str, StoredFeatures]:
        """The features of each set, as input of the model's encoder."""
        silence = self.task.config.keep_silence
        return {name: StoredFeatures(data, self.model.front_end, silence) for name, data in self.data.items()}

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
            short=self.trainings[-1][1].crops.short,
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


class DevelopmentPart:
    """The development part of a fold (:class:`pydino.train.supervision.Held`)."""

    def __init__(self, tuning: Tuning, keys: list[str], targets: np.ndarray, chunk_seconds: float):
        self._tuning, self._chunk_seconds, self.targets = tuning, chunk_seconds, targets
        texts = [f"{key} {target}" for key, target in zip(keys, self.targets, strict=True)]
        self.digest = hashlib.sha256("\n".join([*texts, f"{chunk_seconds:g}"]).encode()).hexdigest()[:16]
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


def tune_fold(tuning: Tuning, fold: str, folder: Path) -> dict[str, np.ndarray]:
    """Train the classifier of a fold, resuming what was interrupted, and return its outputs for the test
    part; of the fold ``final``, which has none, leave the classifier's folder, ``folder``/classifier.

    Args:
        folder: for the runs, one folder for each of ``tuning.trainings``.

    Raises:
        UserError: a part of the fold that cannot be trained on; a run that cannot go on.
    """
    task, first = tuning.task, tuning.distributed.first
    train = [key for key in task.part(fold, "train") if key in tuning.hashes]
    dev = task.part(fold, "dev")
    if not train:
        raise UserError(f"{task.path}/fold.{fold}: no utterance of its training part has speech")
    for keys in (train, dev):  # names, and their order, have no influence
        keys.sort(key=lambda key: tuning.hashes.get(key, 0))
    seen = replace(task, labels={key: task.labels[key] for key in (*train, *dev)})
    hashes = np.array([tuning.hashes[key] for key in train], dtype=np.uint64)
    head, init = None, None if tuning.from_scratch else tuning.model_dir
    for name, config in tuning.trainings:
        held = DevelopmentPart(tuning, dev, seen.targets_of(dev), config.chunk_seconds) if dev else None
        if not held and first:
            log(f"fold {fold} has no development part: {config.epochs:g} epochs, and the last weights")
        if head is None:
            head = tuning.distributed.gather_objects(
                first_head(tuning, seen, train, config) if first else None
            )[0]
        supervision = Supervision(
            task.config.name,
            task.config.kind,
            len(task.config.classes) or 1,
            hashes,
            seen.targets_of(train),
            tuning.beside(train),
            head,
            held,
            task.config.classes,
        )
        exp = folder / name
        run = Run(
            TaskClassifier,
            config,
            tuning.train_set,
            exp,
            tuning.seed,
            init=init,
            discard=is_to_be_discarded(exp),
            supervision=supervision,
        )
        if first:
            _discard_another(run)
        tuning.distributed.wait()
        device = tuning.distributed.device
        ngpu = tuning.distributed.local_size if device.type == "cuda" else 0
        run_training(run, ngpu, tuning.num_threads, tuning.workers, tuning.distributed)
        tuning.distributed.wait()
        head, init = load_file(exp / "head.safetensors"), exp / "model"
    if not first:
        return {}
    model = load(init, str(tuning.distributed.device))
    config = tuning.trainings[-1][1]
    solved = head_of(head, config.hidden)
    classifier = tuning.classifier(model.encoder, solved, config.chunk_seconds)
    if fold == FINAL:
        described = classifier.config
        if dev and task.config.kind == "class":
            outputs = tuning.outputs(classifier, dev)
            stacked = np.stack([outputs[key] for key in dev])
            described = replace(described, temperature=float(fit_temperature(stacked, seen.targets_of(dev))))
        save_classifier(
            folder / "classifier",
            model.encoder,
            solved,
            config_to_dict(model.config),
            described,
            f"# {task.config.name}, {tuning.back_end}\n\nA classifier trained on {described.trained_on}.",
            read_training_audio(init),
        )
    return tuning.outputs(classifier, task.part(fold, "test"))


def first_head(
    tuning: Tuning, seen: TaskDir, train: list[str], config: TuningConfig
) -> dict[str, torch.Tensor]:
    """Return what the head of the first training starts from: the probe, or only the standardisation of the
    vectors beside the embedding, and of the embedding where the encoder is not random.
    """
    dim, beside = tuning.model.embedding_dim, tuning.beside(train)
    vectors = (
        np.zeros((len(train), dim), dtype=np.float32)
        if tuning.from_scratch
        else np.stack([tuning.embeddings[key] for key in train])
    )
    everything = vectors if beside is None else np.concatenate([vectors, beside], axis=1)
    if tuning.from_scratch or config.head == "random" or config.hidden:
        mean, scale = standardisation(everything.astype(np.float64))
        if tuning.from_scratch:
            mean[:dim], scale[:dim] = 0.0, 1.0
        solved = {"mean": mean, "scale": scale}
    else:
        speakers = np.unique([seen.speakers[key] for key in train], return_inverse=True)[1]
        classes = len(seen.config.classes)
        solved = solve_head(everything, seen.targets_of(train), speakers, classes, tuning.seed)
    return {name: torch.from_numpy(np.asarray(value, dtype=np.float32)) for name, value in solved.items()}


def _discard_another(run: Run) -> None:
    """Remove a run that was made from something else: it is a part of the fold, whose mark decides."""
    try:
        is_finished(run.exp, run.depends_on())
    except UserError:
        log(f"{run.exp} was made from other data or by another configuration; it is made again")
        shutil.rmtree(run.exp)
