"""The sampler of utterances. Their order is a function of the seed alone: independent of processes, workers
and restarts.

The utterances of epochs 0, 1, 2, ..., each in another random order, form one endless sequence; step s takes
positions s B to (s + 1) B of it. So an epoch visits every utterance once, batches are always full, and the
state of the sampler is one number.
"""

from typing import Literal

import numpy as np

from pydino.base import UserError, keyed_integers, keyed_permutation, purpose


class EpochSampler:
    """Utterances by step number.

    Args:
        hashes: (N,) uint64, ascending, as the data set has them.
        batch_size: B, over all processes.
        seed: of the order.
        kind: ``shuffled``, or ``with_replacement``: every position is drawn independently, as in the papers'
            code, so that an epoch misses a fraction 1/e of the utterances.

    Raises:
        UserError: fewer utterances than a batch.
    """

    def __init__(
        self,
        hashes: np.ndarray,
        batch_size: int,
        seed: int,
        kind: Literal["shuffled", "with_replacement"] = "shuffled",
    ):
        if len(hashes) < batch_size:
            raise UserError(
                f"batch_size is {batch_size} but there are only {len(hashes)} utterances to learn from; "
                "lower batch_size in the model's configuration, or use more recordings"
            )
        self.hashes, self.batch_size, self.seed, self.kind = hashes, batch_size, seed, kind
        self._orders: dict[int, np.ndarray] = {}

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of the visit of each row, (B,), unique for an utterance, and the utterance's
        index, (B,), both int64.
        """
        line = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        if self.kind == "with_replacement":
            return line, keyed_integers(0, len(self.hashes), self.seed, line, purpose("drawn utterance"))
        epochs, places = np.divmod(line, len(self.hashes))
        indices = np.empty_like(places)
        for epoch in np.unique(epochs).tolist():
            if epoch not in self._orders:
                self._orders = {e: order for e, order in self._orders.items() if e >= epoch - 1}
                self._orders[epoch] = keyed_permutation(
                    self.hashes, self.seed, epoch, purpose("order of utterances")
                )
            here = epochs == epoch
            indices[here] = self._orders[epoch][places[here]]
        return epochs, indices
