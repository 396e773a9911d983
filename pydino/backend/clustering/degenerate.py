"""Clusters that are no pseudo-labels: a single one, or nearly so, or none that has two members."""

import numpy as np

MOST = 0.5  # of the utterances, in one cluster


def why_degenerate(labels: np.ndarray) -> str:
    """Return why nothing can be learnt from clusters as classes, as the end of a sentence, or an empty
    string.

    Args:
        labels: (N,) ints in [0, C), the cluster of each utterance.
    """
    sizes = np.bincount(labels)
    largest, several = int(sizes.max(initial=0)), int(np.count_nonzero(sizes > 1))
    if largest > MOST * len(labels) and largest > 1:
        one = "the only cluster" if len(sizes) == 1 else f"one of the {len(sizes)} clusters"
        return f"{one} has {largest} of the {len(labels)} utterances"
    if several < 2:
        return f"{several} of the {len(sizes)} clusters of {len(labels)} utterances have two members or more"
    return ""
