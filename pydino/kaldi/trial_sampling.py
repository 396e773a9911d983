"""Making verification trials: all pairs of the utterances of a set, or a keyed sample of them."""

import numpy as np

from pydino.base import UserError, keyed_bits, purpose, utterance_hash

from .trials import write_trials

_CELLS = 1 << 22  # pairs looked at together


def make_trials(speaker_of: dict[str, str], path, max_trials: int, seed: int, where, what="speaker") -> str:
    """Write the trials of a set to ``path``; return in words how many there are.

    Args:
        speaker_of: utterance -> speaker.
        max_trials: at most so many, all pairs if 0; half of them target pairs, where there are as many.
        seed: of the sample, which depends on the names of the pairs and nothing else.
        where: names the set in messages; ``what`` its speakers, which may be clusters, in the singular.

    Raises:
        UserError: no target or no nontarget pair is possible, or ``max_trials`` is too small.
    """
    utterances = list(speaker_of)
    _, speakers, sizes = np.unique(
        [speaker_of[u] for u in utterances], return_inverse=True, return_counts=True
    )
    if len(sizes) < 2:
        raise UserError(
            f"{where} has a single {what} ({len(utterances)} utterances), so no nontarget pair; "
            f"verification needs two {what}s or more"
        )
    if sizes.max() < 2:
        raise UserError(
            f"{where}: each of the {len(sizes)} {what}s has one utterance, so no target pair; "
            f"verification needs {what}s with two utterances or more"
        )
    if max_trials < 0 or max_trials == 1:
        raise UserError(f"--max-trials {max_trials}: give 0 for all pairs, or 2 or more")
    pairs = len(utterances) * (len(utterances) - 1) // 2
    targets = int((sizes * (sizes - 1) // 2).sum())
    wanted_targets, wanted_nontargets = targets, pairs - targets
    if 0 < max_trials < pairs:
        wanted_targets = min(targets, max(max_trials // 2, max_trials - (pairs - targets)))
        wanted_nontargets = max_trials - wanted_targets
    hashes = np.array([utterance_hash(u) for u in utterances], dtype=np.uint64)
    rows, columns = select_pairs(hashes, speakers, wanted_targets, wanted_nontargets, seed)
    write_trials(path, utterances, rows, columns, speakers[rows] == speakers[columns])
    return (
        f"{len(rows)} trials of {pairs} pairs of {len(utterances)} utterances, {wanted_targets} of "
        f"{targets} target pairs"
    )


def select_pairs(
    hashes, speakers, wanted_targets: int, wanted_nontargets: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs (i < j) whose keyed number is lowest, as many of either kind as wanted, in the order
    of i and j.
    """
    count = len(hashes)
    found = {True: [np.zeros((0, 3), dtype=np.uint64)], False: [np.zeros((0, 3), dtype=np.uint64)]}
    wanted = {True: wanted_targets, False: wanted_nontargets}
    step = max(1, _CELLS // count)
    for start in range(0, count, step):
        i, j = np.meshgrid(
            np.arange(start, min(start + step, count)), np.arange(start + 1, count), indexing="ij"
        )
        above = j > i
        i, j = i[above], j[above]
        draw = keyed_bits(
            seed, purpose("trials"), np.minimum(hashes[i], hashes[j]), np.maximum(hashes[i], hashes[j])
        )
        same = speakers[i] == speakers[j]
        for kind in (True, False):
            part = np.stack([draw, i.astype(np.uint64), j.astype(np.uint64)], axis=1)[same == kind]
            kept = np.concatenate([*found[kind], part])
            # Only the lowest so far can stay: memory is bounded by what is wanted.
            if len(kept) > wanted[kind]:
                kept = (
                    kept[np.argpartition(kept[:, 0], wanted[kind] - 1)[: wanted[kind]]]
                    if wanted[kind]
                    else kept[:0]
                )
            found[kind] = [kept]
    chosen = np.concatenate([found[True][0], found[False][0]])[:, 1:].astype(np.int64)
    chosen = chosen[np.lexsort((chosen[:, 1], chosen[:, 0]))]
    return chosen[:, 0], chosen[:, 1]
