"""Clusters by density, from a library."""

import numpy as np

from ..vectors import normalise_length
from .numbering import number_clusters


def density_clusters(
    vectors: np.ndarray, min_cluster_size: int = 5, min_samples: int | None = None
) -> np.ndarray:
    """Cluster by HDBSCAN (Campello, Moulavi and Sander 2013; scikit-learn's), with no number of clusters.

    The distance is Euclidean between unit vectors, which orders as the cosine does. A vector that HDBSCAN
    calls noise becomes a cluster of its own. About N^2 D operations: meant for up to some 30,000 vectors.

    Args:
        vectors: (N, D); scaled to unit length here.
        min_cluster_size: fewest vectors of a cluster, 2 or more.
        min_samples: neighbours that make a place dense; None for ``min_cluster_size``.

    Returns:
        (N,) int64 labels in [0, C), numbered by first member.
    """
    from sklearn.cluster import HDBSCAN

    found = HDBSCAN(min_cluster_size=min_cluster_size, min_samples=min_samples, copy=True).fit_predict(
        normalise_length(vectors, scale_up=False)
    )
    noise = np.flatnonzero(found < 0)
    found[noise] = len(found) + noise
    return number_clusters(found)
