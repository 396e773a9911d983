"""Clusters of a mutual nearest-neighbour graph by weighted label propagation: no number of clusters is given.

Raghavan, Albert and Kumara 2007, "Near linear time algorithm to detect community structures in large-scale
networks", with the semi-synchronous order of Cordasco and Gargano 2010: the nodes are coloured so that no two
neighbours share a colour, and all nodes of a colour are updated at once, which is an asynchronous order, so
that labels do not oscillate.

Nodes are numbered in the order of their utterances' hashes: priorities and ties go by number, so the numbers
must not depend on names. Axes: N nodes, E directed edges.
"""

import numpy as np

from pydino.base import keyed_bits, purpose

from .numbering import number_clusters

SWEEPS = 100  # at most; a few dozen suffice


def edge_weights(scores: np.ndarray) -> np.ndarray:
    """Return weights of edges in [1, 2]: scores (E,), of any scale, moved to that range linearly.

    So the number of neighbours with a label counts first, and how near they are decides between labels with
    almost as many.
    """
    low, high = scores.min(initial=np.inf), scores.max(initial=-np.inf)
    return 1.0 + (scores - low) / (high - low) if high > low else np.ones(len(scores))


def propagate_labels(graph) -> np.ndarray:
    """Return the cluster of each node, (N,) int64, numbered from 0 in the order of the first member.

    Every node begins with a label of its own and takes the one with the largest sum of weights among its
    neighbours (its own where that is one of them, else the smallest number), until nothing changes or after
    ``SWEEPS`` sweeps. A node without a neighbour is a cluster by itself.

    Args:
        graph: (N, N) scipy.sparse CSR, symmetric, weights above 0, no loops.
    """
    count = graph.shape[0]
    labels = np.arange(count, dtype=np.int64)
    sources = np.repeat(labels, np.diff(graph.indptr))
    colours = _colours(graph, sources)
    order = np.argsort(colours[sources], kind="stable")
    ends = np.cumsum(np.bincount(colours[sources], minlength=colours.max(initial=0) + 1))
    parts = np.split(order, ends[:-1])
    for _ in range(SWEEPS):
        changed = False
        for edges in parts:
            if len(edges):
                changed |= _update(labels, sources[edges], graph.indices[edges], graph.data[edges])
        if not changed:
            break
    return number_clusters(labels)


def _update(labels, nodes, neighbours, weights) -> bool:
    """Update in place the labels of ``nodes``, the sources of edges in ascending order, no two of them
    neighbours; returns whether any changed.
    """
    wanted = labels[neighbours]
    order = np.lexsort((wanted, nodes))
    nodes, wanted, weights = nodes[order], wanted[order], weights[order]
    starts = np.flatnonzero(np.r_[True, (nodes[1:] != nodes[:-1]) | (wanted[1:] != wanted[:-1])])
    nodes, wanted, sums = nodes[starts], wanted[starts], np.add.reduceat(weights, starts)
    # sums that are equal but for rounding are equal
    first = np.flatnonzero(np.r_[True, nodes[1:] != nodes[:-1]])
    best = np.repeat(np.maximum.reduceat(sums, first), np.diff(np.r_[first, len(nodes)]))
    among = sums >= best * (1 - 1e-9)
    nodes, wanted = nodes[among], wanted[among]
    keeps = wanted == labels[nodes]
    order = np.lexsort((wanted, ~keeps, nodes))
    nodes, wanted = nodes[order], wanted[order]
    chosen = np.flatnonzero(np.r_[True, nodes[1:] != nodes[:-1]])
    nodes, wanted = nodes[chosen], wanted[chosen]
    changed = bool((labels[nodes] != wanted).any())
    labels[nodes] = wanted
    return changed


def _colours(graph, sources) -> np.ndarray:
    """Return colours (N,) from 0, of which neighbours have different ones (Jones and Plassmann 1993): of the
    nodes without a colour, those that come before all their neighbours without one take the smallest that is
    free, again and again.
    """
    count = graph.shape[0]
    colours = np.full(count, -1, dtype=np.int64)
    # a random-looking priority that depends on the number alone: a chain of neighbours whose numbers ascend
    # would be coloured one node at a time
    draws = keyed_bits(purpose("colours of label propagation"), np.arange(count, dtype=np.uint64))
    priority = np.argsort(np.argsort(draws, kind="stable"))
    open_sources, open_targets = sources, graph.indices
    while (colours < 0).any():
        waiting = np.flatnonzero(colours < 0)
        lowest = np.full(count, count, dtype=np.int64)
        np.minimum.at(lowest, open_sources, priority[open_targets])
        ready = waiting[priority[waiting] < lowest[waiting]]
        is_ready = np.zeros(count, dtype=bool)
        is_ready[ready] = True
        mine = is_ready[sources]
        taken = colours[graph.indices[mine]]
        colours[ready] = _smallest_free(count, sources[mine][taken >= 0], taken[taken >= 0])[ready]
        open_ = (colours[open_sources] < 0) & (colours[open_targets] < 0)
        open_sources, open_targets = open_sources[open_], open_targets[open_]
    return colours


def _smallest_free(count: int, nodes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Return for each of ``count`` nodes the smallest number that no pair (node, taken) has."""
    free, colour = np.zeros(count, dtype=np.int64), 0
    while len(nodes):
        has = np.zeros(count, dtype=bool)
        has[nodes[taken == colour]] = True
        free[has & (free == colour)] = colour + 1
        rest = taken > colour
        nodes, taken, colour = nodes[rest], taken[rest], colour + 1
    return free
