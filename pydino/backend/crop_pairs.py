"""Trials that need no label: two crops of one utterance are of one speaker, or two utterances of one cluster,
and two utterances drawn from a large collection are most likely of two.

All are approximations. Crops of one utterance share session, microphone and mood, so these target trials are
easier than those between recordings; clusters are made of pairs that are alike. And of S speakers with
equally many utterances, one pair of utterances in S is of one speaker, so the nontarget trials hold some
targets: few where there are many speakers, or where pairs of one cluster are left out.
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

    def draw(turn: int, numbers: np.ndarray) -> np.ndarray:
        left, right = (
            keyed_integers(0, count, seed, purpose(side), turn, numbers)
            for side in ("first of two", "second of two")
        )
        different = groups[left] != groups[right]
        left, right = left[different], right[different]
        return np.minimum(left, right) * count + np.maximum(left, right)

    codes = _distinct(draw, wanted)
    return by_hash[codes // count], by_hash[codes % count]


def cluster_pairs(
    hashes: np.ndarray, clusters: np.ndarray, wanted: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return pairs of utterances of one cluster, drawn uniformly from all such pairs, each at most once:
    ``wanted`` of them, or all if there are no more.

    Args:
        hashes, clusters: as of :func:`utterance_pairs`.

    Returns:
        (M,) and (M,) places of utterances, the lower hash first.
    """
    lowest = np.full(int(clusters.max()) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(lowest, clusters, hashes)  # a number of the cluster, whatever it is called
    order = np.lexsort((hashes, lowest[clusters]))
    starts = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    ends = np.cumsum(sizes * (sizes - 1) // 2)
    total = int(ends[-1])
    if total <= 2 * wanted:
        numbers = np.arange(total)
        draws = keyed_bits(seed, purpose("all pairs of clusters"), numbers)
        numbers = np.sort(np.argsort(draws, kind="stable")[:wanted])
    else:
        numbers = _distinct(
            lambda turn, draws: keyed_integers(0, total, seed, purpose("pair of a cluster"), turn, draws),
            wanted,
        )
    # Pair q of a cluster is (j, i) with q = i (i - 1) / 2 + j, j < i.
    cluster = np.searchsorted(ends, numbers, side="right")
    within = numbers - np.concatenate([[0], ends])[cluster]
    later = ((1 + np.sqrt(8 * within + 1)) // 2).astype(np.int64)
    earlier = within - later * (later - 1) // 2
    return order[starts[cluster] + earlier], order[starts[cluster] + later]


def _distinct(draw, wanted: int) -> np.ndarray:
    """Return the first ``wanted`` different of the int64 that ``draw(turn, numbers)`` gives in turn."""
    found = np.zeros(0, dtype=np.int64)
    numbers = np.arange(2 * wanted + 16, dtype=np.uint64)
    for turn in range(_ROUNDS):
        if len(found) >= wanted:
            break
        found = np.concatenate([found, draw(turn, numbers)])
        found = found[np.sort(np.unique(found, return_index=True)[1])]
    return found[:wanted]
