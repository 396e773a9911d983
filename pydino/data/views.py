"""Batches of crops by step number: a pure function of the step, independent of process, worker and time."""

from dataclasses import dataclass, replace

import numpy as np
from torch.utils.data import Dataset

from pydino.audio.speed import drawn_factors
from pydino.base import UserError

from .copy_paste import CopyPaste
from .crops import CropConfig, CropPlacer
from .epoch_sampler import EpochSampler
from .partners import Partners
from .source import Source
from .training_set import Crops
from .view_groups import ViewGroup, columns_of
from .waveforms import Waveforms


@dataclass
class Batch:
    """The input of one micro-batch.

    Attributes:
        step: the step it belongs to.
        visits: (B,) int64, number of the visit of each row's utterance; the epoch, where an epoch visits
            every utterance once.
        hashes: (B,) uint64.
        content: crops of the utterances themselves.
        seconds: total duration of the crops.
        partner: crops of the utterances' partners, if groups of views need them.
        frames: (B, V) int64, valid frames of each crop, if groups of views are masked.
    """

    step: int
    visits: np.ndarray
    hashes: np.ndarray
    content: Crops | Waveforms
    seconds: float
    partner: Crops | Waveforms | None = None
    frames: np.ndarray | None = None

    def content_of(self, owner: str) -> Crops | Waveforms:
        """Return the crops of ``owner``: own or partner."""
        return self.content if owner == "own" else self.partner

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors."""
        return sum(content.nbytes for content in (self.content, self.partner) if content is not None)

    def pin_memory(self) -> "Batch":
        """Return a copy in page-locked memory, from which copies to a GPU are asynchronous."""
        return self._with(lambda content: content.pin_memory())

    def share_memory(self) -> "Batch":
        """Return this batch with its tensors in shared memory.

        Raises:
            RuntimeError: not enough shared memory.
        """
        return self._with(lambda content: content.share_memory())

    def _with(self, change) -> "Batch":
        partner = None if self.partner is None else change(self.partner)
        return replace(self, content=change(self.content), partner=partner)


class ViewSampler(Dataset):
    """Batches of crops by step number, for one of several processes.

    Args:
        dataset: the pre-training directory, :class:`TrainingSet` or :class:`AudioSet`.
        crops: how crops are placed.
        groups: of views.
        order: sampler of the utterances of a step.
        frame_shift: seconds.
        seed: of every draw.
        speed_factors: one is drawn for each visit of an utterance; for audio only.
        rank, world_size: rank of this process, and number of processes.
        accumulation: micro-batches per step and process.
        partners: (N,) index of each utterance's partner, where a group of views needs it, or what chooses
            partners at each visit.
        least_frames: that the encoder takes, where a group of views is masked.

    Raises:
        UserError: the batch cannot be divided evenly.
    """

    def __init__(
        self,
        dataset: Source,
        crops: CropConfig,
        groups: list[ViewGroup],
        order: EpochSampler,
        frame_shift: float,
        seed: int,
        speed_factors: tuple[float, ...] = (1.0,),
        rank: int = 0,
        world_size: int = 1,
        accumulation: int = 1,
        partners: np.ndarray | Partners | CopyPaste | None = None,
        least_frames: int = 1,
    ):
        self.dataset, self.order, self.seed, self.speed_factors = dataset, order, seed, list(speed_factors)
        self.rank, self.world_size, self.accumulation, self.partners = (
            rank,
            world_size,
            accumulation,
            partners,
        )
        # utterances of one micro-batch of one process
        self.size, rest = divmod(order.batch_size, world_size * accumulation)
        if rest or self.size < 2:
            raise UserError(
                f"batch_size {order.batch_size} cannot be divided among {world_size} processes with "
                f"{accumulation} micro-batches each, of two utterances or more; change batch_size or "
                "compute.accumulation"
            )
        self._place = CropPlacer(crops, groups, frame_shift, seed, least_frames)
        self._columns = {owner: columns_of(groups, owner) for owner in ("own", "partner")}
        if len(self._columns["partner"]) and partners is None:
            raise ValueError("a group of views needs partners, but none were given")

    @property
    def shortest(self) -> int:
        """Frames of the shortest crop that may be drawn."""
        return self._place.shortest

    @property
    def most_frames(self) -> int:
        """Maximal total number of frames of the crops of a micro-batch."""
        return self.size * self._place.most_frames

    def __getitem__(self, step: int) -> list[Batch]:
        """Return the micro-batches of a step for this process."""
        visits, indices = self.order(step)
        # frames of the longest utterance of the step, in all processes, at the slowest speed
        longest = int(self.dataset.lengths[indices].max() / min(self.speed_factors))
        sizes = self._place.sizes(step, longest)
        micro_batches = []
        for number in range(self.accumulation):
            first = (number * self.world_size + self.rank) * self.size
            rows = slice(first, first + self.size)
            micro_batches.append(self._batch(step, visits[rows], indices[rows], sizes))
        return micro_batches

    def _batch(self, step: int, visits: np.ndarray, indices: np.ndarray, sizes: np.ndarray) -> Batch:
        hashes = self.dataset.hashes[indices]
        rows = {"own": indices, "partner": self._partners_of(indices, visits)}
        lengths = np.empty((len(hashes), len(sizes)), dtype=np.int64)
        for owner, columns in self._columns.items():
            lengths[:, columns] = self.dataset.lengths[rows[owner]][:, None]
        factors = None
        if self.speed_factors != [1.0]:
            factors = drawn_factors(self.speed_factors, self.seed, visits, hashes)
            # frames after the change of speed
            lengths = np.maximum(1, np.floor(lengths / factors[:, None])).astype(np.int64)
        starts = self._place.starts(visits, hashes, lengths, sizes)
        if factors is not None:
            starts = np.floor(starts * factors[:, None]).astype(np.int64)
        frames = self._place.frames(lengths, sizes)
        total = len(hashes) * float(sizes.sum()) if frames is None else float(frames.sum())
        seconds = total * self._place.frame_shift
        contents: list[Crops | Waveforms | None] = []
        for owner, columns in self._columns.items():
            content = None
            if len(columns):
                content = self.dataset.collect(rows[owner], starts[:, columns], sizes[columns], factors)
                if len(columns) < len(sizes):
                    content = content.renumbered(columns, sizes)
            contents.append(content)
        own, partner = contents
        return Batch(step, visits, hashes, own, seconds, partner, frames)

    def _partners_of(self, indices: np.ndarray, visits: np.ndarray) -> np.ndarray:
        if self.partners is None:
            return indices
        if isinstance(self.partners, np.ndarray):
            return self.partners[indices]
        return self.partners.partners(indices, visits)
