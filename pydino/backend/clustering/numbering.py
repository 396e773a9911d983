"""The numbers of clusters."""

import numpy as np


def number_clusters(labels: np.ndarray) -> np.ndarray:
    """Number clusters from 0 in the order of their first members, so that equal partitions have equal labels.

    Args:
        labels: (N,) of any sortable type.

    Returns:
        (N,) int64 in [0, C).
    """
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), dtype=np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    return numbers[inverse]
