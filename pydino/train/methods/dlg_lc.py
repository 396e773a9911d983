"""DLG-LC: rounds on pseudo-labels with a dynamic loss gate and label correction.

Han, Chen and Qian 2022, "Self-supervised speaker verification using dynamic loss-gate and label correction"
(arXiv 2208.01928), as in the code of WeSpeaker's authors: utterances whose loss is large are left out, where
the gate is set again for every epoch, and later they take the label that the network itself would give them,
where it is sure. Labels and weights are frozen for an epoch (pydino/train/label_correction.py):

* the gate is where the two components of a mixture of Gaussians cross that is fitted to the logarithms of the
  cross-entropies of the epoch before, of augmented crops with the labels of their clusters
  (pydino/ssl/clean_probability.py);
* an utterance beyond it has weight 0, or, from ``corrected_epochs`` on, the label k of the largest
  softmax_k(cos(theta_k) / T) of the crop that is not augmented, if that is above ``confidence``.

The authors' code corrects within a step, and asserts that the densities cross once.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from pydino.base import check_at_least, check_fraction, check_positive
from pydino.data import Views
from pydino.ssl import fit_loss_mixture
from pydino.train.label_correction import (
    CLEAN,
    LabelCorrection,
    LabelCorrectionConfig,
    Records,
    log_loss,
)
from pydino.train.method import Setup, evaluating

ROLES = ("model",)
READS_LABELS = False
READS_CLUSTERS = True


@dataclass
class DlgLcConfig(LabelCorrectionConfig):
    """A run with a loss gate and label correction."""

    method: Literal["dlg-lc"] = "dlg-lc"
    ungated_epochs: int = 5  # in the first epochs all utterances count
    uncorrected_epochs: int = 8  # and in these none takes another label
    temperature: float = 0.1  # T of the softmax
    confidence: float = 0.5  # probability from which an answer replaces the label

    def __post_init__(self):
        super().__post_init__()
        check_at_least(self, 1, "ungated_epochs")
        check_positive(self, "temperature")
        check_fraction(self, "confidence")
        if self.uncorrected_epochs < self.ungated_epochs:
            raise ValueError(
                f"uncorrected_epochs ({self.uncorrected_epochs}) must not be fewer than ungated_epochs "
                f"({self.ungated_epochs}): only utterances that the gate rejects are corrected"
            )


class DlgLc(LabelCorrection):
    """A classifier that judges its own labels."""

    Config = DlgLcConfig
    roles = ROLES
    values_recorded = 3  # the log loss of the cluster, the network's answer, and its probability

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.first_recorded_epoch = self.config.ungated_epochs - 1

    def judge(
        self, places: torch.Tensor, views: Views, cosines: torch.Tensor, epoch: int
    ) -> list[torch.Tensor]:
        given = self.given[places]
        posteriors = self.log_posteriors(cosines, self.config.scale)
        losses = log_loss(posteriors, given.tile(len(cosines) // len(given)))
        losses = losses.unflatten(0, (-1, len(given))).mean(0)  # over the crops of an utterance
        if epoch < self.config.uncorrected_epochs - 1:
            return [losses, given, torch.zeros_like(losses)]
        with evaluating(self.student), self.precision():
            embeddings = self.student.encoder(views.group(CLEAN))
        posteriors = self.log_posteriors(self.student.output.cosines(embeddings), 1 / self.config.temperature)
        best = posteriors.max(1)
        return [losses, best.indices, best.values.exp()]

    def relabel(self, records: Records, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        config, labels = self.config, self.given.cpu().numpy().copy()
        if epoch < config.ungated_epochs:
            return labels, np.ones(len(labels))
        losses, answers, probabilities = records.values.T
        log_losses = self.log_losses.cpu().numpy().copy()
        log_losses[records.places] = losses
        self.log_losses.copy_(torch.from_numpy(log_losses))
        mixture = fit_loss_mixture(log_losses[np.isfinite(log_losses)])
        gate = mixture.gate if mixture is not None else np.inf
        rejected = log_losses > gate  # False where no loss is known
        weights = ~rejected
        if epoch >= config.uncorrected_epochs:
            sure = rejected[records.places] & (probabilities > config.confidence)
            labels[records.places[sure]] = answers[sure].astype(np.int64)
            weights[records.places[sure]] = True
        return labels, weights
