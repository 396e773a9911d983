"""The interface between the training loop and the methods, which do not depend on each other otherwise.

A method is one file in ``methods/``: its configuration, a subclass of :class:`Method`, and the literals
``ROLES``, ``READS_LABELS`` and, where it is true, ``READS_CLUSTERS``, which programs read from the file
without importing PyTorch.
"""

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from pydino.base import UserError, log
from pydino.data import Batch, Labels, Views
from pydino.models import build_encoder, compiles

from .config import TrainingConfig
from .distributed import DistributedContext
from .parameter_groups import ParameterGroup, grouped
from .positive_sampling import PositiveSampling
from .precision import Precision, distribute, no_compiler, prepare
from .supervision import Supervision

Metrics = dict[str, torch.Tensor]


@dataclass
class Setup:
    """What a method is built from.

    Attributes:
        config: of the run.
        feature_dim: F.
        total_steps, steps_per_epoch: for schedules.
        distributed: this process among others.
        labels: of the utterances, or their clusters, for a method that reads them.
        init: weights that the encoder starts from; None: random ones.
        supervision: the task, for a method that is trained for one.
        hashes: (N,) uint64, ascending, of the utterances, for a run that finds positives itself.
        seed: of draws about data.
    """

    config: TrainingConfig
    feature_dim: int
    total_steps: int
    steps_per_epoch: float
    distributed: DistributedContext
    labels: Labels | None = None
    init: dict[str, torch.Tensor] | None = None
    supervision: Supervision | None = None
    hashes: np.ndarray | None = None
    seed: int = 0


class Method(nn.Module):
    """Base of what can be trained; a module, so that its networks and buffers are saved and moved together.

    A subclass builds its networks in ``__init__`` and hands the one that is trained to :meth:`set_student`.

    Attributes:
        student: what is trained; it has an ``encoder``.
        positive_sampling: finds the partners of utterances on the way, by the embeddings of the first role;
            None: partners do not change.
        precision: context that the networks run in.
        Config: class of the configuration.
        roles: model folders that a run leaves; the first is the model.
        reads_labels: False: labels are refused. This is the one place where that is decided.
        reads_clusters: False: clusters are refused. A method that reads labels takes clusters in their
            place; of another, ``Config.needs_clusters`` says whether a run has a use for them.
        of_task: True: it is trained for a task (``Setup.supervision``), by steps/finetune.sh.
        splits_batch: False: micro-batches are refused, as a loss that compares the utterances of a batch
            needs them together.
        of_data: modules and buffers that belong to the utterances or classes of a run, such as labels and
            output layers: they mean nothing with other data, and no release of the run has them.
    """

    Config: ClassVar[type[TrainingConfig]]
    roles: ClassVar[tuple[str, ...]]
    reads_labels: ClassVar[bool] = False
    reads_clusters: ClassVar[bool] = False
    of_task: ClassVar[bool] = False
    splits_batch: ClassVar[bool] = True
    of_data: ClassVar[tuple[str, ...]] = ("positive_sampling",)
    student: nn.Module

    def __init__(self, setup: Setup):
        super().__init__()
        self.setup, self.config, self.distributed = setup, setup.config, setup.distributed
        self.total_steps, self.steps_per_epoch = setup.total_steps, setup.steps_per_epoch
        sampling = (self.config.positive_sampling, setup.hashes, self.steps_per_epoch, self.distributed)
        self.positive_sampling = None if sampling[0] is None else PositiveSampling(*sampling)
        compute = self.config.compute
        if compute.accumulation > 1 and not self.splits_batch:
            raise UserError(
                f"{self.config.method} compares all utterances of a batch, which cannot be split: set "
                "compute.accumulation to 1 (compute.activation_checkpointing saves memory too)"
            )
        self.precision = Precision(compute.precision, self.distributed.device)
        if compute.compile and self.distributed.first:
            if not compiles(self.config.encoder):
                log(f"compute.compile is off: it does not pay for the encoder {self.config.encoder['name']}")
            elif missing := no_compiler(self.distributed.device):
                log(f"compute.compile is off: {missing}")

    # For a subclass to use

    def new_encoder(self) -> nn.Module:
        """Return the configured encoder, with the weights that the run starts from.

        Raises:
            UserError: those are of another encoder.
        """
        encoder = build_encoder(self.config.encoder, self.setup.feature_dim)
        if self.setup.init is not None:
            load_weights(encoder, self.setup.init)
        else:
            encoder.load_pretrained()
        return encoder

    def set_student(self, student: nn.Module) -> None:
        """Make ``student`` what is trained: on the device, computing as configured, frozen where it is not in
        :meth:`parameter_groups`.
        """
        self.student = self.prepared(student.to(self.distributed.device))
        freeze_all_but(self.student, [p for group in self.parameter_groups() for p in group.parameters])
        for part in frozen_parts(self.student.encoder, self.config):
            part.eval()  # norms without parameters too
        # in a tuple: its weights are the student's, and not saved twice
        self._network = (distribute(self.student, self.distributed),)

    def prepared(self, network: nn.Module) -> nn.Module:
        """Return a network that computes as configured, on the device."""
        one_length = all(low == high for low, high in (group.seconds for group in self.config.view_groups))
        return prepare(network, self.config.compute, self.distributed, one_length)

    @property
    def network(self) -> nn.Module:
        """What the student is called through: itself, or its wrapper for many processes."""
        return self._network[0]

    @property
    def micro_batches(self) -> int:
        """How many micro-batches a step has in each process."""
        return self.config.compute.accumulation

    def of_whole_batch(self, term: torch.Tensor) -> torch.Tensor:
        """Return a term of the loss that every micro-batch of every process computes of the whole batch, with
        a gradient for its own utterances alone.

        The loop averages over micro-batches and processes. Such gradients have to be summed: they are scaled
        by the number of both, and the value is not.
        """
        shares = self.micro_batches * self.distributed.size
        return term if shares == 1 else term.detach() + shares * (term - term.detach())

    # What the loop calls; a subclass overrides what it needs

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return what is trained; default: the student, less the parts of its encoder that ``trainable``
        omits.

        What is absent is frozen, with its norms (and dropout) in evaluation mode.
        """
        frozen = {
            id(p) for part in frozen_parts(self.student.encoder, self.config) for p in part.parameters()
        }
        return grouped(self.student.encoder, [p for p in self.student.parameters() if id(p) not in frozen])

    def before_first_step(self, embed: Callable[[nn.Module], torch.Tensor]) -> None:
        """Called once, before the first step of a run, and not where a run is resumed; in all processes
        alike.

        Args:
            embed: function of an encoder: the embeddings, (N, D) float32 on the CPU, of the N utterances of
                the run in the order of their hashes: whole utterances, not augmented, encoder in evaluation
                mode; the same in all processes. A pass over the data.
        """

    def before_step(self, views: Iterable[Views]) -> None:
        """Called before the micro-batches of a step, with the views of each, which are made as they are asked
        for.
        """

    def loss(self, batch: Batch, views: Views, micro_step: int) -> tuple[torch.Tensor, Metrics]:
        """Return the loss of a micro-batch, a mean over its utterances, and scalars to log.

        The loop divides by the number of micro-batches and averages over processes. Among the scalars are
        ``loss`` and ``MOMENTS``, the moments of one embedding of each utterance
        (:func:`pydino.train.monitors.moments`). Nothing here may wait for the device.

        Args:
            batch: what was read.
            views: what the networks see of it.
            micro_step: number of the micro-batch in its step.
        """
        raise NotImplementedError

    def before_update(self, step: int) -> None:
        """Called between the backward passes and the optimiser's update."""

    def after_update(self, step: int) -> Metrics:
        """Called after the optimiser's update; returns more scalars."""
        return {}

    def schedule(self, step: int) -> dict[str, float]:
        """Return what is scheduled besides the learning rate."""
        return {}

    def collapse_reason(self, means: dict[str, float]) -> str | None:
        """Return why a run whose scalars have these means has collapsed, as a sentence, or None."""
        return None

    def evaluate(self, epoch: float, last: bool) -> tuple[dict[str, float], bool]:
        """Called before the first step (epoch 0), and after each epoch, in all processes alike: return
        figures for the log, and whether the training ends here. What that depends on is in the state dict.

        Args:
            epoch: how many have been trained, not rounded: where an epoch is not a whole number of steps, the
                first step that completes it is somewhat beyond it.
            last: whether this is the end in any case.
        """
        return {}, last

    def falls_back(self, lost: str) -> bool:
        """Whether a training whose numbers are not finite any more (``lost`` says which) ends with what
        :meth:`encoders` returns, instead of an error; called in all processes alike.
        """
        return False

    @property
    def has_ended(self) -> bool:
        """Whether :meth:`evaluate` has ended the training, of a run that is resumed."""
        return False

    @property
    def max_effective_rank(self) -> int:
        """The effective rank that embeddings may have at best."""
        return self.student.encoder.embedding_dim

    def describe(self, means: dict[str, float]) -> str:
        """Return the method's part of a line of the log."""
        return f"loss {means['loss']:.3f}, spread {means['embedding_spread']:.3f}"

    def encoders(self) -> dict[str, nn.Module]:
        """Return what becomes model folders, by role."""
        return {self.roles[0]: self.student.encoder}

    def outcome(self) -> dict:
        """Return what the run came to, for EXP/outcome.json; nothing if its log says it all."""
        return {}

    def beside(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return what else the run leaves, EXP/NAME.safetensors: name -> tensors."""
        return {}


def frozen_parts(encoder: nn.Module, config: TrainingConfig) -> list[nn.Module]:
    """Return the parts of an encoder that ``trainable`` omits."""
    if config.trainable == "all":
        return []
    return [part for name, part in encoder.parts().items() if name not in config.trainable]


def freeze_all_but(network: nn.Module, trained: list[nn.Parameter]) -> None:
    """Freeze every parameter that is not among ``trained``; modules of which nothing is trained go to
    evaluation mode, so that running statistics stay and nothing is dropped out.
    """
    kept = {id(p) for p in trained}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in kept)
    _evaluate_frozen(network)


def _evaluate_frozen(module: nn.Module) -> None:
    parameters = list(module.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        module.eval()
        return
    for child in module.children():
        _evaluate_frozen(child)


def load_weights(encoder: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Load weights of another run into an encoder.

    Raises:
        UserError: they are of another encoder; names the first that differs.
    """
    expected = encoder.state_dict()
    for name in sorted(expected.keys() | weights.keys()):
        here, there = (None if name not in side else tuple(side[name].shape) for side in (expected, weights))
        if here != there:
            raise UserError(
                f"--init: the model is of another encoder: {name} is {there or 'missing'} in it and "
                f"{here or 'unknown'} in the configured encoder; take over the 'encoder' of its config.yaml, "
                "and "
                "train on features of the same kind"
            )
    encoder.load_state_dict(weights)


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
