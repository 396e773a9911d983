"""The rows of a whole batch, for terms of a loss that compare its utterances, however many processes and
micro-batches share it.

Rows are tensors (V, b, D), by name: V views of the b utterances of a micro-batch, in the order of the batch.
"""

import torch

from .distributed import DistributedContext

Rows = dict[str, torch.Tensor]


class WholeBatch:
    """Put the rows of a micro-batch, which have a gradient, among those of the others, which have none.

    A term of the result is the same in every micro-batch of every process, and its gradients add up to that
    of the whole batch (:meth:`pydino.train.method.Method.of_whole_batch`). Where a step has several
    micro-batches, the rows of all have to be given to :meth:`add` first, computed without gradient; with
    dropout these are of another draw.

    Args:
        distributed: this process among others.
    """

    def __init__(self, distributed: DistributedContext):
        self._distributed = distributed
        self._ahead: list[Rows] = []

    def clear(self) -> None:
        """Forget the micro-batches of the step before."""
        self._ahead = []

    def add(self, rows: Rows) -> None:
        """Take the rows of the next micro-batch of this step, in all processes."""
        self._ahead.append({name: self._gathered(x) for name, x in rows.items()})

    def complete(self, rows: Rows, micro_step: int) -> Rows:
        """Return the rows of the whole batch, (V, B, D) float32, from those of a micro-batch of this
        process.
        """
        return {name: self._completed(name, x.float(), micro_step) for name, x in rows.items()}

    def _completed(self, name: str, own: torch.Tensor, micro_step: int) -> torch.Tensor:
        if self._ahead:
            parts = [rows[name] for rows in self._ahead]
        elif self._distributed.size > 1:
            parts, micro_step = [self._gathered(own)], 0
        else:
            return own
        first, size = self._distributed.rank * own.shape[1], own.shape[1]
        here = parts[micro_step]
        with_gradient = [here[:, :first], own, here[:, first + size :]]
        return torch.cat([*parts[:micro_step], *with_gradient, *parts[micro_step + 1 :]], dim=1)

    def _gathered(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows (V, W b, D) of all W processes, without gradient, from those of this one."""
        everything = self._distributed.gather_rows(x.detach().float().contiguous())
        return everything.unflatten(0, (self._distributed.size, -1)).transpose(0, 1).flatten(1, 2)
