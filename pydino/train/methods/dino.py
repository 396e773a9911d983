"""DINO: self-distillation with no labels. A student predicts, of every view, the output of its teacher for
another view of the same utterance; the teacher is an average of the student over time.

Caron et al. 2021 (arXiv 2104.14294) for images, Cho et al. 2022 (arXiv 2208.05445) for utterances; the loss
is pydino/ssl/dino.py. Optional terms: a cosine between embeddings (pydino/ssl/cosine.py), and those that
compare the utterances of the whole batch (_batch_terms.py). SDPN (arXiv 2308.02774), dimension regularisation
(arXiv 2505.13826) and RDINO (arXiv 2211.04168) are settings of these keys (docs/methods.md).

With ``positives: cluster`` the teacher sees another utterance of the cluster (--clusters; Han et al. 2023,
"Cluster-aware DINO", arXiv 2304.05754), drawn again at each visit, and the student predicts its outputs from
all views of its own. With ``positives: ssps`` the run finds the clusters itself, by the teacher's embeddings
(pydino/train/positive_sampling.py). With ``positives: osps`` teacher and student see the utterance, and the
teacher's head another one, of a memory of its embeddings (pydino/train/online_positives.py).
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Literal

import torch
from torch import nn

from pydino.base import check_not_negative
from pydino.data import (
    Batch,
    ViewGroup,
    Views,
    WaveformAugmentConfig,
    globals_for_the_teacher_alone,
    with_partners_for_the_teacher,
)
from pydino.models import DinoHead, HeadConfig, buffers_kept
from pydino.ssl import DinoLoss, DinoLossConfig, TeacherConfig, cosine_loss, make_teacher, update_teacher
from pydino.train.config import NOT_AUGMENTED
from pydino.train.method import Method, Metrics, ParameterGroup, Setup
from pydino.train.monitors import MOMENTS, collapse, moments
from pydino.train.online_positives import OnlinePositives
from pydino.train.positives_config import OnlinePositivesConfig, PositivesConfig
from pydino.train.schedules import cosine, ramp, teacher_temperature
from pydino.train.whole_batch import WholeBatch

from ._batch_terms import BatchTerms, Outputs, method_name

ROLES = ("teacher", "student")
READS_LABELS = False
READS_CLUSTERS = True  # with positives: cluster


@dataclass
class DinoConfig(PositivesConfig):
    """A DINO run."""

    method: Literal["dino"] = "dino"
    # besides those of PositivesConfig, osps: targets are of a memory of other utterances
    positives: Literal["own", "cluster", "ssps", "osps"] = "own"
    osps: OnlinePositivesConfig = field(default_factory=OnlinePositivesConfig)
    head: HeadConfig = field(
        default_factory=lambda: HeadConfig(hidden_dim=512, bottleneck_dim=128, output_dim=1024)
    )
    loss: DinoLossConfig = field(default_factory=DinoLossConfig)
    # Weights of terms that compare the utterances of the whole batch; results name those above 0: dino-koleo
    koleo_weight: float = 0.0  # 0.1 is worth much at small scale
    koleo_views: Literal["global", "all"] = "global"  # of the student, whose KoLeo terms are added up
    mean_entropy_weight: float = 0.0  # of ln K - H(mean output of the student)
    dimension_weight: float = 0.0  # of correlations between dimensions of the bottleneck; 0.01 to 1
    variance_weight: float = 0.0  # of too little variance of the bottleneck's dimensions
    covariance_weight: float = 0.0  # of covariances between them
    variance_ramp_epochs: float = 0.0  # variance_weight and covariance_weight rise from 0 over this many
    # of 1 - cosine between the embeddings of teacher and student, over the pairs of the loss
    cosine_weight: float = 0.0
    cosine_ramp_epochs: float = 20.0  # its weight rises from 0 over this many
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    freeze_last_layer_epochs: float = 1.0  # the prototypes are frozen at first
    freeze_last_layer_steps: int = 0  # above 0: instead of freeze_last_layer_epochs
    # clean: global views are not augmented, speed_factors aside (in place of teacher_augment and
    # teacher_waveform); with student_sees: all the student sees them as well
    teacher_sees: Literal["augmented", "clean"] = "augmented"
    student_sees: Literal["all", "locals"] = "all"  # locals: the global views are the teacher's alone

    def __post_init__(self):
        if self.teacher_sees == "clean":
            self._set_clean_teacher()
        super().__post_init__()
        self.check_search("osps", self.osps, OnlinePositivesConfig())
        if self.student_sees == "locals" and not self.crops.num_local:
            raise ValueError("student_sees: locals needs local crops: set crops.num_local above 0")
        if self.crops.num_global < 2 and self.same_views:
            raise ValueError(
                "crops.num_global must be at least 2 (the student predicts another view than its own), got "
                f"{self.crops.num_global}; 1 is enough with student_sees: locals"
            )
        if self.koleo_weight and self.koleo_views == "global" and self.student_sees == "locals":
            raise ValueError("student_sees: locals leaves koleo_views: global no view; set koleo_views: all")
        check_not_negative(
            self,
            "koleo_weight",
            "mean_entropy_weight",
            "dimension_weight",
            "variance_weight",
            "covariance_weight",
            "variance_ramp_epochs",
            "cosine_weight",
            "cosine_ramp_epochs",
            "freeze_last_layer_epochs",
            "freeze_last_layer_steps",
        )

    def _set_clean_teacher(self) -> None:
        clean = {"teacher_augment": NOT_AUGMENTED, "teacher_waveform": WaveformAugmentConfig()}
        for name, config in clean.items():
            if getattr(self, name) not in ({}, asdict(config)):
                raise ValueError(
                    f"teacher_sees: clean leaves {name} nothing to change; remove one of the two"
                )
            setattr(self, name, asdict(config))

    @property
    def view_groups(self) -> list[ViewGroup]:
        groups = super().view_groups
        if self.of_others:
            groups = with_partners_for_the_teacher(groups)
        return globals_for_the_teacher_alone(groups) if self.student_sees == "locals" else groups

    @property
    def same_views(self) -> bool:
        """Whether the global views that the student sees are those of the teacher."""
        return self.student_sees == "all" and not self.of_others

    @property
    def name(self) -> str:
        """Name of the method in results (:func:`method_name`)."""
        return method_name(self)


class Network(nn.Module):
    """Encoder and head: the student, and its teacher."""

    def __init__(self, encoder: nn.Module, head: HeadConfig):
        super().__init__()
        self.encoder = encoder
        self.head = DinoHead(head, encoder.embedding_dim)

    def forward(self, views: list[torch.Tensor]) -> Outputs:
        """Return the outputs, views first, of tensors (n, T, F), one a length; the head runs once for all."""
        return self.of_embeddings(torch.cat([self.encoder(view) for view in views]))

    def of_embeddings(self, embeddings: torch.Tensor) -> Outputs:
        """Return the outputs of embeddings (N, D)."""
        bottleneck = self.head.bottleneck(embeddings)
        return Outputs(embeddings, bottleneck, self.head.outputs(bottleneck))


class Dino(Method):
    """Student, teacher and centre."""

    Config = DinoConfig
    roles, reads_labels, reads_clusters = ROLES, READS_LABELS, READS_CLUSTERS

    def __init__(self, setup: Setup):
        super().__init__(setup)
        config = self.config
        self.frozen_steps = config.freeze_last_layer_steps or round(
            config.freeze_last_layer_epochs * self.steps_per_epoch
        )
        student = Network(self.new_encoder(), config.head).to(self.distributed.device)
        teacher = make_teacher(student)
        if config.head.shared_prototypes:  # averaged with themselves they stay what they are
            teacher.head.prototypes = student.head.prototypes
        self.set_student(student)
        self.teacher = self.prepared(teacher)
        for module, follower in zip(self.student.modules(), self.teacher.modules(), strict=True):
            follower.training = module.training  # what is frozen in the student has fixed statistics in both
        self.criterion = DinoLoss(config.loss, config.head.output_dim).to(self.distributed.device)
        self.online_positives = None
        if config.positives == "osps":
            self.online_positives = OnlinePositives(setup, student.encoder.embedding_dim)
        self._terms, self._whole_batch = BatchTerms(config), WholeBatch(self.distributed)
        self._teacher_means: torch.Tensor | None = None
        self._taught: list[tuple[Outputs, torch.Tensor | None]] = []

    def parameter_groups(self) -> list[ParameterGroup]:
        """Shared prototypes have no weight decay."""
        groups = super().parameter_groups()
        if self.config.head.shared_prototypes:
            prototypes = self.student.head.prototypes
            for group in groups:
                group.parameters = [p for p in group.parameters if p is not prototypes]
            groups.append(ParameterGroup([prototypes], weight_decay=0.0))
        return groups

    def encoders(self) -> dict[str, nn.Module]:
        return {"teacher": self.teacher.encoder, "student": self.student.encoder}

    def before_step(self, views: Iterable[Views]) -> None:
        """Terms that compare all utterances of a step need the outputs of its micro-batches beforehand, where
        there are several.
        """
        self._teacher_means, self._taught = None, []
        self._whole_batch.clear()
        sinkhorn = self.config.loss.target == "sinkhorn"
        if self.micro_batches == 1 or not (self._terms or sinkhorn):
            return
        taught, step = [], 0
        for of_micro_batch in views:
            step = of_micro_batch.batch.step
            if self._terms:
                with torch.no_grad(), self.precision(), buffers_kept(self.student):
                    outputs = self._terms.outputs_ahead(self.student, of_micro_batch.student)
                self._whole_batch.add(self._terms.rows(outputs.of_batch(of_micro_batch.size)))
            if sinkhorn:
                taught.append(self._teach(of_micro_batch))
        self._taught = self._with_targets(taught, step)

    def loss(self, batch: Batch, views: Views, micro_step: int) -> tuple[torch.Tensor, Metrics]:
        config, size, share = self.config, len(batch.hashes), 1 / self.micro_batches
        ahead = self._taught[micro_step : micro_step + 1]
        ((taught, targets),) = ahead or self._with_targets([self._teach(views)], batch.step)
        with self.precision():
            outputs = self.network(views.student).of_batch(size)
        temperature = self._temperature(batch.step)
        loss, metrics, means = self.criterion(
            outputs.logits, taught.logits, config.same_views, targets, temperature
        )
        self._teacher_means = (
            means * share if self._teacher_means is None else self._teacher_means + means * share
        )
        metrics = {"dino_loss": loss.detach(), **metrics}
        if self.online_positives is not None:
            metrics["from_memory"] = self.online_positives.share(micro_step)
        if config.cosine_weight:
            term = cosine_loss(outputs.embeddings, taught.embeddings, config.same_views)
            loss = loss + self.schedule(batch.step)["cosine_weight"] * term
            metrics["cosine_loss"] = term.detach()
        if self._terms:
            rows = self._whole_batch.complete(self._terms.rows(outputs), micro_step)
            terms, logged = self._terms.values(rows, batch.step, self.steps_per_epoch)
            for weight, term in terms:
                loss = loss + weight * self.of_whole_batch(term)
            metrics |= logged
        return loss, {"loss": loss.detach(), **metrics, MOMENTS: moments(outputs.embeddings[0].detach())}

    def _teach(self, views: Views) -> Outputs:
        with torch.no_grad(), self.precision():
            if self.online_positives is None:
                return self.teacher(views.teacher).of_batch(views.size)
            embeddings = torch.cat([self.teacher.encoder(view) for view in views.teacher])
            targets = self.online_positives.targets(embeddings.unflatten(0, (-1, views.size)), views.batch)
            return self.teacher.of_embeddings(targets.flatten(0, 1)).of_batch(views.size)

    def _with_targets(self, taught: list[Outputs], step: int) -> list[tuple[Outputs, torch.Tensor | None]]:
        """Return the teacher's outputs for the micro-batches of a step, each with its targets over the whole
        batch, (G, b, K); None: those that :class:`DinoLoss` computes itself.
        """
        targets = [None] * len(taught)
        if self.config.loss.target == "sinkhorn":
            logits = torch.stack([outputs.logits for outputs in taught])
            targets = self.criterion.sinkhorn_targets(
                logits, self.distributed.add_up, self._temperature(step)
            )
        return list(zip(taught, targets, strict=True))

    def _temperature(self, step: int) -> float:
        return teacher_temperature(step, self.steps_per_epoch, self.config.loss)

    def before_update(self, step: int) -> None:
        """The prototypes are frozen at first."""
        if step < self.frozen_steps:
            self.student.head.prototypes.grad = None

    def after_update(self, step: int) -> Metrics:
        """Update the teacher, then the centre."""
        if self.online_positives is not None:
            self.online_positives.end_step()
        update_teacher(self.teacher, self.student, self.schedule(step)["momentum"])
        return self.criterion.update_centre(self.distributed.mean(self._teacher_means))

    def evaluate(self, epoch: float, last: bool) -> tuple[dict[str, float], bool]:
        online = self.online_positives
        return (online.end_epoch(int(epoch)) if online is not None and epoch else {}), last

    def collapse_reason(self, means: dict[str, float]) -> str | None:
        return collapse(means, self.config.head.output_dim)

    def schedule(self, step: int) -> dict[str, float]:
        teacher, config = self.config.teacher, self.config
        values = {
            "momentum": cosine(
                step, teacher.momentum_steps or self.total_steps, teacher.momentum, teacher.final_momentum
            )
        }
        if config.loss.teacher_temperature_epochs:
            values["teacher_temperature"] = self._temperature(step)
        if config.cosine_weight:
            values["cosine_weight"] = ramp(
                step, config.cosine_ramp_epochs * self.steps_per_epoch, config.cosine_weight
            )
        return values

    def describe(self, means: dict[str, float]) -> str:
        parts = self._terms.describe(means)
        if "cosine_loss" in means:
            parts += f", cosine_loss {means['cosine_loss']:.2f}"
        if "from_memory" in means:
            parts += f", {100 * means['from_memory']:.0f} % of the targets from memory"
        return (
            f"loss {means['loss']:.3f} (dino {means['dino_loss']:.3f}{parts}), entropy of teacher "
            f"{means['teacher_entropy']:.2f}, student {means['student_entropy']:.2f}, mean teacher "
            f"{means['mean_teacher_entropy']:.2f}, KL {means['kl']:.2f}, "
            f"spread {means['embedding_spread']:.3f}"
        )
