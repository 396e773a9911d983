"""Views: which utterances a step sees, and which crops of them; every choice a function of the seed and the utterance's hash.

The utterances of epoch 0, 1, 2, ..., each in an order of its own, make one endless line; step s takes places s B to (s + 1) B of it. So
an epoch visits every utterance once, batches are always full, and where training stands is one number.
"""

import queue
import threading
from dataclasses import dataclass, field

import numpy as np

from pydino.base import UserError, keyed_integers, keyed_permutation, keyed_uniform, purpose

from .training_set import TrainingSet


@dataclass
class CropConfig:
    """Crops of an utterance: the teacher sees the long (global) ones, the student all of them."""

    num_global: int = 2
    num_local: int = 4
    global_seconds: list[float] = field(default_factory=lambda: [4.0, 4.0])  # each step draws one length between the two
    local_seconds: list[float] = field(default_factory=lambda: [2.0, 2.0])

    def __post_init__(self):
        if self.num_global < 2:
            raise ValueError(f"num_global must be at least 2 (the student predicts another view than its own), got {self.num_global}")
        if self.num_local < 0:
            raise ValueError(f"num_local must not be negative, got {self.num_local}")
        for name in ("global_seconds", "local_seconds"):
            low_high = getattr(self, name)
            if len(low_high) != 2 or not 0 < low_high[0] <= low_high[1]:
                raise ValueError(f"{name} must be [shortest, longest] in seconds, got {low_high}")


@dataclass
class Batch:
    """What a step starts from. B utterances, G global and V local views, L frames, F columns.

    Attributes:
        step: the step it belongs to.
        epochs: (B,) the epoch that each utterance is visited in.
        hashes: (B,) uint64.
        global_crops: (G, B, L, F) float32 log filter banks.
        local_crops: (V, B, L', F).
    """

    step: int
    epochs: np.ndarray
    hashes: np.ndarray
    global_crops: np.ndarray
    local_crops: np.ndarray


class ViewSampler:
    """Batches of crops by step number.

    Args:
        dataset: the pre-training directory.
        config: numbers and lengths of crops.
        batch_size: B.
        frame_shift: seconds.
        seed: of every draw.

    Raises:
        UserError: fewer utterances than a batch takes.
    """

    def __init__(self, dataset: TrainingSet, config: CropConfig, batch_size: int, frame_shift: float, seed: int):
        if len(dataset) < batch_size:
            raise UserError(
                f"batch_size is {batch_size} but there are only {len(dataset)} utterances to learn from; lower batch_size in the "
                "model's configuration, or use more recordings"
            )
        self.dataset, self.config, self.batch_size, self.frame_shift, self.seed = dataset, config, batch_size, frame_shift, seed
        self._order: dict[int, np.ndarray] = {}

    def _places(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the epochs and the indices of the utterances of a step."""
        epochs, places = np.divmod(np.arange(step * self.batch_size, (step + 1) * self.batch_size), len(self.dataset))
        indices = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            if epoch not in self._order:
                self._order = {e: order for e, order in self._order.items() if e >= epoch - 1}
                self._order[epoch] = keyed_permutation(self.dataset.hashes, self.seed, epoch, purpose("order of utterances"))
            here = epochs == epoch
            indices[here] = self._order[epoch][places[here]]
        return epochs, indices

    def _frames(self, step: int, low_high: list[float], kind: str) -> int:
        """Return the length of a step's crops: one for all of a kind, so that they are one tensor."""
        low, high = (round(seconds / self.frame_shift) for seconds in low_high)
        return int(keyed_integers(low, high + 1, self.seed, step, purpose(f"length of {kind} crops")))

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, the same whoever asks and whenever."""
        config, dataset = self.config, self.dataset
        epochs, indices = self._places(step)
        hashes = dataset.hashes[indices]
        long, short = self._frames(step, config.global_seconds, "global"), self._frames(step, config.local_seconds, "local")
        starts = keyed_uniform(
            self.seed, epochs[:, None], hashes[:, None], np.arange(config.num_global + config.num_local), purpose("start of the crop")
        )
        lengths = dataset.lengths[indices][:, None]
        sizes = np.where(np.arange(starts.shape[1]) < config.num_global, long, short)
        # Where the utterance is shorter than the crop, the crop starts anywhere and wraps round.
        starts = np.floor(starts * np.where(lengths >= sizes, lengths - sizes + 1, lengths)).astype(np.int64)
        crops = [
            np.empty((number, self.batch_size, size, dataset.dim), dtype=np.float32)
            for number, size in ((config.num_global, long), (config.num_local, short))
        ]
        for row, index in enumerate(indices.tolist()):
            dataset.read([*crops[0][:, row], *crops[1][:, row]], index, starts[row])
        return Batch(step, epochs, hashes, *crops)


def prefetched(sampler: ViewSampler, first_step: int, last_step: int, depth: int = 3):
    """Yield the batches of steps ``first_step`` to ``last_step`` - 1, read ahead by a thread so that the step need not wait."""
    batches: queue.Queue = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def offer(item) -> bool:
        while not stopped.is_set():
            try:
                batches.put(item, timeout=0.2)
                return True
            except queue.Full:
                pass
        return False

    def read():
        try:
            for step in range(first_step, last_step):
                if not offer(sampler.batch(step)):
                    return
            offer(None)
        except BaseException as error:  # to be raised where the batch was wanted
            offer(error)

    threading.Thread(target=read, daemon=True, name="reading ahead").start()
    try:
        while (item := batches.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
