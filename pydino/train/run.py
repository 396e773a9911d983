"""What a training run is: its configuration and data, what it depends on, and what its models are called."""

import hashlib
import shlex
from dataclasses import MISSING, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from pydino.audio import KINDS
from pydino.base import (
    TRAINING_VERSION,
    UTT2CLUSTER,
    UserError,
    config_to_dict,
    ingredients,
    init_files,
    labels_of_clusters,
    model_of,
    strongest_labels,
    warn,
)
from pydino.data import Labels, read_clusters, read_labels
from pydino.data.training_dir import read_hashes
from pydino.infer import FrontEndConfig, hashes_of, load, read_front_end, read_training_audio
from pydino.models import input_kind, without_folder

from .config import TrainingConfig
from .from_release import Release, check_front_end, open_release
from .method import Method
from .model_folders import union
from .supervision import Supervision

# Keys that change no weight (snapshot_epochs does where snapshots are averaged), and those of `compute` that
# change them by rounding alone: a run may resume with others.
# Options that came later: at their defaults they are not in marks, so that earlier runs are still finished.
LATER = (
    *("positives", "sub_centres", "hard_negatives", "hard_margin", "start_from_centroids"),
    *("min_utterances", "output_lr_scale", "teacher_sees", "student_sees", "koleo_views"),
    *("mean_entropy_weight", "dimension_weight", "variance_weight", "covariance_weight"),
    *("variance_ramp_epochs", "head.norm_before", "head.shared_prototypes", "ssps", "osps"),
    *("loss.target", "loss.sinkhorn_iterations"),
    *("loss.teacher_temperature_start", "loss.teacher_temperature_epochs"),
)
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
        clusters: folder of clusters, for a method that reads them; None: none.
        init: model folder that the encoder starts from, or release that the method starts from; None: random
            weights.
        init_optimiser: whether the optimiser starts from the release too.
        allow_pipes: run commands in wav.scp (input: audio).
        discard: what is in EXP is to be discarded.
        supervision: the task, for a method that is trained for one (steps/finetune.sh).
        init_labels: labels that the weights it starts from were trained on: those of ``init``
            (:func:`read_init`), or of a pre-trained model.
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
    clusters: Path | None = None
    init_optimiser: bool = False
    init_labels: str = field(default="none", init=False)

    def __post_init__(self):
        name = self.config.method
        if self.init_optimiser and self.init is None:
            raise UserError("--init-optimiser true: there is no --init whose optimiser could be taken")
        if self.is_pretrained:
            self.init_labels = self.config.encoder["labels"]
        if self.labels and not self.method.reads_labels:
            raise UserError(f"--labels: the method {name} trains without labels, and must not be given any")
        if self.method.of_task != (self.supervision is not None):
            raise UserError(
                f"the method {name} trains a classifier for a task: steps/finetune.sh trains it, over the "
                "folds of a task folder"
                if self.method.of_task
                else f"the method {name} is not trained for a task; fine-tuning takes method: classifier"
            )
        if self.clusters is not None:
            self._check_clusters()
        elif self.config.needs_clusters:
            raise UserError(
                f"the method {name} needs clusters here: give --clusters CLUSTER_DIR (steps/cluster.sh)"
            )
        elif self.method.reads_labels and not self.labels and self.supervision is None:
            either = ", or --clusters CLUSTER_DIR" if self.method.reads_clusters else ""
            raise UserError(
                f"the method {name} trains on labels: give --labels UTT2LABEL, such as --labels "
                f"data/train/utt2spk{either}"
            )

    def _check_clusters(self) -> None:
        name = self.config.method
        if not self.method.reads_clusters:
            raise UserError(f"--clusters: the method {name} reads no clusters; methods of rounds do")
        if not (self.clusters / UTT2CLUSTER).is_file():
            raise UserError(
                f"--clusters {self.clusters}: no {UTT2CLUSTER} is there; steps/cluster.sh makes a folder of "
                "clusters"
            )
        if self.labels:
            raise UserError("--labels and --clusters: a run is trained on labels or on clusters; omit one")
        if not self.method.reads_labels and not self.config.needs_clusters:
            raise UserError(
                f"--clusters: this configuration of the method {name} has no use for clusters; set "
                "positives: cluster, or omit them"
            )

    @property
    def front_end(self) -> FrontEndConfig:
        kind = input_kind(self.config.encoder)
        return read_front_end(self.data, self.config.normalisation, kind)

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
        science = config_to_dict(config)
        for name in (*omitted, *(name for name in LATER if _is_default(config, name))):
            *group, key = name.split(".")
            (science[group[0]] if group else science).pop(key, None)
        science["encoder"] = without_folder(config.encoder)  # wherever it is: the hash of the weights counts
        science["compute"] = {key: value for key, value in science["compute"].items() if key not in ROUNDING}
        if self.init is not None:
            science["init"] = _digest(self.init)
        if self.init_optimiser:
            science["init_optimiser"] = True
        if self.supervision is not None:
            science["task"] = self.supervision.digest
        texts = [*self.labels, *(path for path in texts if path.is_file())]
        if self.clusters is not None:
            science["clusters"] = labels_of_clusters(self.clusters)
            texts.append(self.clusters / UTT2CLUSTER)
        return ingredients(
            version=TRAINING_VERSION,
            settings={"seed": self.seed, **science},
            texts=texts,
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
            "labels": strongest_labels(self.own_labels, self.init_labels),
        }

    @property
    def is_pretrained(self) -> bool:
        """Whether the encoder starts from the folder of a pre-trained model."""
        return self.init is None and bool(self.config.encoder.get("folder"))

    @property
    def own_labels(self) -> str:
        """What this run itself is trained on: none, labels (``train``), or the labels behind its clusters
        (``pseudo``, ``train``, ``unknown``).
        """
        if self.clusters is not None:
            return labels_of_clusters(self.clusters)
        return "train" if self.method.reads_labels else "none"

    def read_labels(self) -> Labels | None:
        """Return the labels or clusters of the utterances; None: none are given.

        Raises:
            UserError: an utterance has none.
        """
        if self.clusters is not None:
            clusters, least = read_clusters(self.data, self.clusters), self.config.min_utterances
            kept = clusters.of_at_least(least)
            if kept.num_classes < 2:
                raise UserError(
                    f"{self.clusters}: {kept.num_classes} of its {clusters.num_classes} clusters have "
                    f"min_utterances, {least}, or more; that is nothing to tell apart"
                )
            return kept
        return read_labels(self.data, self.labels) if self.labels else None

    @cached_property
    def training_audio(self) -> np.ndarray | None:
        """Hashes of the recordings that the weights are trained on, and of those that their start was; (N,)
        uint64, ascending; None where not all are known.
        """
        hashes, keys = read_hashes(self.data)
        if self.supervision is not None:
            keys = [keys[i] for i in np.flatnonzero(np.isin(hashes, self.supervision.hashes))]
        parts = [hashes_of(self.data, keys), *([None] if self.is_pretrained else [])]
        return union(parts if self.init is None else [*parts, read_training_audio(model_of(self.init))])

    @property
    def command(self) -> str:
        """The command that makes the run, for READMEs."""
        if self.supervision is not None:
            return f"steps/finetune.sh, for the task {self.supervision.task}"
        labels = [word for path in self.labels for word in ("--labels", path)]
        labels += ["--clusters", self.clusters] if self.clusters is not None else []
        init = ["--init", self.init] if self.init is not None else []
        init += ["--init-optimiser", "true"] if self.init_optimiser else []
        words = ["steps/train.sh", "--seed", self.seed, *labels, *init, self.data, self.exp]
        return shlex.join(map(str, words))


def read_init(run: Run) -> tuple[dict[str, torch.Tensor], Release | None]:
    """Return the weights that the encoder starts from, and the release that they are of, if it is one; record
    the labels that they were trained on.

    Raises:
        UserError: neither a model folder nor a release; a release that was trained with another front end.
    """
    release = open_release(run.init, run.init_optimiser)
    model = load(model_of(run.init))
    if release is not None:
        check_front_end(model.config.front_end, run.front_end, run.init, run.data)
    before, now = (config_to_dict(front_end) for front_end in (model.config.front_end, run.front_end))
    changed = [key for key in before if before[key] != now.get(key)]
    if changed and release is None:
        warn(
            f"--init {run.init}: it was trained with another front end ({', '.join(changed)}) than that of "
            f"{run.data}"
        )
    run.init_labels = model.config.labels
    return model.encoder.state_dict(), release


def _is_default(config: TrainingConfig, name: str) -> bool:
    """Whether an option, such as ``positives`` or ``loss.target``, is there and has its default."""
    *group, key = name.split(".")
    owner = getattr(config, group[0], None) if group else config
    found = getattr(owner, "__dataclass_fields__", {}).get(key)
    if found is None:
        return False
    default = found.default if found.default_factory is MISSING else found.default_factory()
    return default == getattr(owner, key)


def _digest(folder: Path) -> str:
    try:
        parts = [path.read_bytes() for path in init_files(folder)]
    except OSError as error:
        raise UserError(f"--init {folder} is no model folder: {error.filename}: {error.strerror}") from error
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
