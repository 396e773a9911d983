"""The options of one training of a classifier (:mod:`pydino.train.methods.classifier`)."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydino.audio.augment import AugmentConfig
from pydino.base import check_fraction, check_not_negative, nearest
from pydino.data import CopyPasteConfig, UtteranceCropConfig
from pydino.models import PARTS

from .config import TrainingConfig

HEAD = "head"  # the part beside those of the encoder


@dataclass
class TuningConfig(TrainingConfig):
    """One training of a classifier. Encoder and normalisation are those of the model that it starts from."""

    given_by_init: ClassVar[tuple[str, ...]] = ("encoder", "normalisation")

    method: Literal["classifier"] = "classifier"
    crops: UtteranceCropConfig = field(default_factory=UtteranceCropConfig)
    copy_paste: CopyPasteConfig = field(default_factory=CopyPasteConfig)
    augment: AugmentConfig = field(
        default_factory=lambda: AugmentConfig(
            reverberation_probability=0.0,
            noise_probability=0.0,
            babble_probability=0.0,
            time_mask_frames=0,
            frequency_mask_bands=0,
        )
    )
    head: Literal["probe", "random"] = "probe"  # what the head of the first training starts from
    hidden: int = 0  # units of a hidden layer of the head, which then starts random; 0: none
    class_weights: Literal["balanced", "none"] = "balanced"  # every class counts alike, or every utterance
    label_smoothing: float = 0.0
    # factors of the learning rate, for frames, pooling, embedding and head; 1 where nothing is said
    lr_scales: dict[str, float] = field(default_factory=dict)
    # of layers that are trained; eval: running statistics stay, which is better for few utterances;
    # auto: eval below 5,000
    batch_norm: Literal["auto", "eval", "train"] = "auto"
    # whole utterances are classified in chunks of this length, whose log-posteriors are averaged; 0: at once
    chunk_seconds: float = 0.0
    # what the best epoch is chosen by: the cross-entropy with all classes alike, or the unweighted average
    # recall, which is noisy on a development part of one speaker
    select: Literal["loss", "uar"] = "loss"
    patience: int = 5  # epochs without a better one, after which the training ends; 0: it never ends early
    # shares of the start in means of its weights and the best epoch's, which are candidates too
    average_with_start: list[float] = field(default_factory=list)
    tensorboard: bool = False  # one file a fold would be many

    def __post_init__(self):
        super().__post_init__()
        check_not_negative(self, "hidden", "patience", "chunk_seconds")
        check_fraction(self, "label_smoothing")
        for name in self.lr_scales:
            if name not in (*PARTS, HEAD):
                known = (*PARTS, HEAD)
                raise ValueError(
                    f"lr_scales: no part '{name}'{nearest(name, known)}; known: {', '.join(known)}"
                )
        for name, value in self.lr_scales.items():
            if value < 0:
                raise ValueError(f"lr_scales: {name} must not be negative, got {value}")
        if not all(0 < share < 1 for share in self.average_with_start):
            raise ValueError(
                f"average_with_start must be shares between 0 and 1, got {self.average_with_start}"
            )
        for name, (here, teacher) in (("augment", self.augment_pair), ("waveform", self.waveform_pair)):
            if teacher != here:
                raise ValueError(f"teacher_{name} changes the views of a teacher; set {name} instead")
