"""Fine-tuning an encoder for a task, one fold at a time, by the training engine.

A fold is trained on its training part, the epochs are judged by its development part, which the temperature
of the posteriors is fitted on, too, and the test part, whose labels are never read here, is classified at the
end.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from pydino.backend.calibration import fit_temperature
from pydino.base import UserError, config_to_dict, log
from pydino.infer import load, read_training_audio
from pydino.infer.classifier import save_classifier
from pydino.infer.classifier_config import default_note
from pydino.train.exp_dir import is_finished, is_to_be_discarded
from pydino.train.methods.classifier import TaskClassifier
from pydino.train.run import Run
from pydino.train.supervision import Supervision, head_of
from pydino.train.training import run_training
from pydino.train.tuning_config import TuningConfig

from .frozen import balance, standardisation
from .solved_head import solve_head
from .task_dir import FINAL, TaskDir
from .tuning import DevelopmentPart, Tuning


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
    dev = tuning.part(fold, "dev")
    if not train:
        raise UserError(f"{task.path}/fold.{fold}: no utterance of its training part has speech")
    if task.config.kind == "class" and len(there := {task.labels[key] for key in train}) < 2:
        raise UserError(
            f"{task.path}/fold.{fold}: all utterances of its training part that have speech are of the class "
            f"{min(there)}; a classifier needs two classes or more, so divide otherwise (--folds, --seed)"
        )
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
    if dev and task.config.kind == "class":
        outputs = tuning.outputs(classifier, dev)
        stacked, truth = np.stack([outputs[key] for key in dev]), seen.targets_of(dev)
        # every class counts alike, as in the training and for frozen embeddings
        temperature = fit_temperature(stacked, truth, balance(truth, len(task.config.classes)))
        note = default_note(task.config.name, len(dev))
        classifier.config = replace(classifier.config, temperature=float(temperature), note=note)
    if fold == FINAL:
        described = classifier.config
        save_classifier(
            folder / "classifier",
            model.encoder,
            solved,
            config_to_dict(model.config),
            described,
            f"# {task.config.name}, {tuning.back_end}\n\nA classifier trained on {described.trained_on}.",
            read_training_audio(init),
        )
    return tuning.outputs(classifier, tuning.part(fold, "test"))


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
