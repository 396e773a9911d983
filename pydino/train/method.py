"""What the training loop asks of a method: the seam between the loop, which knows no method, and the methods,
which know no loop.
"""

import torch
from torch import nn

from pydino.base import log
from pydino.data import Batch, ViewMaker

from .config import TrainingConfig
from .distributed import DistributedContext
from .precision import Precision, distribute, no_compiler, prepare


class Method(nn.Module):
    """Base of what can be trained; a module so that its networks and buffers are saved, and moved, together.

    Args:
        config: of the run.
        views: what makes views of a batch.
        total_steps, steps_per_epoch: what schedules stretch over.
        distributed: this process among others.

    Attributes:
        student: what learns.
        precision: what its passes are computed in.
    """

    student: nn.Module

    def __init__(
        self,
        config: TrainingConfig,
        views: ViewMaker,
        total_steps: int,
        steps_per_epoch: float,
        distributed: DistributedContext,
    ):
        super().__init__()
        self.config, self.views, self.distributed = config, views, distributed
        self.total_steps, self.steps_per_epoch = total_steps, steps_per_epoch
        self.precision = Precision(config.compute.precision, distributed.device)
        if config.compute.compile and distributed.first and (missing := no_compiler(distributed.device)):
            log(f"compute.compile is off: {missing}")

    def prepared(self, network: nn.Module) -> nn.Module:
        """Return a network that computes as configured, on the device."""
        crops = self.config.crops
        one_length = all(low == high for low, high in (crops.global_seconds, crops.local_seconds))
        return prepare(network, self.config.compute, self.distributed, one_length)

    def teach(self, student: nn.Module) -> None:
        """Make ``student`` what learns."""
        self.student = student
        # in a tuple: its weights are the student's, and not saved twice
        self._network = (distribute(student, self.distributed),)

    @property
    def network(self) -> nn.Module:
        """What the student is called through: itself, or its wrapper for many processes."""
        return self._network[0]

    @property
    def directions(self) -> int:
        """In how many directions embeddings may be expected to vary."""
        return self.student.encoder.embedding_dim

    def begin(self, passes: list[Batch]) -> None:
        """Called before the passes of a step."""

    def loss(self, batch: Batch, number: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of pass ``number`` of a step, so weighted that the gradients of passes add up, and
        scalars to watch.
        """
        raise NotImplementedError

    def gradients_ready(self, step: int) -> None:
        """Called between backward and update."""

    def after_update(self, step: int) -> dict[str, torch.Tensor]:
        """Called after the optimiser's update; returns more scalars."""
        return {}

    def schedule(self, step: int) -> dict[str, float]:
        """Return what is scheduled besides the learning rate."""
        return {}

    def diagnosis(self, means: dict[str, float]) -> str:
        """Return what is wrong with a run whose scalars have these means, in plain words, or an empty
        string.
        """
        return ""

    def describe(self, means: dict[str, float]) -> str:
        """Return the method's part of a line for people."""
        raise NotImplementedError

    def encoders(self) -> dict[str, nn.Module]:
        """Return what becomes model folders, by role."""
        raise NotImplementedError
