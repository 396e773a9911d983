"""Split self-EER: how well clusters serve as speakers, measured without a label."""

import numpy as np

from pydino.base import keyed_uniform, purpose

from ..metrics import equal_error_rate
from ..plda_chain import train_plda_chain
from .numbering import number_clusters

MOST_UTTERANCES = 3000  # of a half that are scored, whole clusters: 4.5 million pairs


def split_self_eer(
    vectors: np.ndarray,
    labels: np.ndarray,
    hashes: np.ndarray,
    lda_dim: int,
    num_em_iterations: int = 10,
    seed: int = 0,
    splits: int = 1,
) -> float:
    """Return the split self-EER, in [0, 1].

    The utterances are divided into two halves at random. A PLDA trained on the clusters of one half scores
    all pairs of the other against its clusters: their equal error rate, both ways, and the mean over both
    ways and ``splits`` divisions. Clusters that say nothing about speakers cannot be told apart in utterances
    that the PLDA has not seen.

    It compares choices for the same embeddings. It is no estimate of the EER of speakers, and falls whenever
    clusters become more consistent with the embedding, as they do after a round of training on them.

    Args:
        vectors: (N, D) embeddings, in the order of ``hashes``.
        labels: (N,) clusters.
        hashes: (N,) uint64, of the utterances: the key of the draw.
        lda_dim, num_em_iterations: of the PLDA.
        seed: of the draw.
        splits: number of divisions.
    """
    found = []
    for number in range(splits):
        half = keyed_uniform(seed, hashes, number, purpose("half of a split self-EER")) < 0.5
        for trained in (half, ~half):
            found.append(_scored(vectors, labels, hashes, trained, lda_dim, num_em_iterations, seed))
    return float(np.mean(found))


def _scored(vectors, labels, hashes, trained, lda_dim, num_em_iterations, seed) -> float:
    chain = pseudo_plda(vectors[trained], labels[trained], lda_dim, num_em_iterations)
    if chain is None:
        return 0.5
    rest = np.flatnonzero(~trained)
    rest = rest[_some_clusters(labels[rest], hashes[rest], seed)]
    left, right = chain.comparison_features(vectors[rest], np.ones(len(rest)), vectors[rest])
    rows, columns = np.triu_indices(len(rest), 1)
    same = labels[rest][rows] == labels[rest][columns]
    if same.all() or not same.any():
        return 0.5
    return equal_error_rate((left @ right.T)[rows, columns], same)


def _some_clusters(labels, hashes, seed) -> np.ndarray:
    """Return which utterances are of the first clusters, in a random order, with MOST_UTTERANCES in all."""
    if len(labels) <= MOST_UTTERANCES:
        return np.ones(len(labels), dtype=bool)
    _, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(keyed_uniform(seed, hashes[first], purpose("clusters of a split self-EER")))
    kept = np.zeros(len(first), dtype=bool)
    kept[order[np.cumsum(counts[order]) <= MOST_UTTERANCES]] = True
    return kept[inverse]


def pseudo_plda(vectors, labels, lda_dim, num_em_iterations):
    """Return a PLDA chain trained on the clusters with two members or more, of the largest dimension up to
    ``lda_dim`` that they allow; None where they are too few to train one.
    """
    kept = np.bincount(labels)[labels] > 1
    chosen, classes = vectors[kept], number_clusters(labels[kept])
    count = int(classes.max(initial=-1)) + 1
    dim = min(lda_dim, vectors.shape[1], count - 1, len(chosen) - count)
    if dim < 1:
        return None
    return train_plda_chain(chosen, classes, dim, num_em_iterations)
