"""Trials that need no label: two crops of one utterance are of one speaker, and two utterances drawn from a
large collection are most likely of two.

Both are approximations. Crops of one utterance share session, microphone and mood, so these target trials are
easier than those between recordings. And of S speakers with equally many utterances, one pair of utterances
in S is of one speaker, so the nontarget trials hold some targets: few where there are many speakers, or where
pairs of one cluster are left out.
"""

import numpy as np

from pydino.base import keyed_bits, keyed_integers, purpose

_ROUNDS = 400  # of draws, until given up


def crop_pairs(
    utterances: np.ndarray, numbers: np.ndarray, hashes: np.ndarray, wanted: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of crops of one utterance: of all such pairs, the ``wanted`` whose keyed number is lowest.

    Args:
        utterances: (C,) ints, the utterance of each crop, from 0.
        numbers: (C,) ints, which crop of its utterance each is.
        hashes: (U,) uint64 of the utterances; names and their order change nothing.
        seed: of the draw.

    Returns:
        (M,) and (M,) places of crops; in a pair the lower number comes first; sorted by hash and numbers.
    """
    order = np.lexsort((numbers, hashes[utterances]))
    starts = np.flatnonzero(np.diff(hashes[utterances[order]], prepend=hashes[utterances[order[:1]]] ^ 1))
    sizes = np.diff(starts, append=len(order))
    first, second = [], []
    for gap in range(1, int(sizes.max(initial=1))):
        # places whose neighbour at this distance is in the same utterance
        place = np.flatnonzero(np.arange(len(order)) + gap < np.repeat(starts + sizes, sizes))
        first.append(order[place])
        second.append(order[place + gap])
    if not first:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    first, second = np.concatenate(first), np.concatenate(second)
    own = hashes[utterances[first]]
    draw = keyed_bits(seed, purpose("crops of one utterance"), own, numbers[first], numbers[second])
    kept = np.argsort(draw, kind="stable")[:wanted]
    kept = kept[np.lexsort((numbers[second[kept]], numbers[first[kept]], own[kept]))]
    return first[kept], second[kept]


def utterance_pairs(
    hashes: np.ndarray, wanted: int, seed: int, clusters: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of utterances drawn uniformly, each at most once: ``wanted`` of them, or half of all there
    are if that is less.

    Args:
        hashes: (U,) uint64 of the utterances, all different; names and their order change nothing.
        seed: of the draw.
        clusters: (U,) ints; utterances of one cluster are not paired.

    Returns:
        (M,) and (M,) places of utterances, the lower hash first, in the order of the draw.
    """
    count = len(hashes)
    by_hash = np.argsort(hashes, kind="stable")
    groups = np.arange(count) if clusters is None else np.asarray(clusters)[by_hash]
    sizes = np.unique(groups, return_counts=True)[1]
    possible = (count * (count - 1) - int((sizes * (sizes - 1)).sum())) // 2
    wanted = min(wanted, (possible + 1) // 2)
    codes = np.zeros(0, dtype=np.int64)
    draws = np.arange(2 * wanted + 16, dtype=np.uint64)
    for turn in range(_ROUNDS):
        if len(codes) >= wanted:
            break
        left, right = (
            keyed_integers(0, count, seed, purpose(side), turn, draws)
            for side in ("first of two", "second of two")
        )
        different = groups[left] != groups[right]
        left, right = left[different], right[different]
        codes = np.concatenate([codes, np.minimum(left, right) * count + np.maximum(left, right)])
        codes = codes[np.sort(np.unique(codes, return_index=True)[1])]
    return by_hash[codes[:wanted] // count], by_hash[codes[:wanted] % count]
