"""Everything that defines a training run, with the defaults of the small-scale recipes; the resolved form
lies beside the model.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from pydino.base import config_from_dict
from pydino.data import (
    AugmentationDataConfig,
    AugmentConfig,
    CropConfig,
    NormalisationConfig,
    WaveformAugmentConfig,
    rational,
)
from pydino.models import HeadConfig, resolve_encoder
from pydino.ssl import DinoLossConfig


def check_not_negative(config, *names: str) -> None:
    """Raise ValueError for a value that is negative, infinite or no number."""
    for name in names:
        if not 0 <= getattr(config, name) < math.inf:
            raise ValueError(f"{name} must not be negative, got {getattr(config, name)}")


def check_positive(config, *names: str) -> None:
    """Raise ValueError for a value that is not above 0, infinite or no number."""
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise ValueError(f"{name} must be above 0, got {getattr(config, name)}")


@dataclass
class OptimiserConfig:
    """Optimiser and learning rate: linear warm-up from 0, then down to ``final_lr`` by a cosine or by
    halves.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"  # adam: L2 decay and amsgrad, as the papers' code
    lr: float = 1e-3  # peak
    final_lr: float = 1e-6
    schedule: Literal["cosine", "exponential"] = "cosine"
    half_life_steps: int = 60000  # exponential only: steps in which the rate falls by half
    warmup_epochs: float = 5.0
    warmup_steps: int = 0  # above 0: instead of warmup_epochs
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    momentum: float = 0.9  # sgd only
    weight_decay: float = 0.01  # on matrices only: no bias, no norm
    clip: float = 3.0  # largest norm of the gradient of all parameters together; 0 never clips

    def __post_init__(self):
        if self.lr <= 0 or not 0 <= self.final_lr <= self.lr:
            raise ValueError(
                f"lr must be above 0 and final_lr between 0 and lr, got {self.lr} and {self.final_lr}"
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers in [0, 1), got {self.betas}")
        check_positive(self, "half_life_steps")
        check_not_negative(self, "warmup_epochs", "warmup_steps", "weight_decay", "clip")


@dataclass
class TeacherConfig:
    """Momentum of the teacher: a cosine from ``momentum`` to ``final_momentum``.

    0.996 suits hundreds of thousands of steps; in a run of a thousand it leaves the teacher behind, and 0.98
    is better.
    """

    momentum: float = 0.98
    final_momentum: float = 1.0
    momentum_steps: int = 0  # steps of the cosine; 0: the whole run

    def __post_init__(self):
        if not 0 <= self.momentum <= self.final_momentum <= 1:
            raise ValueError(
                f"momentum must rise from momentum to final_momentum in [0, 1], got {self.momentum} and "
                f"{self.final_momentum}"
            )
        check_not_negative(self, "momentum_steps")


@dataclass
class ComputeConfig:
    """How a step is computed. Losses, softmaxes, statistics and updates are in float32 whatever the
    precision.
    """

    # Of encoder and head; auto: bf16 where the processor or the GPU computes in it, else fp32. fp16 needs a
    # GPU.
    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    # by torch.compile: minutes at the start, faster steps; off with a line where there is no compiler
    compile: bool = False
    channels_last: bool = False  # memory layout that convolutions over frequency and time like on a GPU
    # passes of batch_size / accumulation utterances before an update; the same update, batch norm aside
    accumulation: int = 1
    # activations are computed again on the way back: less memory, about a third more work
    activation_checkpointing: bool = False

    def __post_init__(self):
        check_positive(self, "accumulation")
        if self.compile and self.activation_checkpointing:
            raise ValueError(
                "compile gains nothing where activations are computed again: choose compile or "
                "activation_checkpointing"
            )


@dataclass
class TrainingConfig:
    """What every method has. ``encoder`` is a name and the options of that encoder (pydino/models).

    One epoch visits every utterance once; whatever is scheduled in epochs may be a fraction. Views are made
    of stored features, or of recordings; what ``augment`` does is done to the filter banks of both.
    """

    epochs: float = 50.0
    batch_size: int = 64  # utterances of an update, over all processes and passes
    order: Literal["shuffled", "with_replacement"] = "shuffled"
    input: Literal["features", "audio"] = "features"
    encoder: dict[str, Any] = field(default_factory=lambda: {"name": "tdnn"})
    crops: CropConfig = field(
        default_factory=lambda: CropConfig(global_seconds=[2.0, 3.0], local_seconds=[0.8, 1.5])
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    # what differs in the views that the teacher sees
    teacher_augment: dict[str, Any] = field(default_factory=dict)
    # input: audio only, like the next three
    waveform: WaveformAugmentConfig = field(default_factory=WaveformAugmentConfig)
    # what differs in the views that the teacher sees
    teacher_waveform: dict[str, Any] = field(default_factory=dict)
    # one is drawn for each visit of an utterance, for all its views
    speed_factors: list[float] = field(default_factory=lambda: [1.0])
    augmentation_data: AugmentationDataConfig = field(
        default_factory=AugmentationDataConfig
    )  # of noises and room responses
    normalisation: NormalisationConfig = field(default_factory=lambda: NormalisationConfig(kind="mean"))
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    on_collapse: Literal["stop", "warn"] = "stop"
    checkpoint_steps: int = 500  # steps between checkpoints, besides one an epoch
    log_steps: int = 0  # steps between lines of the log, besides one an epoch; 0: none between
    # epochs between snapshots of the encoders, for pydino monitor and for averages; 0: none
    snapshot_epochs: int = 0
    average_snapshots: int = 0  # the mean of the last so many teachers becomes a model of its own; 0: none

    def __post_init__(self):
        self.encoder = resolve_encoder(self.encoder)
        check_positive(self, "epochs", "batch_size", "checkpoint_steps")
        check_not_negative(self, "log_steps", "snapshot_epochs", "average_snapshots")
        if self.average_snapshots and not self.snapshot_epochs:
            raise ValueError("average_snapshots needs snapshot_epochs above 0: there is nothing to average")
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: batch norm compares utterances")
        self.teacher_augment = _with_changes(self.augment, self.teacher_augment, "teacher_augment")
        self.teacher_waveform = _with_changes(self.waveform, self.teacher_waveform, "teacher_waveform")
        for factor in self.speed_factors or [0.0]:
            rational(factor)  # or it is none that can be made
        changed = self.speed_factors != [1.0] or any(
            config != WaveformAugmentConfig() for config in self.waveform_pair
        )
        if self.input == "features" and changed:
            raise ValueError(
                "waveform, teacher_waveform and speed_factors change recordings; they need input: audio"
            )

    @property
    def augment_pair(self) -> tuple[AugmentConfig, AugmentConfig]:
        """What is done to the views that only the student sees, and to those that the teacher sees too."""
        return self.augment, AugmentConfig(**self.teacher_augment)

    @property
    def waveform_pair(self) -> tuple[WaveformAugmentConfig, WaveformAugmentConfig]:
        """The same for recordings."""
        return self.waveform, WaveformAugmentConfig(**self.teacher_waveform)

    @property
    def longest_seconds(self) -> float:
        """The longest crop."""
        return max(self.crops.global_seconds[1], self.crops.local_seconds[1])


def _with_changes(config, changes: dict, name: str) -> dict:
    """Return ``config`` with ``changes``, checked, in full: as it is written beside the model."""
    return dataclasses.asdict(
        config_from_dict(type(config), {**dataclasses.asdict(config), **changes}, where=name)
    )


@dataclass
class DinoConfig(TrainingConfig):
    """A DINO run."""

    head: HeadConfig = field(
        default_factory=lambda: HeadConfig(hidden_dim=512, bottleneck_dim=128, output_dim=1024)
    )
    loss: DinoLossConfig = field(default_factory=DinoLossConfig)
    koleo_weight: float = 0.0  # above 0 the method is called dino-koleo; 0.1 is worth much at small scale
    # of 1 - cosine between the embeddings of teacher and student, over the pairs of the loss
    cosine_weight: float = 0.0
    cosine_ramp_epochs: float = 20.0  # its weight rises from 0 over so many
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    freeze_last_layer_epochs: float = 1.0  # the prototypes stay put at first
    freeze_last_layer_steps: int = 0  # above 0: instead of freeze_last_layer_epochs

    def __post_init__(self):
        super().__post_init__()
        if self.crops.num_global < 2:
            raise ValueError(
                "crops.num_global must be at least 2 (the student predicts another view than its own), got "
                f"{self.crops.num_global}"
            )
        check_not_negative(
            self,
            "koleo_weight",
            "cosine_weight",
            "cosine_ramp_epochs",
            "freeze_last_layer_epochs",
            "freeze_last_layer_steps",
        )

    @property
    def method(self) -> str:
        """Name of the method in results."""
        return "dino-koleo" if self.koleo_weight else "dino"
