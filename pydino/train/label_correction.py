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
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from pydino.data import Batch, ViewGroup, Views, WaveformAugmentConfig, check_crop_seconds
from pydino.ssl import SMALLEST_LOSS

from .config import NOT_AUGMENTED
from .method import Metrics, Setup
from .methods.xvector import Xvector, XvectorConfig
from .monitors import MOMENTS, moments

CLEAN = "clean"  # name of the view that labels are judged by


@dataclass
class LabelCorrectionConfig(XvectorConfig):
    """A run on clusters. Every augmented crop of an utterance is classified by itself; a longer one, not
    augmented, tells what its label should be.
    """

    margin: float = 0.2
    margin_warmup_epochs: float = 5.0
    start_from_centroids: bool = True
    clean_seconds: list[float] = field(default_factory=lambda: [3.5, 4.5])  # [shortest, longest]

    def __post_init__(self):
        super().__post_init__()
        check_crop_seconds("clean_seconds", self.clean_seconds)

    @property
    def needs_clusters(self) -> bool:
        return True

    @property
    def view_groups(self) -> list[ViewGroup]:
        clean = (CLEAN, 1, tuple(self.clean_seconds), NOT_AUGMENTED, WaveformAugmentConfig(), "teacher")
        return [*super().view_groups, ViewGroup(*clean)]

    @property
    def longest_seconds(self) -> float:
        return max(super().longest_seconds, self.clean_seconds[1])


@dataclass(frozen=True)
class Records:
    """What the steps of an epoch recorded, in the order of the utterances in them.

    Attributes:
        places: (M,) int64, the utterances, in the order of their hashes; one may come several times.
        values: (M, C) float64.
    """

    places: np.ndarray
    values: np.ndarray


class LabelCorrection(Xvector):
    """Encoder and output layer, labels and weights of this epoch, and what it has recorded so far.

    Attributes:
        given: (N,) int64, the number of each utterance's cluster.
        present, weights: (N,) int64 and float32, labels and weights of this epoch; utterances are in the
            order of their hashes.
        living: (K,) bool, the classes that may be answered.
        log_losses: (N,) float64, of each utterance when it was last recorded; NaN: never.
    """

    reads_labels, reads_clusters = False, True
    of_data = (*Xvector.of_data, "present", "weights", "living", "log_losses", "records")
    values_recorded: int  # C
    first_recorded_epoch: int  # epochs before it are not recorded

    def __init__(self, setup: Setup):
        super().__init__(setup)
        device, count, batch = self.distributed.device, len(self.labels.hashes), self.config.batch_size
        given = torch.from_numpy(self.labels.classes).to(device)
        self.register_buffer("given", given, persistent=False)
        self.register_buffer("present", given.clone())
        self.register_buffer("weights", torch.ones(count, device=device))
        self.register_buffer("living", torch.ones(self.labels.num_classes, dtype=torch.bool, device=device))
        unknown = torch.full((count,), math.nan, dtype=torch.float64, device=device)
        self.register_buffer("log_losses", unknown)
        self._rows = (math.ceil(self.steps_per_epoch) + 1) * batch  # an epoch has no more steps than this
        columns = 2 + self.values_recorded  # place, step, values
        self.register_buffer(
            "records", torch.full((self._rows, columns), -1.0, dtype=torch.float64, device=device)
        )

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

    def loss(self, batch: Batch, views: Views, micro_step: int) -> tuple[torch.Tensor, Metrics]:
        """The mean over crops of weight times cross-entropy. ``accuracy`` is the share of the crops, each
        with its weight, that the output layer assigns to the present label, without a margin.
        """
        places = torch.from_numpy(np.searchsorted(self.labels.hashes, batch.hashes))
        places = places.to(self.distributed.device, non_blocking=True)
        labels, weights = self.present[places], self.weights[places]
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
        before = self.present.cpu().numpy().copy()
        labels, weights = self.relabel(Records(kept[:, 0].astype(np.int64), kept[:, 2:]), int(epoch))
        self.present.copy_(torch.from_numpy(labels))
        self.weights.copy_(normalised(weights))
        self.records.fill_(-1)
        figures = {
            "classes": float(len(np.unique(labels[weights > 0]))),
            "relabelled": float((labels != before).mean()),
            "off_cluster": float((labels != self.given.cpu().numpy()).mean()),
            "trusted": float(weights.mean()),
        }
        return figures, last

    def collapse_reason(self, means: dict[str, float]) -> str | None:
        if means.get("classes", 2) < 2:  # known where an epoch ends
            return (
                "all utterances have one label now; lower optimiser.lr, let labels be fixed for more epochs, "
                "or begin with better clusters"
            )
        return super().collapse_reason(means)

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
