"""Named draws for the synthetic corpus: each is a function of the seed, its subject and its name, never of
the order of draws.
"""

import numpy as np

from pydino.base import (
    keyed_bits,
    keyed_integers,
    keyed_normal,
    keyed_permutation,
    keyed_uniform,
    purpose,
    utterance_hash,
)


class KeyedDraws:
    """The draws that belong to one subject: a speaker, an utterance, or a pair of speakers.

    Args:
        seed: the corpus's seed.
        subject: its name, such as ``"train-0001-03"``. Two subjects share no draw; nor do two names of one
            subject.
    """

    def __init__(self, seed: int, subject: str):
        self.key = (seed, utterance_hash(subject))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0, size: int | None = None):
        """Return a float in [low, high), or ``size`` of them."""
        draws = low + (high - low) * keyed_uniform(*self.key, purpose(name), size=size)
        return float(draws) if size is None else draws

    def normal(self, name: str, deviation: float = 1.0, size: int | None = None):
        """Return a draw from N(0, deviation^2), or ``size`` of them."""
        draws = deviation * keyed_normal(*self.key, purpose(name), np.arange(size or 1, dtype=np.uint64))
        return float(draws[0]) if size is None else draws

    def choice(self, name: str, items):
        """Return one of ``items``."""
        return items[int(keyed_integers(0, len(items), *self.key, purpose(name)))]

    def order(self, name: str, count: int) -> np.ndarray:
        """Return the numbers 0 .. count - 1 in a drawn order."""
        return keyed_permutation(count, *self.key, purpose(name))

    def generator(self, name: str) -> np.random.Generator:
        """Return a generator for long sequences, such as the samples of a noise."""
        return np.random.Generator(np.random.Philox(key=int(keyed_bits(*self.key, purpose(name)))))
