"""Scores of pairs of single embeddings, whose mean is known: what decides whether two have one speaker."""

from dataclasses import replace

import numpy as np

from .plda_chain import PldaChain
from .vectors import normalise_length


def pair_features(
    vectors: np.ndarray, mean: np.ndarray, chain: PldaChain | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return both sides (N, K) of the scores of pairs: that of i and j is left[i] @ right[j].

    Without a chain it is the cosine of the embeddings minus their mean; with one the log-likelihood ratio of
    its PLDA in nats, the mean taking the place of the chain's, as in ``steps/adapt_plda.sh``.

    Args:
        vectors: (N, D) raw embeddings.
        mean: (D,) of embeddings of this kind.
    """
    if chain is None:
        unit = normalise_length(np.asarray(vectors, dtype=np.float64) - mean, scale_up=False)
        return unit, unit
    return replace(chain, mean=mean).comparison_features(vectors, 1, vectors)
