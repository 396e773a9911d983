"""The configuration that all methods share, with the defaults of the small-scale recipes; the resolved
configuration is stored beside the models. Each method adds its own options (methods/NAME.py).
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydino.base import check_at_most, check_not_negative, check_positive, config_from_dict, nearest
from pydino.data import (
    AugmentationDataConfig,
    AugmentConfig,
    CopyPasteConfig,
    CropConfig,
    NormalisationConfig,
    ViewGroup,
    WaveformAugmentConfig,
    rational,
    view_groups,
    with_partners,
)
from pydino.models import PARTS, input_kind, resolve_encoder

NOT_AUGMENTED = AugmentConfig(
    reverberation_probability=0.0,
    gain_db=0.0,
    equaliser_db=0.0,
    noise_probability=0.0,
    babble_probability=0.0,
    time_mask_frames=0,
    frequency_mask_bands=0,
)
MOST_EPOCHS, LARGEST_BATCH = 1_000_000, 1_000_000


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
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        check_not_negative(self, "warmup_epochs", "warmup_steps", "weight_decay", "clip")
        check_at_most(self, MOST_EPOCHS, "warmup_epochs")


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
    # micro-batches of batch_size / accumulation utterances for each update; the same update, batch norm aside
    accumulation: int = 1
    # activations are recomputed in the backward pass: less memory, about a third more work
    activation_checkpointing: bool = False

    def __post_init__(self):
        check_positive(self, "accumulation")
        if self.compile and self.activation_checkpointing:
            raise ValueError(
                "compile gains nothing where activations are recomputed: choose compile or "
                "activation_checkpointing"
            )


@dataclass
class TrainingConfig:
    """What every method has. ``encoder`` is a name and the options of that encoder (pydino/models). A
    subclass gives ``method`` the name of its method as its one value and default.

    One epoch visits every utterance once; whatever is scheduled in epochs may be a fraction. Views are made
    of stored features, or of recordings; what ``augment`` does is done to the filter banks of both.
    """

    method: str = ""
    epochs: float = 50.0
    batch_size: int = 64  # utterances of an update, over all processes and micro-batches
    order: Literal["shuffled", "with_replacement"] = "shuffled"
    input: Literal["features", "audio"] = "features"  # audio in any case if the encoder takes waveforms
    encoder: dict[str, Any] = field(default_factory=lambda: {"name": "tdnn"})
    # parts of the encoder that are trained: all, or some of frames, pooling, embedding; the others keep their
    # weights and running statistics. What a method adds to the encoder is always trained.
    trainable: Literal["all"] | list[str] = "all"
    crops: CropConfig = field(
        default_factory=lambda: CropConfig(global_seconds=[2.0, 3.0], local_seconds=[0.8, 1.5])
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    # what differs in the views that the teacher sees
    teacher_augment: dict[str, Any] = field(default_factory=dict)
    # input: audio only, like the next three
    waveform: WaveformAugmentConfig = field(default_factory=WaveformAugmentConfig)
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
    tensorboard: bool = True  # write curves to EXP/tensorboard, besides log.jsonl
    # epochs between snapshots of the encoders, for pydino monitor and for averages; 0: none
    snapshot_epochs: int = 0
    average_snapshots: int = 0  # the mean of this many last teachers is one more model; 0: none
    copy_paste: ClassVar[CopyPasteConfig] = CopyPasteConfig()  # an option of methods that read labels
    given_by_init: ClassVar[tuple[str, ...]] = ()  # keys that the model to start from determines
    min_utterances: ClassVar[int] = 1  # of methods that read clusters: smaller ones are left out of training

    def __post_init__(self):
        self.encoder = resolve_encoder(self.encoder)
        if input_kind(self.encoder) == "waveform":
            self._take_waveforms()
        check_positive(self, "epochs", "batch_size", "checkpoint_steps")
        check_not_negative(self, "log_steps", "snapshot_epochs", "average_snapshots")
        names = [field.name for field in dataclasses.fields(self)]
        check_at_most(self, MOST_EPOCHS, *(name for name in names if name.split("_")[-1] == "epochs"))
        for name in self.trainable if self.trainable != "all" else ():
            if name not in PARTS:
                raise ValueError(
                    f"trainable: an encoder has no part '{name}'{nearest(name, PARTS)}; known: all, or some "
                    f"of {', '.join(PARTS)}"
                )
        if self.average_snapshots and not self.snapshot_epochs:
            raise ValueError("average_snapshots needs snapshot_epochs above 0: there is nothing to average")
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: batch norm compares utterances")
        check_at_most(self, LARGEST_BATCH, "batch_size")
        if self.copy_paste.probability and self.crops.placement == "disjoint":
            raise ValueError("copy_paste joins crops of two utterances; it needs placement: independent")
        self.teacher_augment = _with_changes(self.augment, self.teacher_augment, "teacher_augment")
        self.teacher_waveform = _with_changes(self.waveform, self.teacher_waveform, "teacher_waveform")
        if not self.speed_factors:
            raise ValueError("speed_factors must be a list of one or more, [1.0] to change nothing, got []")
        for factor in self.speed_factors:
            try:
                rational(factor)
            except ValueError as error:
                raise ValueError(f"speed_factors: {error}") from error
        changed = self.speed_factors != [1.0] or any(
            config != WaveformAugmentConfig() for config in self.waveform_pair
        )
        if self.input == "features" and changed:
            raise ValueError(
                "waveform, teacher_waveform and speed_factors change recordings; they need input: audio"
            )

    def _take_waveforms(self) -> None:
        """An encoder of waveforms reads recordings, and what is done to filter banks is off."""
        self.input = "audio"
        fields = type(self).__dataclass_fields__
        for name, is_off in (
            ("augment", self.augment == NOT_AUGMENTED),
            ("normalisation", self.normalisation.kind == "none"),
        ):
            # of methods that take the encoder from a model, the configuration does not know it
            is_usual = getattr(self, name) == fields[name].default_factory()
            if not (is_off or is_usual or "encoder" in self.given_by_init):
                raise ValueError(
                    f"{name} is of filter banks, and the encoder {self.encoder['name']} takes waveforms; "
                    f"remove '{name}', or turn it off ('waveform' augments recordings)"
                )
        if self.teacher_augment == dataclasses.asdict(self.augment):
            self.teacher_augment = {}
        self.augment = dataclasses.replace(NOT_AUGMENTED)
        self.normalisation = NormalisationConfig(kind="none")

    @property
    def name(self) -> str:
        """Name of the method in results."""
        return self.method

    @property
    def needs_clusters(self) -> bool:
        """Whether a run of a method that reads no labels needs clusters (``--clusters``)."""
        return False

    @property
    def positive_sampling(self) -> Any:
        """How positives of other utterances are found in training; None: they are not
        (:class:`pydino.train.positives_config.PositiveSamplingConfig`).
        """
        return None

    def check_no_teacher(self, method: str) -> None:
        """Refuse options for the views of a teacher, where there is none."""
        for name, (here, teacher) in (("augment", self.augment_pair), ("waveform", self.waveform_pair)):
            if teacher != here:
                raise ValueError(
                    f"teacher_{name} changes the views of a teacher, and {method} has none; set {name} "
                    "instead"
                )

    @property
    def view_groups(self) -> list[ViewGroup]:
        """The views of an utterance, and what may be joined to them."""
        groups = view_groups(self.crops, self.augment_pair, self.waveform_pair)
        return with_partners(groups) if self.copy_paste.probability else groups

    @property
    def augment_pair(self) -> tuple[AugmentConfig, AugmentConfig]:
        """Augmentation of the views that only the student sees, and of those that the teacher sees too."""
        return self.augment, AugmentConfig(**self.teacher_augment)

    @property
    def waveform_pair(self) -> tuple[WaveformAugmentConfig, WaveformAugmentConfig]:
        """The same for recordings."""
        return self.waveform, WaveformAugmentConfig(**self.teacher_waveform)

    @property
    def longest_seconds(self) -> float:
        """The longest crop."""
        crops = self.crops
        return max(crops.global_seconds[1], crops.local_seconds[1], crops.whole_up_to_seconds)


def _with_changes(config, changes: dict, name: str) -> dict:
    """Return ``config`` with ``changes``, checked, in full: as it is written beside the model."""
    return dataclasses.asdict(
        config_from_dict(type(config), {**dataclasses.asdict(config), **changes}, where=name)
    )
