"""Training on pseudo-labels that are corrected on the way: what the methods ``ssrl`` and ``dlg-lc`` share.

An encoder is trained to classify the clusters of its utterances with an additive angular margin
(pydino/models/margin.py). Each utterance i has a present label y_i and a weight w_i, whose mean over all
utterances is 1; the loss of a batch of B is

    L = 1/B sum_b w_b CE(s cos(theta_b + margin at y_b), y_b).

The papers divide by the sum of the weights of a batch instead. Their mean over all utterances in its place
makes the loss a mean over utterances, so that it is the same however a batch is divided into micro-batches
and processes.

Labels and weights choose what is learnt, so they are frozen for an epoch: they are buffers, computed after
the step that completes an epoch from what was recorded in its steps, and a step is a pure function of the
weights and its number. The records are buffers too: a run that is killed inside an epoch resumes exactly.
Every process has the records of all, and computes the same.
"""

import math
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pydino.audio.augment import AugmentConfig
from pydino.base import check_not_negative, check_positive
from pydino.data import Batch, CropConfig, ViewGroup, Views, WaveformAugmentConfig
from pydino.models import AamSoftmax
from pydino.ssl import SMALLEST_LOSS

from .centroids import centroids
from .config import TrainingConfig
from .method import Method, Metrics, ParameterGroup, Setup
from .monitors import MOMENTS, moments
from .schedules import ramp

CLEAN = "clean"  # name of the view that labels are judged by
PLAIN = AugmentConfig(
    reverberation_probability=0.0,
    gain_db=0.0,
    equaliser_db=0.0,
    noise_probability=0.0,
    babble_probability=0.0,
    time_mask_frames=0,
    frequency_mask_bands=0,
)


@dataclass
class LabelCorrectionConfig(TrainingConfig):
    """A run on clusters. Every augmented crop of an utterance is classified by itself; a longer one, not
    augmented, tells what its label should be.
    """

    crops: CropConfig = field(
        default_factory=lambda: CropConfig(num_global=1, num_local=0, global_seconds=[2.0, 3.0])
    )
    clean_seconds: list[float] = field(default_factory=lambda: [3.5, 4.5])  # [shortest, longest]
    scale: float = 30.0  # of the cosines: the inverse of the softmax's temperature
    margin: float = 0.2  # radians by which the angle to the label's class must be smaller
    margin_warmup_epochs: float = 5.0  # the margin rises from 0 over this many
    output_lr_scale: float = 1.0  # factor of the learning rate of the output layer
    min_utterances: int = 2  # smaller clusters are left out of training

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "scale", "output_lr_scale", "min_utterances")
        check_not_negative(self, "margin_warmup_epochs")
        if not 0 <= self.margin < math.pi / 2:
            raise ValueError(f"margin must be in [0, pi/2) radians, got {self.margin}")
        if len(self.clean_seconds) != 2 or not 0 < self.clean_seconds[0] <= self.clean_seconds[1]:
            raise ValueError(
                f"clean_seconds must be [shortest, longest] in seconds, got {self.clean_seconds}"
            )
        for name, (here, teacher) in (("augment", self.augment_pair), ("waveform", self.waveform_pair)):
            if teacher != here:
                raise ValueError(
                    f"teacher_{name} has no effect: labels are judged by a crop that is not augmented; set "
                    f"{name} instead"
                )

    @property
    def needs_clusters(self) -> bool:
        return True

    @property
    def view_groups(self) -> list[ViewGroup]:
        clean = (CLEAN, 1, tuple(self.clean_seconds), PLAIN, WaveformAugmentConfig(), "teacher")
        return [*super().view_groups, ViewGroup(*clean)]

    @property
    def longest_seconds(self) -> float:
        return max(super().longest_seconds, self.clean_seconds[1])


class Classifier(nn.Module):
    """Encoder and output layer."""

    def __init__(self, encoder: nn.Module, num_classes: int, scale: float, margin: float):
        super().__init__()
        self.encoder = encoder
        self.output = AamSoftmax(encoder.embedding_dim, num_classes, scale, margin)

    def forward(
        self, views: list[torch.Tensor], labels: torch.Tensor, margin: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (N, D) and logits (N, K) of tensors (n, T, F), one a length, and their labels
        (N,).
        """
        embeddings = torch.cat([self.encoder(view) for view in views])
        return embeddings, self.output(embeddings, labels, margin)


@dataclass(frozen=True)
class Records:
    """What the steps of an epoch recorded, in the order of the utterances in them.

    Attributes:
        places: (M,) int64, the utterances, in the order of their hashes; one may come several times.
        values: (M, C) float64.
    """

    places: np.ndarray
    values: np.ndarray


class LabelCorrection(Method):
    """Encoder and output layer, labels and weights of this epoch, and what it has recorded so far.

    Attributes:
        given: (N,) int64, the number of each utterance's cluster.
        labels, weights: (N,) int64 and float32, of this epoch, by utterance in the order of their hashes.
        living: (K,) bool, the classes that may be answered.
        log_losses: (N,) float64, of each utterance when it was last recorded; NaN: never.
    """

    reads_clusters = True
    values_recorded: int  # C
    first_recorded_epoch: int  # epochs before it are not recorded

    def __init__(self, setup: Setup):
        super().__init__(setup)
        config, device = self.config, self.distributed.device
        self.hashes = setup.labels.hashes
        given = torch.from_numpy(setup.labels.classes).to(device)
        self.num_classes = setup.labels.num_classes
        count, batch = len(self.hashes), config.batch_size
        self.register_buffer("given", given, persistent=False)
        self.register_buffer("labels", given.clone())
        self.register_buffer("weights", torch.ones(count, device=device))
        self.register_buffer("living", torch.ones(self.num_classes, dtype=torch.bool, device=device))
        unknown = torch.full((count,), math.nan, dtype=torch.float64, device=device)
        self.register_buffer("log_losses", unknown)
        self._rows = (math.ceil(self.steps_per_epoch) + 1) * batch  # an epoch has no more steps than this
        columns = 2 + self.values_recorded  # place, step, values
        self.register_buffer(
            "records", torch.full((self._rows, columns), -1.0, dtype=torch.float64, device=device)
        )
        self.set_student(Classifier(self.new_encoder(), self.num_classes, config.scale, config.margin))

    # For a subclass

    def judge(
        self, places: torch.Tensor, views: Views, cosines: torch.Tensor, epoch: int
    ) -> list[torch.Tensor]:
        """Return the C values to record of each utterance of a micro-batch, each (B,).

        Args:
            places: (B,) of the utterances in the buffers.
            views: of them.
            cosines: (V B, K) between the student's embeddings of the augmented crops and the classes.
            epoch: number of the epoch, from 0.
        """
        raise NotImplementedError

    def relabel(self, records: Records, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return labels (N,) and weights (N,), of any mean, for an epoch.

        Args:
            records: of the epoch before it.
            epoch: its number, from 0.
        """
        raise NotImplementedError

    # What the loop calls

    def parameter_groups(self) -> list[ParameterGroup]:
        (whole,) = super().parameter_groups()
        output = {id(p) for p in self.student.output.parameters()}
        encoder = [p for p in whole.parameters if id(p) not in output]
        scaled = ParameterGroup(list(self.student.output.parameters()), self.config.output_lr_scale)
        return [ParameterGroup(encoder), scaled] if encoder else [scaled]

    def before_first_step(self, embed: Callable[[nn.Module], torch.Tensor]) -> None:
        """The classes start as the centroids of their clusters."""
        starts = centroids(self.student.encoder, embed, self.given.cpu(), self.num_classes)
        self.student.output.weight.data.copy_(starts)

    @property
    def max_effective_rank(self) -> int:
        """Classes take one direction less than there are of them."""
        return min(super().max_effective_rank, self.num_classes - 1)

    def loss(self, batch: Batch, views: Views, micro_step: int) -> tuple[torch.Tensor, Metrics]:
        """The mean over crops of weight times cross-entropy. ``accuracy`` is the share of the crops, each
        with its weight, that the output layer assigns to the present label, without a margin.
        """
        places = torch.from_numpy(np.searchsorted(self.hashes, batch.hashes))
        places = places.to(self.distributed.device, non_blocking=True)
        labels, weights = self.labels[places], self.weights[places]
        number, size = sum(len(x) for x in views.student) // len(places), len(places)
        wanted, shares = labels.tile(number), weights.tile(number)
        with self.precision():
            embeddings, logits = self.network(views.student, wanted, self.schedule(batch.step)["margin"])
        logits = logits.masked_fill(~self.living, -math.inf)
        losses = F.cross_entropy(logits, wanted, reduction="none")
        loss = (shares * losses).mean()
        with torch.no_grad():
            cosines, epoch = self.student.output.cosines(embeddings), int(batch.step / self.steps_per_epoch)
            right = cosines.masked_fill(~self.living, -math.inf).argmax(1) == wanted
            if epoch >= self.first_recorded_epoch:
                self._record(batch.step, micro_step, places, self.judge(places, views, cosines, epoch))
        return loss, {
            "loss": loss.detach(),
            "accuracy": (shares * right).mean(),
            MOMENTS: moments(embeddings[:size].detach()),  # one crop of each utterance
        }

    def evaluate(self, epoch: float, last: bool) -> tuple[dict[str, float], bool]:
        """After an epoch, correct the labels.

        Returns:
            ``classes``: how many labels there are now; ``relabelled``: share of the utterances whose label
            differs from that of the epoch before; ``off_cluster``: from its cluster's; ``trusted``: mean
            weight, where 1 is the largest; and that the training goes on.
        """
        if epoch == 0:
            return {}, last
        kept = self.records.cpu().numpy()
        kept = kept[kept[:, 0] >= 0]
        kept = kept[np.argsort(kept[:, 1], kind="stable")]  # rows of a step are in order
        before = self.labels.cpu().numpy().copy()
        labels, weights = self.relabel(Records(kept[:, 0].astype(np.int64), kept[:, 2:]), int(epoch))
        self.labels.copy_(torch.from_numpy(labels))
        self.weights.copy_(normalised(weights))
        self.records.fill_(-1)
        figures = {
            "classes": float(len(np.unique(labels[weights > 0]))),
            "relabelled": float((labels != before).mean()),
            "off_cluster": float((labels != self.given.cpu().numpy()).mean()),
            "trusted": float(weights.mean()),
        }
        return figures, last

    def schedule(self, step: int) -> dict[str, float]:
        return {
            "margin": ramp(step, self.config.margin_warmup_epochs * self.steps_per_epoch, self.config.margin)
        }

    def collapse_reason(self, means: dict[str, float]) -> str | None:
        if means.get("classes", 2) < 2:  # known where an epoch ends
            return (
                "all utterances have one label now; lower optimiser.lr, let labels be fixed for more epochs, "
                "or begin with better clusters"
            )
        if means["embedding_spread"] >= 0.01:
            return None
        return (
            "collapse to a point: nearly every utterance gets the same embedding (spread "
            f"{means['embedding_spread']:.3f}); lower optimiser.lr, or raise margin_warmup_epochs"
        )

    def describe(self, means: dict[str, float]) -> str:
        return (
            f"loss {means['loss']:.3f}, accuracy {100 * means['accuracy']:.1f} %, spread "
            f"{means['embedding_spread']:.3f}"
        )

    # For a subclass to use

    def log_posteriors(self, cosines: torch.Tensor, scale: float) -> torch.Tensor:
        """Return the logarithm of softmax(scale cosines) over the living classes, (B, K)."""
        return F.log_softmax((scale * cosines).masked_fill(~self.living, -math.inf), dim=1)

    def _record(self, step: int, micro_step: int, places: torch.Tensor, values: list[torch.Tensor]) -> None:
        """Keep what is known of the utterances of this micro-batch, of all processes."""
        columns = [places, places.new_full(places.shape, step), *values]
        rows = self.distributed.gather_rows(torch.stack([column.double() for column in columns], dim=1))
        first = step * self.config.batch_size % self._rows + micro_step * len(rows)
        self.records[first : first + len(rows)] = rows


def normalised(weights: np.ndarray) -> torch.Tensor:
    """Return weights (N,) with mean 1, float32."""
    weights = weights.astype(np.float64)
    return torch.from_numpy(weights / weights.mean()).float()


def log_loss(log_posteriors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the cross-entropy of log posteriors (B, K) with labels (B,), (B,) float32."""
    return F.nll_loss(log_posteriors, labels, reduction="none").clamp_min(SMALLEST_LOSS).log()


@contextmanager
def evaluating(network: nn.Module):
    """The network in evaluation mode; afterwards every module is in the mode that it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
