"""This process among others: one, or as many as torchrun started, each with a share of every batch.

Processes communicate through NCCL where they have GPUs and gloo where they have not. With one process nothing
here costs anything.
"""

import os

import torch
import torch.distributed as dist

from pydino.base import UserError, end_with_parent


class DistributedContext:
    """Rank, number of processes, device, and the few sums that a step needs.

    Args:
        ngpu: GPUs of this machine to use; 0: the CPU.

    Attributes:
        rank, size: this process among all.
        local_size: processes on this machine.
        device: where it computes.

    Raises:
        UserError: GPUs are asked for that are not there, or several without torchrun.
    """

    def __init__(self, ngpu: int = 0):
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        local, self.local_size = (
            int(os.environ.get("LOCAL_RANK", 0)),
            int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        )
        if ngpu < 0:
            raise UserError(f"--ngpu must be 0 (the CPU) or a number of GPUs, got {ngpu}")
        if ngpu and not torch.cuda.is_available():
            build = (
                "no CUDA in this build of PyTorch; see PYDINO_TORCH in the README"
                if torch.version.cuda is None
                else "see nvidia-smi"
            )
            raise UserError(
                f"--ngpu {ngpu} was asked for, but PyTorch finds no GPU ({build}); train on the CPU with "
                "--ngpu 0"
            )
        if ngpu > torch.cuda.device_count():
            raise UserError(
                f"--ngpu {ngpu} was asked for, but there are {torch.cuda.device_count()} GPUs here"
            )
        if ngpu and ngpu != self.local_size:
            raise UserError(
                f"--ngpu {ngpu} but {self.local_size} process(es) on this machine; steps/train.sh starts one "
                "a "
                f"GPU, and so does torchrun --nproc-per-node {ngpu} -m pydino train ..."
            )
        self.device = torch.device("cuda", local) if ngpu else torch.device("cpu")
        if ngpu:
            torch.cuda.set_device(self.device)
        self._signals = None
        if "TORCHELASTIC_RUN_ID" in os.environ:
            end_with_parent()  # no process goes on writing after torchrun was killed
        if self.size > 1:
            dist.init_process_group("nccl" if ngpu else "gloo", device_id=self.device if ngpu else None)
            self._signals = dist.new_group(backend="gloo")

    @property
    def first(self) -> bool:
        """Whether this process writes the files: that of rank 0."""
        return self.rank == 0

    def close(self) -> None:
        """Leave the group of processes."""
        if self.size > 1:
            dist.destroy_process_group()

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier(group=self._signals)

    def mean(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean over processes of ``x``, which is overwritten; the host does not wait."""
        if self.size > 1:
            dist.all_reduce(x)
            x.div_(self.size)
        return x

    def add_up(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum over processes of ``x``, which is overwritten."""
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def gather_rows(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows (B, ...) of all processes, (size B, ...), by rank; without gradient."""
        if self.size == 1:
            return x.detach()
        everything = x.new_empty(self.size * len(x), *x.shape[1:])
        dist.all_gather_into_tensor(everything, x.detach().contiguous())
        return everything

    def gather_pairs(self, x: torch.Tensor) -> torch.Tensor:
        """Return the vectors (2, size b, D) of all processes, by rank, of those of this one (2, b, D), with
        gradient.

        Backward, each process gets the sum over processes of the gradients of its own vectors. Where every
        process takes the mean loss of its own, and gradients of weights are averaged over processes, these
        are the gradients of the mean over the whole batch.
        """
        return x if self.size == 1 else _GatheredPairs.apply(x, self.rank, self.size)

    def gather_objects(self, item) -> list:
        """Return the items of all processes, by rank."""
        if self.size == 1:
            return [item]
        items: list = [None] * self.size
        dist.all_gather_object(items, item, group=self._signals)
        return items

    def any_process(self, flag: bool) -> "PendingFlag":
        """Return whether the flag is set in any process, as a result that is computed while other work
        goes on.
        """
        if self.size == 1:
            return PendingFlag(flag)
        votes = torch.tensor([int(flag)])
        return PendingFlag(
            votes, dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self._signals, async_op=True)
        )


class _GatheredPairs(torch.autograd.Function):
    """(2, b, D) -> (2, W b, D)."""

    @staticmethod
    def forward(context, x, rank, size):
        context.rank, context.pairs = rank, x.shape[1]
        everything = x.new_empty(size * len(x), *x.shape[1:])
        dist.all_gather_into_tensor(everything, x.contiguous())
        return everything.unflatten(0, (size, -1)).transpose(0, 1).flatten(1, 2)

    @staticmethod
    def backward(context, gradient):
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.narrow(1, context.rank * context.pairs, context.pairs), None, None


class PendingFlag:
    """The result of an asynchronous all-reduce, which may be pending."""

    def __init__(self, value, work=None):
        self._value, self._work = value, work

    def __bool__(self) -> bool:
        if self._work is not None:
            self._work.wait()
        return bool(self._value)
