"""Everything that defines a training run, with the defaults of the small-scale recipes; the resolved form lies beside the model."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pydino.data import AugmentConfig, CropConfig, NormalisationConfig
from pydino.models import HeadConfig, resolve_encoder
from pydino.ssl import DinoLossConfig


@dataclass
class OptimiserConfig:
    """Optimiser and learning rate: linear warm-up from 0, then a cosine down to ``final_lr``."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"  # adam: L2 decay and amsgrad, as the papers' code
    lr: float = 1e-3  # peak
    final_lr: float = 1e-6
    warmup_epochs: float = 5.0
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
    momentum: float = 0.9  # sgd only
    weight_decay: float = 0.01  # on matrices only: no bias, no norm
    clip: float = 3.0  # largest norm of the gradient of all parameters together; 0 never clips

    def __post_init__(self):
        if self.lr <= 0 or not 0 <= self.final_lr <= self.lr:
            raise ValueError(f"lr must be above 0 and final_lr between 0 and lr, got {self.lr} and {self.final_lr}")
        if len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {self.betas}")
        for name in ("warmup_epochs", "weight_decay", "clip"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass
class TeacherConfig:
    """Momentum of the teacher: a cosine from ``momentum`` to ``final_momentum``.

    0.996 suits hundreds of thousands of steps; in a run of a thousand it leaves the teacher behind, and 0.98 is better.
    """

    momentum: float = 0.98
    final_momentum: float = 1.0

    def __post_init__(self):
        if not 0 <= self.momentum <= self.final_momentum <= 1:
            raise ValueError(f"momentum must rise from momentum to final_momentum in [0, 1], got {self.momentum} and {self.final_momentum}")


@dataclass
class DinoConfig:
    """A DINO run. ``encoder`` is a name and the options of that encoder (pydino/models).

    One epoch visits every utterance once; whatever is scheduled stretches over ``epochs``, which may be a fraction.
    """

    epochs: float = 50.0
    batch_size: int = 64  # utterances
    encoder: dict[str, Any] = field(default_factory=lambda: {"name": "tdnn"})
    head: HeadConfig = field(default_factory=lambda: HeadConfig(hidden_dim=512, bottleneck_dim=128, output_dim=1024))
    crops: CropConfig = field(default_factory=lambda: CropConfig(global_seconds=[2.0, 3.0], local_seconds=[0.8, 1.5]))
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    normalisation: NormalisationConfig = field(default_factory=lambda: NormalisationConfig(kind="mean"))
    loss: DinoLossConfig = field(default_factory=DinoLossConfig)
    koleo_weight: float = 0.0  # above 0 the method is called dino-koleo; 0.1 is worth much at small scale
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    freeze_last_layer_epochs: float = 1.0  # the prototypes stay put at first
    precision: Literal["fp32", "bf16"] = "fp32"  # of encoder and head; losses are float32. bf16 pays where the processor has it
    on_collapse: Literal["stop", "warn"] = "stop"
    checkpoint_steps: int = 500  # steps between checkpoints, besides one an epoch

    def __post_init__(self):
        self.encoder = resolve_encoder(self.encoder)
        for name in ("epochs", "batch_size", "checkpoint_steps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("koleo_weight", "freeze_last_layer_epochs"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: batch norm, the centre and KoLeo compare utterances")

    @property
    def method(self) -> str:
        """Name of the method in results."""
        return "dino-koleo" if self.koleo_weight else "dino"
