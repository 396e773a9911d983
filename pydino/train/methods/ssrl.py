"""SSRL: one round on pseudo-labels that follow a teacher. A student classifies the clusters of augmented
crops; a teacher, its moving average, sees longer ones that are not augmented, and its answers become the
labels.

Chen et al. 2024, "Self-supervised reflective learning through self-distillation and online clustering"
(arXiv 2401.01473). Labels and weights are frozen for an epoch (pydino/train/label_correction.py):

* the label of an utterance is the mode of the teacher's last answers about it, in a queue that starts with
  its cluster twice (pydino/ssl/label_queue.py);
* a cluster that no utterance has as its label any more is masked in both networks: their number falls until
  it has converged, and no number is given;
* the weight is the probability that the label is right, from a mixture of two Gaussians fitted to the
  logarithms of the teacher's cross-entropies (pydino/ssl/clean_probability.py).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from pydino.base import check_at_least, check_sizes
from pydino.data import Views
from pydino.ssl import NONE, fit_loss_mixture, mode_of_queue, new_queue, push, update_teacher
from pydino.train.label_correction import (
    CLEAN,
    LabelCorrection,
    LabelCorrectionConfig,
    Records,
    log_loss,
)
from pydino.train.method import Metrics, Setup
from pydino.train.methods.xvector import Classifier
from pydino.train.schedules import cosine

ROLES = ("teacher", "student")
READS_LABELS = False
READS_CLUSTERS = True


@dataclass
class SsrlConfig(LabelCorrectionConfig):
    """An SSRL run. The momentum of the teacher rises by a cosine; 0.999 to 0.9999 suits tens of thousands of
    steps.
    """

    method: Literal["ssrl"] = "ssrl"
    fixed_epochs: int = 3  # the labels are the clusters, and the weights equal, in the first epochs
    queue: int = 5  # answers of the teacher that the label is the mode of
    copies: int = 2  # of the cluster in the queue at first
    momentum: float = 0.98
    final_momentum: float = 0.999

    def __post_init__(self):
        super().__post_init__()
        check_at_least(self, 1, "fixed_epochs")
        check_sizes(self, "queue", most=1000)
        if not 0 <= self.copies <= self.queue:
            raise ValueError(f"copies must be between 0 and queue ({self.queue}), got {self.copies}")
        if not 0 <= self.momentum <= self.final_momentum <= 1:
            raise ValueError(
                f"momentum must rise from momentum to final_momentum in [0, 1], got {self.momentum} and "
                f"{self.final_momentum}"
            )


class Ssrl(LabelCorrection):
    """Student, teacher, and the queue of each utterance."""

    Config = SsrlConfig
    roles = ROLES
    # the teacher starts as a copy of the student, whose output layer is that of the clusters
    of_data = (*LabelCorrection.of_data, "queue", "teacher")
    values_recorded = 3  # the teacher's answer, the log loss of the label, and that of the answer

    def __init__(self, setup: Setup):
        super().__init__(setup)
        config = self.config
        self.first_recorded_epoch = config.fixed_epochs - 1
        teacher = Classifier(self.new_encoder(), self.labels.num_classes, config)
        self.teacher = self.prepared(teacher.to(self.distributed.device)).requires_grad_(False).eval()
        self.teacher.load_state_dict(self.student.state_dict())
        queue = torch.from_numpy(new_queue(self.given.cpu().numpy(), config.queue, config.copies))
        self.register_buffer("queue", queue.to(self.distributed.device))

    def before_first_step(self, embed) -> None:
        super().before_first_step(embed)
        self.teacher.load_state_dict(self.student.state_dict())

    def encoders(self) -> dict[str, nn.Module]:
        return {"teacher": self.teacher.encoder, "student": self.student.encoder}

    def judge(
        self, places: torch.Tensor, views: Views, cosines: torch.Tensor, epoch: int
    ) -> list[torch.Tensor]:
        with self.precision():
            embeddings = self.teacher.encoder(views.group(CLEAN))
        posteriors = self.log_posteriors(self.teacher.output.cosines(embeddings), self.config.scale)
        answers = posteriors.argmax(1)
        return [answers, log_loss(posteriors, self.present[places]), log_loss(posteriors, answers)]

    def relabel(self, records: Records, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        labels, places = self.present.cpu().numpy(), records.places
        if epoch < self.config.fixed_epochs:
            return labels, np.ones(len(labels))
        answers, of_label, of_answer = records.values.T
        queue, log_losses = (x.cpu().numpy().copy() for x in (self.queue, self.log_losses))
        push(queue, places, answers.astype(np.int64))
        changed = mode_of_queue(queue, labels)
        living = np.bincount(changed, minlength=self.labels.num_classes) > 0
        queue[(queue != NONE) & ~living[queue]] = NONE  # or they could come back
        log_losses[changed != labels] = np.nan  # unless the new label is what the teacher answered
        answered = changed[places] == answers
        of_new = np.where(answered, of_answer, of_label)
        known = answered | (changed == labels)[places]
        log_losses[places[known]] = of_new[known]
        for buffer, values in ((self.queue, queue), (self.living, living), (self.log_losses, log_losses)):
            buffer.copy_(torch.from_numpy(values))
        return changed, clean_probabilities(log_losses)

    def after_update(self, step: int) -> Metrics:
        """The teacher follows the student."""
        update_teacher(self.teacher, self.student, self.schedule(step)["momentum"], buffers=True)
        return {}

    def schedule(self, step: int) -> dict[str, float]:
        config = self.config
        momentum = cosine(step, self.total_steps, config.momentum, config.final_momentum)
        return {**super().schedule(step), "momentum": momentum}


def clean_probabilities(log_losses: np.ndarray) -> np.ndarray:
    """Return the probability that each label is right, (N,): 1 where no loss is known, and everywhere if the
    losses have no two modes.
    """
    known, probabilities = np.isfinite(log_losses), np.ones(len(log_losses))
    mixture = fit_loss_mixture(log_losses[known])
    if mixture is not None:
        probabilities[known] = mixture.clean_probability(log_losses[known])
    return probabilities
