"""MoCo: momentum contrast. The student's embedding of a crop (the query) has to find the teacher's embedding
of another crop of the utterance (the key) among the keys of earlier batches, which a queue keeps; the teacher
is an average of the student over time. The loss is InfoNCE (pydino/ssl/infonce.py), on the embedding itself
unless there is a projector.

He et al. 2020 (arXiv 1911.05722) for images; Ding et al. 2020 (arXiv 2001.01986) and Xia et al. 2021 (arXiv
2012.07178) for speakers. As there, the model is the student.

The batch norms of both networks have the statistics of the batch, over all processes. The authors normalise
over the share of a GPU and shuffle the utterances of the keys among GPUs: else a query and its key, but none
of the queue, would be normalised over the same few utterances, by which they could find each other. Over a
whole batch shuffling has no effect, and the statistics say less about one utterance, the larger the batch the
less.

A query is not compared with others of its batch: micro-batches add up to the batch, batch norm aside.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import nn

from pydino.base import check_fraction, check_positive, check_sizes
from pydino.data import Batch, CropConfig, ViewGroup, Views
from pydino.ssl import enqueue, infonce, make_teacher, random_queue, update_teacher
from pydino.train.config import TrainingConfig
from pydino.train.method import Method, Metrics, Setup
from pydino.train.methods.contrastive import Contrastive, Network
from pydino.train.monitors import MOMENTS, collapse_to_a_point, moments

ROLES = ("student", "teacher")
READS_LABELS = False
MOST_KEYS = 10_000_000


@dataclass
class MocoConfig(TrainingConfig):
    """A MoCo run: two crops of an utterance, of one length, the first for the student, the second for the
    teacher, augmented by ``teacher_augment`` and ``teacher_waveform``.

    A momentum of 0.999 suits hundreds of thousands of steps; in a run of a few hundred the teacher would stay
    near its random start. Likewise a queue of tens of thousands of keys suits a million utterances.
    """

    method: Literal["moco"] = "moco"
    crops: CropConfig = field(default_factory=lambda: CropConfig(num_local=0, global_seconds=[2.0, 3.0]))
    temperature: float = 0.1
    queue: int = 512  # keys of earlier batches; a batch at least
    momentum: float = 0.99  # of the teacher
    # a layer of as many units as the embedding, then one of this many, whose output the loss sees; 0: the
    # embedding itself
    projector_dim: int = 0

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "temperature")
        check_sizes(self, "queue", least=self.batch_size, most=MOST_KEYS)
        check_fraction(self, "momentum")
        check_sizes(self, "projector_dim", least=0)
        if (self.crops.num_global, self.crops.num_local) != (2, 0):
            raise ValueError("the loss takes two crops: set crops.num_global to 2 and crops.num_local to 0")

    @property
    def view_groups(self) -> list[ViewGroup]:
        (key,) = super().view_groups
        query = replace(key, number=1, augment=self.augment, waveform=self.waveform, seen_by="student")
        name = f"{query.name} of the teacher"
        return [query, replace(key, name=name, number=1, seen_by="teacher", as_long_as=query.name)]


class Moco(Method):
    """Student, teacher and queue."""

    Config = MocoConfig
    roles, reads_labels = ROLES, READS_LABELS
    describe = Contrastive.describe

    def __init__(self, setup: Setup):
        super().__init__(setup)
        config, device = self.config, self.distributed.device
        student = Network(self.new_encoder(), config.projector_dim).to(device)
        teacher = make_teacher(student)
        self.set_student(student)
        self.teacher = self.prepared(teacher)
        for module, follower in zip(self.student.modules(), self.teacher.modules(), strict=True):
            follower.training = module.training  # what is frozen in the student has fixed statistics in both
        queue = random_queue(config.queue, config.projector_dim or student.encoder.embedding_dim)
        self.register_buffer("queue", queue.to(device))
        self._keys: list[torch.Tensor] = []

    def encoders(self) -> dict[str, nn.Module]:
        return {"student": self.student.encoder, "teacher": self.teacher.encoder}

    def before_step(self, views) -> None:
        self._keys = []

    def loss(self, batch: Batch, views: Views, micro_step: int) -> tuple[torch.Tensor, Metrics]:
        """``accuracy`` is the share of the queries that are most similar to their own key."""
        with self.precision():
            with torch.no_grad():
                _, keys = self.teacher(views.teacher)
            embeddings, queries = self.network(views.student)
        self._keys.append(keys)
        loss, found = infonce(queries, keys, self.queue, self.config.temperature)
        metrics = {"loss": loss.detach(), "accuracy": found}
        return loss, {**metrics, MOMENTS: moments(embeddings.detach())}

    def after_update(self, step: int) -> Metrics:
        """Update the teacher, and put the keys of the step in front of the queue: those of the first
        micro-batch first, by process, which is the order of the batch however it is divided.
        """
        update_teacher(self.teacher, self.student, self.config.momentum)
        keys = [self.distributed.gather_rows(of_micro_batch.float()) for of_micro_batch in self._keys]
        enqueue(self.queue, torch.cat(keys))
        return {}

    def collapse_reason(self, means: dict[str, float]) -> str | None:
        return collapse_to_a_point(means, "lower optimiser.lr, or raise momentum or optimiser.warmup_epochs")
