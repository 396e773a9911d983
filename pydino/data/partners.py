"""Partners: for each visit of an utterance another utterance of its class or cluster, as a function of the
seed, the visit and the hash.

Classes come from the caller; nothing here reads labels. Axes: N utterances, B rows of a batch.
"""

import numpy as np

from pydino.base import keyed_integers, purpose


class Partners:
    """What chooses partners.

    Args:
        hashes: (N,) uint64, ascending.
        classes: (N,) int64 in [0, K), of the utterances.
        num_classes: K.
        seed: of every draw.
        drawn_for: purpose of the draws, by which those of two uses differ.

    Attributes:
        counts: (K,) utterances of each class.
    """

    def __init__(self, hashes: np.ndarray, classes: np.ndarray, num_classes: int, seed: int, drawn_for: str):
        self.hashes, self.seed = hashes, seed
        self.counts = np.bincount(classes, minlength=num_classes)
        self._classes, self._key = classes, purpose(drawn_for)
        self._first = np.cumsum(self.counts) - self.counts  # place of a class in _members
        self._members = np.argsort(classes, kind="stable")
        self._rank = np.empty_like(self._members)  # of an utterance among those of its class
        self._rank[self._members] = np.arange(len(hashes)) - self._first[classes[self._members]]

    def partners(
        self, indices: np.ndarray, visits: np.ndarray, wanted: int | np.ndarray | None = None
    ) -> np.ndarray:
        """Return the partners (B,) of utterances ``indices`` (B,) at these visits (B,): another utterance of
        the class, all equally likely; the only one of a class is its own partner.

        Args:
            wanted: the class that partners are of, or (B,) one of each; None: the utterance's own. It must
                not be empty.
        """
        classes = self._classes[indices]
        wanted_classes = classes if wanted is None else np.broadcast_to(wanted, classes.shape)
        inside, rank, count = classes == wanted_classes, self._rank[indices], self.counts[wanted_classes]
        drawn = keyed_integers(
            0, np.maximum(count - inside, 1), self.seed, visits, self.hashes[indices], self._key
        )
        drawn = np.minimum(drawn + (inside & (drawn >= rank)), count - 1)  # not itself
        return self._members[self._first[wanted_classes] + drawn]
