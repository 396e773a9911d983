"""A training run, from a configuration and a data directory to model folders in EXP."""

import hashlib
import os
import shlex
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from pydino.audio import KINDS
from pydino.base import (
    TRAINING_VERSION,
    UserError,
    atomic_open,
    config_to_dict,
    dump_config,
    ingredients,
    log,
    warn,
    write_json,
    write_mark,
)
from pydino.data import read_labels
from pydino.data.training_dir import read_hashes
from pydino.infer import FrontEndConfig, hashes_of, load, read_front_end, read_training_audio
from pydino.infer.model_folder import CONFIG, WEIGHTS

from . import exp_dir
from .config import TrainingConfig
from .distributed import DistributedContext
from .loop import train
from .method import Method, Setup
from .model_folders import average_models, union, write_model
from .pipeline import Pipeline, open_pipeline
from .supervision import Supervision

# Keys that change no weight (snapshot_epochs does where snapshots are averaged), and those of `compute` that
# change them by rounding alone: a run may resume with others.
UNSCIENTIFIC = ("on_collapse", "checkpoint_steps", "log_steps", "tensorboard")
ROUNDING = ("compile", "channels_last", "accumulation", "activation_checkpointing")


@dataclass
class Run:
    """What is to be trained, and where.

    Attributes:
        method, config: what.
        data: pre-training directory.
        exp: folder of the run.
        seed: of weights, order, crops and augmentation.
        labels: files of labels, for a method that reads them.
        init: model folder that the encoder starts from; None: random weights.
        allow_pipes: run commands in wav.scp (input: audio).
        discard: what is in EXP is to be discarded.
        supervision: the task, for a method that is trained for one (steps/finetune.sh).
        init_labels: labels that the weights of ``init`` were trained on (:func:`read_init`).
    """

    method: type[Method]
    config: TrainingConfig
    data: Path
    exp: Path
    seed: int = 0
    labels: list[str] = field(default_factory=list)
    init: Path | None = None
    allow_pipes: bool = False
    discard: bool = False
    supervision: Supervision | None = None
    init_labels: str = field(default="none", init=False)

    def __post_init__(self):
        name = self.config.method
        if self.labels and not self.method.reads_labels:
            raise UserError(f"--labels: the method {name} trains without labels, and must not be given any")
        if self.method.of_task != (self.supervision is not None):
            raise UserError(
                f"the method {name} trains a classifier for a task: steps/finetune.sh trains it, over the "
                "folds of a task folder"
                if self.method.of_task
                else f"the method {name} is not trained for a task; fine-tuning takes method: classifier"
            )
        if self.method.reads_labels and not self.labels and self.supervision is None:
            raise UserError(
                f"the method {name} trains on labels: give --labels UTT2LABEL, such as --labels "
                "data/train/utt2spk"
            )

    @property
    def front_end(self) -> FrontEndConfig:
        return read_front_end(self.data, self.config.normalisation)

    def depends_on(self) -> dict[str, str]:
        """Return what the run depends on, for marks. Names of utterances are not in it: hashes, lengths and
        silence are.
        """
        config, data = self.config, self.data
        texts = [data / name for name in ("utt2hash", "vad.scp")]
        texts += [data / "conf" / f"{name}.yaml" for name in (*KINDS, "vad")]
        if config.input == "audio":
            lists = config.augmentation_data
            texts += [data / "wav.scp", data / "segments"]
            texts += [Path(p) for p in (lists.noise, lists.music, lists.speech, *lists.rirs.values()) if p]
        else:
            texts.append(data / "feats.scp")
        omitted = UNSCIENTIFIC if config.average_snapshots else (*UNSCIENTIFIC, "snapshot_epochs")
        science = {key: value for key, value in config_to_dict(config).items() if key not in omitted}
        science["compute"] = {key: value for key, value in science["compute"].items() if key not in ROUNDING}
        if self.init is not None:
            science["init"] = _digest(self.init)
        if self.supervision is not None:
            science["task"] = self.supervision.digest
        return ingredients(
            version=TRAINING_VERSION,
            settings={"seed": self.seed, **science},
            texts=[*self.labels, *(path for path in texts if path.is_file())],
            after=[data / ".done"],
        )

    def describe(self, role: str, encoder: torch.nn.Module) -> dict:
        """Return config.yaml of a model folder (:class:`pydino.infer.ModelConfig`)."""
        stored = self.data / "name"
        return {
            "encoder": self.config.encoder,
            "embedding_dim": encoder.embedding_dim,
            "role": role,
            "method": self.config.name,
            "seed": self.seed,
            "train_set": stored.read_text().strip() if stored.exists() else self.data.resolve().name,
            "front_end": config_to_dict(self.front_end),
            "labels": "train" if self.method.reads_labels else self.init_labels,
        }

    @cached_property
    def training_audio(self) -> np.ndarray | None:
        """Hashes of the recordings that the weights are trained on, and of those that their start was; (N,)
        uint64, ascending; None where not all are known.
        """
        parts = [hashes_of(self.data, read_hashes(self.data)[1])]
        return union(parts if self.init is None else [*parts, read_training_audio(self.init)])

    @property
    def command(self) -> str:
        """The command that makes the run, for READMEs."""
        if self.supervision is not None:
            return f"steps/finetune.sh, for the task {self.supervision.task}"
        labels = [word for path in self.labels for word in ("--labels", path)]
        init = ["--init", self.init] if self.init is not None else []
        words = ["steps/train.sh", "--seed", self.seed, *labels, *init, self.data, self.exp]
        return shlex.join(map(str, words))


def run_training(
    run: Run,
    ngpu: int = 0,
    num_threads: int = 0,
    workers: int | None = None,
    distributed: DistributedContext | None = None,
) -> None:
    """Train to the end and write the model folders EXP/ROLE; resume where an earlier attempt was interrupted,
    and do nothing where the run is finished.

    Args:
        run: what, and where.
        ngpu: GPUs of this machine; 0: the CPU.
        num_threads: CPU threads of this machine, shared by the processes on it; 0: as many as PyTorch
            chooses.
        workers: processes that read ahead, in each that trains; None: none on the CPU, up to eight a GPU.
        distributed: of the caller, who trains several runs and closes it; None: of this run.

    Raises:
        UserError: a mistake of the user's; another run is in EXP; the run has collapsed.
        SystemExit: a signal asked the run to stop; it is saved.
    """
    wanted = run.depends_on()
    labels = read_labels(run.data, run.labels) if run.labels else None
    init = read_init(run) if run.init is not None else None
    own = distributed is None
    distributed = distributed or DistributedContext(ngpu)
    lock = enter(run, wanted, distributed)
    if lock is False:
        if own:
            distributed.close()
        return
    if num_threads:
        torch.set_num_threads(max(1, num_threads // distributed.local_size))
    if workers is None:
        threads = (num_threads or len(os.sched_getaffinity(0))) // distributed.local_size
        workers = min(8, max(0, threads - 1)) if ngpu else 0
    torch.manual_seed(run.seed)  # the weights are the same in all processes
    task = run.supervision
    only, classes = (None, labels) if task is None else (task.hashes, task.labels)
    pipeline = open_pipeline(
        run.config, run.data, run.front_end, run.seed, distributed, run.allow_pipes, only, classes
    )
    method = run.method(
        Setup(
            pipeline.config,
            pipeline.feature_dim,
            pipeline.total_steps,
            pipeline.steps_per_epoch,
            distributed,
            labels,
            init,
            run.supervision,
        )
    )
    if distributed.rank:  # dropout is drawn independently in each process, once the weights are equal
        torch.manual_seed(run.seed + distributed.rank)
    check_lengths(pipeline, method)
    if distributed.first:
        if labels is not None:
            log(f"{' '.join(run.labels)}: {labels.num_classes} labels of {len(labels.classes)} utterances")
        exp_dir.claim(run.exp, wanted, run.discard)
        dump_config(
            {**config_to_dict(pipeline.config), "name": run.config.name, "seed": run.seed}, run.exp / CONFIG
        )
        announce(run, pipeline, method, distributed)
    train(
        method,
        pipeline.views,
        pipeline.sampler,
        pipeline.config,
        run.exp,
        pipeline.total_steps,
        distributed,
        workers,
        lambda epoch: write_models(run, method, run.exp / "snapshots" / f"epoch{epoch:04d}", epoch),
    )
    if distributed.first:
        finish(run, method, wanted)
    if own:
        distributed.close()
    elif lock is not None:
        lock.close()


def enter(run: Run, wanted: dict[str, str], distributed: DistributedContext):
    """Return the lock of EXP, which the caller holds as long as it trains, or False if the run is finished
    there.

    Raises:
        UserError: another run, or another process, is in EXP.
    """
    held, finished, wrong = None, False, None
    if distributed.first:
        try:
            held = exp_dir.lock(run.exp)
            finished = not run.discard and exp_dir.is_finished(run.exp, wanted)
        except UserError as error:
            wrong = error
    if distributed.gather_objects(wrong is not None)[0]:
        if held is not None:
            held.close()  # the error's traceback refers to it
        raise wrong or SystemExit(1)  # the first process says why
    if distributed.gather_objects(finished)[0]:
        if distributed.first:
            log(f"{run.exp} is finished and up to date")
        return False
    return held


def read_init(run: Run) -> dict[str, torch.Tensor]:
    """Return the weights of the model folder that the encoder starts from, and record the labels that they
    were trained on.

    Raises:
        UserError: not a model folder.
    """
    model = load(run.init)
    before, now = (config_to_dict(front_end) for front_end in (model.config.front_end, run.front_end))
    changed = [key for key in before if before[key] != now.get(key)]
    if changed:
        warn(
            f"--init {run.init}: it was trained with another front end ({', '.join(changed)}) than that of "
            f"{run.data}"
        )
    run.init_labels = model.config.labels
    return model.encoder.state_dict()


def _digest(folder: Path) -> str:
    try:
        parts = [(folder / name).read_bytes() for name in (CONFIG, WEIGHTS)]
    except OSError as error:
        raise UserError(f"--init {folder} is no model folder: {error.filename}: {error.strerror}") from error
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def check_lengths(pipeline: Pipeline, method: Method) -> None:
    """Raise UserError for crops that are shorter than the encoder takes."""
    shortest, needed = pipeline.sampler.shortest, method.student.encoder.min_input
    if shortest < needed:
        raise UserError(
            f"crops of {shortest} frames are too short for this encoder, which needs {needed}; make crops "
            "longer"
        )


def announce(run: Run, pipeline: Pipeline, method: Method, distributed: DistributedContext) -> None:
    """Log one line about what is trained on what."""
    shift = run.front_end.feature_options().frame_shift / 1000
    hours = pipeline.source.lengths.sum() * shift / 3600
    trained = sum(p.numel() for group in method.parameter_groups() for p in group.parameters)
    encoder = sum(p.numel() for p in method.student.encoder.parameters())
    processes = f"{distributed.size} x " if distributed.size > 1 else ""
    if run.config.trainable != "all" and run.init is None:
        warn(
            f"trainable: {', '.join(run.config.trainable)} of the encoder: the other parts keep their random "
            "weights; to start from a trained model give --init MODEL_DIR"
        )
    log(
        f"{run.config.name}, seed {run.seed}: {len(pipeline.source)} utterances, {hours:.2f} hours without "
        "silence, "
        f"{pipeline.total_steps} steps of {pipeline.config.batch_size} on "
        f"{processes}{distributed.device.type}, "
        f"{method.precision.name}; {trained:,} parameters are trained, the encoder has {encoder:,}"
    )


def write_models(run: Run, method: Method, folder: Path, epochs: float) -> None:
    """Write a model folder for each role."""
    for role, encoder in method.encoders().items():
        description = run.describe(role, encoder)
        write_model(
            folder / role,
            encoder,
            description,
            epochs,
            method.reads_labels,
            run.command,
            run.training_audio,
        )


def finish(run: Run, method: Method, wanted: dict[str, str]) -> None:
    """Write the final models, their mean if configured, and the mark."""
    write_models(run, method, run.exp, run.config.epochs)
    written = [run.exp / role for role in method.roles]
    others = []
    if outcome := method.outcome():
        others.append(run.exp / exp_dir.OUTCOME)
        write_json(others[-1], outcome)
        log("kept: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in outcome.items()))
    for name, tensors in method.beside().items():
        others.append(run.exp / f"{name}.safetensors")
        with atomic_open(others[-1], "wb") as stream:
            stream.write(save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}))
    if run.config.average_snapshots:
        role = method.roles[0]
        # config.yaml is written last: a snapshot without one is incomplete.
        whole = sorted(path.parent for path in (run.exp / "snapshots").glob(f"epoch*/{role}/{CONFIG}"))
        written.append(run.exp / f"{role}_average")
        average_models(written[-1], whole[-run.config.average_snapshots :] or [run.exp / role])
    write_mark(run.exp / exp_dir.DONE, wanted, [*(folder / WEIGHTS for folder in written), *others])
    log(f"finished: {' and '.join(map(str, written))}")
