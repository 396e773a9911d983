"""A classifier for a task: an encoder, learnt elsewhere or random, and a head on its embedding, trained on
the labels of the task. ``steps/finetune.sh`` trains one a fold.

"First the affine layers, then the whole network" is two runs, the second from the first's encoder and head.
The head starts from the probe, the solved logistic or ridge regression on the frozen encoder: from a random
head, the first gradients would destroy what the encoder knows (Kumar et al. 2022, arXiv 2202.10054).

The weights that are kept are those of the epoch that is best on the development part of the fold, where the
start counts as epoch 0: a run cannot end worse there than it began.
"""

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pydino.base import UserError, warn
from pydino.data import Batch, Views
from pydino.models import ClassifierHead
from pydino.train.averaging import weighted_mean
from pydino.train.method import Method, Metrics, ParameterGroup, Setup
from pydino.train.monitors import MOMENTS, moments
from pydino.train.parameter_groups import grouped
from pydino.train.supervision import balanced_loss, class_weights, unweighted_average_recall
from pydino.train.tuning_config import HEAD, TuningConfig

ROLES = ("model",)
READS_LABELS = True
_ENOUGH_FOR_STATISTICS = 5000  # utterances; with fewer, running statistics of another corpus are better


class TunedNetwork(nn.Module):
    """Encoder and head."""

    def __init__(self, encoder: nn.Module, head: ClassifierHead):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(
        self,
        views: list[torch.Tensor],
        frames: list[torch.Tensor | None],
        statistics: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (N, D) and outputs (N, K) of tensors (n, T, F), one a length, their valid frames
        (n,), and the vectors (N, S) beside the embedding.
        """
        embeddings = torch.cat([self.encoder(*both) for both in zip(views, frames, strict=True)])
        with torch.autocast(embeddings.device.type, enabled=False):
            x = embeddings.float()
            return embeddings, self.head(x if statistics is None else torch.cat([x, statistics], dim=1))


class TaskClassifier(Method):
    """Encoder, head, the best weights so far, and how long ago they were found."""

    Config = TuningConfig
    roles, reads_labels, of_task = ROLES, READS_LABELS, True

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.task, config = setup.supervision, self.config
        # Numbers are trained in standard deviations from their mean; what is saved has their unit.
        self.mean, self.deviation, weights = 0.0, 1.0, np.ones(self.task.num_outputs)
        if self.task.kind == "number":
            self.mean, self.deviation = float(self.task.targets.mean()), float(self.task.targets.std()) or 1.0
        elif config.class_weights == "balanced":
            weights = class_weights(self.task.targets, self.task.num_outputs)
        self._keep("statistics", self.task.statistics, torch.float32)
        self._keep("weights", weights, torch.float32)
        numbers = self.task.kind == "number"
        targets = (self.task.targets - self.mean) / self.deviation if numbers else self.task.targets
        self._keep("targets", targets, torch.float32 if numbers else torch.int64)
        encoder = self.new_encoder()
        network = TunedNetwork(encoder, self._new_head(encoder.embedding_dim)).to(self.distributed.device)
        # Copies before the network is prepared for training, possibly compiled.
        self.best = copy.deepcopy(network).requires_grad_(False).eval()
        self.start = copy.deepcopy(self.best) if config.average_with_start else None
        self._judged = (copy.deepcopy(self.best),)  # in a tuple: no state of the run
        self.set_student(network)
        if config.batch_norm == "eval" or (
            config.batch_norm == "auto" and len(self.task.hashes) < _ENOUGH_FOR_STATISTICS
        ):
            for module in self.student.encoder.modules():
                if isinstance(module, _BatchNorm):  # synchronised ones too
                    module.eval()
        # The best figure, the lower the better; the epoch it is of; epochs since; whether the training has
        # ended; the figure of the start; the share of the start in the weights that are kept.
        course = torch.tensor([math.inf, 0.0, 0.0, 0.0, math.inf, 0.0], dtype=torch.float64)
        self.register_buffer("course", course.to(self.distributed.device))
        self._diverged = False  # not in the state: what has diverged is not saved, and diverges again

    def _keep(self, name: str, array: np.ndarray | None, kind: torch.dtype) -> None:
        """Hold an array on the device; it is no state of the run."""
        device = self.distributed.device
        tensor = None if array is None else torch.as_tensor(array).to(device, kind)
        self.register_buffer(name, tensor, persistent=False)

    def _new_head(self, embedding_dim: int) -> ClassifierHead:
        beside = 0 if self.statistics is None else self.statistics.shape[1]
        head = ClassifierHead(embedding_dim + beside, self.task.num_outputs, self.config.hidden)
        given, last = dict(self.task.head or {}), self._output_layer
        if f"{last}.weight" in given and self.task.kind == "number":
            given[f"{last}.weight"] = given[f"{last}.weight"] / self.deviation
            given[f"{last}.bias"] = (given[f"{last}.bias"] - self.mean) / self.deviation
        missing, unknown = head.load_state_dict(given, strict=False)
        if unknown or (missing and any(name.startswith("layers") for name in given)):
            raise UserError(
                f"the head to start from has not the layers of this configuration (hidden: "
                f"{self.config.hidden}); give all trainings of a task the same 'hidden'"
            )
        return head

    def parameter_groups(self) -> list[ParameterGroup]:
        """The parts of the encoder that are trained, and the head, each with its learning rate."""
        trainable, scales = self.config.trainable, self.config.lr_scales
        parts = {
            name: list(part.parameters())
            for name, part in self.student.encoder.parts().items()
            if trainable == "all" or name in trainable
        }
        parts[HEAD] = list(self.student.head.parameters())
        encoder = self.student.encoder
        return [
            group for name, found in parts.items() for group in grouped(encoder, found, scales.get(name, 1.0))
        ]

    @property
    def has_ended(self) -> bool:
        return bool(self.course[3])

    @property
    def max_effective_rank(self) -> int:
        """The embedding may come down to the few directions that the outputs need."""
        return min(super().max_effective_rank, max(1, self.task.num_outputs - 1))

    def loss(self, batch: Batch, views: Views, micro_step: int) -> tuple[torch.Tensor, Metrics]:
        """The mean over crops of the cross-entropy, each times the weight of its class, or of the squared
        error in standard deviations of the numbers.
        """
        places = torch.from_numpy(self.task.places(batch.hashes)).to(
            self.distributed.device, non_blocking=True
        )
        places = places.tile(sum(len(x) for x in views.student) // len(places))
        targets = self.targets[places]
        with self.precision():
            embeddings, outputs = self.network(
                views.student,
                views.student_frames,
                None if self.statistics is None else self.statistics[places],
            )
        metrics = {MOMENTS: moments(embeddings[: len(batch.hashes)].detach())}
        if self.task.kind == "number":
            loss = F.mse_loss(outputs[:, 0], targets)
        else:
            losses = F.cross_entropy(
                outputs, targets, reduction="none", label_smoothing=self.config.label_smoothing
            )
            loss = (self.weights[targets] * losses).mean()
            metrics["accuracy"] = (outputs.detach().argmax(1) == targets).float().mean()
        return loss, {"loss": loss.detach(), **metrics}

    def evaluate(self, epoch: float, last: bool) -> tuple[dict[str, float], bool]:
        """Judge the weights by the development part and keep them if they are the best so far; the start
        counts as epoch 0. Without a development part, the last weights are kept.

        Returns:
            ``dev_loss`` and, of classes, ``dev_uar`` (percent); whether the training ends here.
        """
        best, when, since, ended, start, share = self.course.tolist()
        if ended:
            return {}, True
        if self.task.held is None:
            if last and _is_finite(self.student):
                self.best.load_state_dict(self.student.state_dict())
                self.course[[1, 3]] = self.course.new_tensor([epoch, 1.0])
            return {}, last
        figures = self._judge(self.student.state_dict())
        value = self._value(figures)
        start = value if epoch == 0 else start
        if value < best:  # the weights from the start are in self.best already
            self.best.load_state_dict(self.student.state_dict())
        best, when, since = (value, epoch, 0.0) if value < best else (best, when, since + 1)
        last = last or (self.config.patience > 0 and since >= self.config.patience)
        if last and self.start is not None:
            best, share = self._averages(best)
        self.course.copy_(self.course.new_tensor([best, when, since, float(last), start, share]))
        return figures, last

    def falls_back(self, lost: str) -> bool:
        """The best weights so far are kept; without any, the start, unless it is random."""
        judged, when = math.isfinite(float(self.course[0])), float(self.course[1])
        if self.setup.init is None and not when:
            return False
        self._diverged = True
        if self.distributed.first:
            kept = f"those of epoch {round(when, 2):g}" if judged and when else "those that it started from"
            warn(f"{lost.split(';')[0]}: the training ends, and the weights that are kept are {kept}")
        return True

    def _averages(self, best: float) -> tuple[float, float]:
        """Keep a mean of the start and the best weights where that is better than these; return the figure of
        what is kept, and the share of the start in it.
        """
        start, tuned, kept = self.start.state_dict(), copy.deepcopy(self.best.state_dict()), 0.0
        for share in self.config.average_with_start:
            mixed = weighted_mean(start, tuned, share)
            value = self._value(self._judge(mixed))
            if value < best:
                best, kept = value, share
                self.best.load_state_dict(mixed)
        return best, kept

    def _value(self, figures: dict[str, float]) -> float:
        value = -figures["dev_uar"] if self.config.select == "uar" else figures["dev_loss"]
        return value if math.isfinite(value) else math.inf

    def _judge(self, weights: dict[str, torch.Tensor]) -> dict[str, float]:
        """Return figures of the whole utterances of the development part, the same in every process."""
        held, (rank, size) = self.task.held, (self.distributed.rank, self.distributed.size)
        (judged,) = self._judged
        judged.load_state_dict(weights)
        shares = self.distributed.gather_objects(held.outputs(judged.encoder, judged.head, (rank, size)))
        outputs = np.empty((len(held.targets), self.task.num_outputs), dtype=np.float64)
        for number, rows in enumerate(shares):
            outputs[number::size] = rows
        if self.task.kind == "number":
            errors = outputs[:, 0] - (held.targets - self.mean) / self.deviation
            return {"dev_loss": float((errors**2).mean())}
        return {
            "dev_loss": balanced_loss(outputs, held.targets),
            "dev_uar": 100 * unweighted_average_recall(outputs, held.targets),
        }

    @property
    def _output_layer(self) -> str:
        return "layers.2" if self.config.hidden else "layers"

    def outcome(self) -> dict:
        best, when, _, _, start, share = self.course.tolist()
        judged = math.isfinite(best)
        sign = -1.0 if self.config.select == "uar" else 1.0
        return {
            "epoch": round(when, 2),  # 0: the start is kept
            "judged_by": f"dev_{self.config.select}" if judged else "",
            "value": round(sign * best, 6) if judged else None,
            "start": round(sign * start, 6) if math.isfinite(start) else None,
            "share_of_start": share,
            **({"diverged": True} if self._diverged else {}),
        }

    def describe(self, means: dict[str, float]) -> str:
        said = f"loss {means['loss']:.3f}"
        if "accuracy" in means:
            said += f", accuracy {100 * means['accuracy']:.1f} %"
        return said

    def encoders(self) -> dict[str, nn.Module]:
        return {"model": self.best.encoder}

    def beside(self) -> dict[str, dict[str, torch.Tensor]]:
        """The head, of outputs in the unit of the numbers."""
        state = {name: value.clone() for name, value in self.best.head.state_dict().items()}
        last = self._output_layer
        if self.task.kind == "number":
            state[f"{last}.weight"] = state[f"{last}.weight"] * self.deviation
            state[f"{last}.bias"] = state[f"{last}.bias"] * self.deviation + self.mean
        return {HEAD: state}


def _is_finite(network: nn.Module) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in network.state_dict().values())
