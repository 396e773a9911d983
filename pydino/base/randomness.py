"""Keyed randomness: every random draw about data is a hash of its purpose, so that it does not depend on
which process draws, when, or after which other draws.

A draw is a function of a seed and any number of counters, such as (seed, epoch, utterance hash, view,
purpose). The function is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable
pseudorandom number generators") applied after each counter is mixed in; it is vectorised, and gives the same
numbers on every machine.
"""

import hashlib
from functools import cache

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def utterance_hash(key: str) -> int:
    """Return a stable 64-bit number for an utterance name.

    It is taken once, when a training directory is made, and stored in ``utt2hash``; from then on only the
    stored number is used, so that renaming utterances changes nothing.
    """
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8"), digest_size=8).digest(), "little")


@cache
def purpose(name: str) -> int:
    """Return a stable 64-bit counter for a purpose such as ``"crop"``, so that no two kinds of draw share
    their numbers.
    """
    return utterance_hash(f"purpose:{name}")


def _finalise(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def keyed_bits(seed, *counters) -> np.ndarray:
    """Return 64 random bits (uint64) for each combination of counters.

    Args:
        seed: int.
        counters: ints or uint64/int64 arrays; they are broadcast against each other.
    """
    with np.errstate(over="ignore"):
        state = _finalise(_as_uint64(seed) + _GOLDEN)
        for counter in counters:
            state = _finalise((state ^ _as_uint64(counter)) * _MIX_2 + _GOLDEN)
    return state


def _as_uint64(value) -> np.ndarray:
    if isinstance(value, (int, np.integer)):
        return np.asarray(int(value) & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
    return np.asarray(value).astype(np.uint64)


def keyed_uniform(seed, *counters, size: int | None = None) -> np.ndarray:
    """Return uniform draws in [0, 1), float64, of the broadcast shape of the counters (with a last axis of
    ``size``, if given).
    """
    if size is not None:
        counters = tuple(np.asarray(_as_uint64(c))[..., None] for c in counters) + (
            np.arange(size, dtype=np.uint64),
        )
    return (keyed_bits(seed, *counters) >> np.uint64(11)) * 2.0**-53


def keyed_integers(low, high, seed, *counters) -> np.ndarray:
    """Return integers in [low, high), int64; ``low`` and ``high`` may be arrays. The bias is below (high -
    low) / 2**53.
    """
    low, high = np.asarray(low, dtype=np.int64), np.asarray(high, dtype=np.int64)
    return low + np.floor(keyed_uniform(seed, *counters) * (high - low)).astype(np.int64)


def keyed_normal(seed, *counters) -> np.ndarray:
    """Return standard normal draws by the Box-Muller transform of two keyed uniforms."""
    first = 1.0 - keyed_uniform(seed, *counters, purpose("normal radius"))
    second = keyed_uniform(seed, *counters, purpose("normal angle"))
    return np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)


def keyed_permutation(items, seed, *counters) -> np.ndarray:
    """Return an order of ``items`` (an int n for range(n), or a uint64 array of hashes) as indices, int64.

    With hashes, the order of the *hashes* does not depend on how they are stored, as long as they differ.
    """
    hashes = np.arange(items, dtype=np.uint64) if isinstance(items, (int, np.integer)) else _as_uint64(items)
    return np.lexsort((hashes, keyed_bits(seed, hashes, *counters)))
