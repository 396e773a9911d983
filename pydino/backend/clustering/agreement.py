"""How clusters agree with classes, where there are labels: diagnostics, which nothing is chosen by."""

import numpy as np


def agreement(clusters: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Return measures of the agreement of two partitions of N utterances, each in [0, 1].

    With n_kc utterances in cluster k and class c, n_k and n_c those in each, pairs(n) = n (n - 1) / 2, and
    entropies H and the mutual information I of the shares n_kc / N:

        purity             sum_k max_c n_kc / N
        inverse_purity     sum_c max_k n_kc / N
        pair_precision     sum_kc pairs(n_kc) / sum_k pairs(n_k); 1 where no cluster has two members
        pair_recall        sum_kc pairs(n_kc) / sum_c pairs(n_c); 1 where no class has two
        nmi                2 I / (H(clusters) + H(classes)); 1 where both are one group. It rises with the
                           number of clusters whatever their quality.

    Args:
        clusters: (N,) of any sortable type, N above 0.
        classes: (N,) of any sortable type.
    """
    _, clusters = np.unique(clusters, return_inverse=True)
    _, classes, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    cells, counts = np.unique(clusters * len(sizes) + classes, return_counts=True)
    rows, columns = np.divmod(cells, len(sizes))
    row_sizes = np.bincount(clusters)
    total = len(clusters)
    best_class, best_cluster = np.zeros(len(row_sizes)), np.zeros(len(sizes))
    np.maximum.at(best_class, rows, counts)
    np.maximum.at(best_cluster, columns, counts)
    shared, within, same = (float((n * (n - 1) / 2).sum()) for n in (counts, row_sizes, sizes))
    # n_k n_c overflows no int64 below three billion utterances
    information = (counts * np.log(counts * float(total) / (row_sizes[rows] * sizes[columns]))).sum() / total
    entropies = _entropy(row_sizes / total) + _entropy(sizes / total)
    return {
        "purity": float(best_class.sum() / total),
        "inverse_purity": float(best_cluster.sum() / total),
        "pair_precision": shared / within if within else 1.0,
        "pair_recall": shared / same if same else 1.0,
        "nmi": float(np.clip(2 * information / entropies, 0, 1)) if entropies > 0 else 1.0,
    }


def _entropy(shares: np.ndarray) -> float:
    return float(-(shares * np.log(shares)).sum())
