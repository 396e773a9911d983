"""Clusters of a stream and their memory, against loops over vectors in float64."""

from collections import Counter, deque

import numpy as np
import torch

from pydino.ssl import ClusterMemory, OnlineClusters


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def by_a_loop(centroids, vectors, momentum):
    """One batch: the formula, a cluster after the other."""
    clusters = np.array([np.argmax(centroids @ z) for z in unit(vectors)])
    moved = centroids.copy()
    for k in set(clusters.tolist()):
        moved[k] = unit(momentum * centroids[k] + (1 - momentum) * unit(vectors)[clusters == k].mean(0))
    return moved, clusters


def test_centroids_move_by_the_formula():
    torch.manual_seed(0)
    online, rng = OnlineClusters(7, 5, 0.8).double(), np.random.default_rng(0)
    expected, wins = online.centroids.numpy().copy(), Counter()
    for size in (12, 1, 30):
        vectors = rng.normal(size=(size, 5)) * rng.uniform(0.1, 9, (size, 1))
        expected, clusters = by_a_loop(expected, vectors, 0.8)
        assert online.update(torch.from_numpy(vectors)).tolist() == clusters.tolist()
        np.testing.assert_allclose(online.centroids, expected, atol=1e-12)
        wins.update(clusters.tolist())
    assert online.wins.tolist() == [wins[k] for k in range(7)]


def test_without_momentum_a_whole_batch_is_an_iteration_of_lloyds_algorithm():
    """It converges on clusters that are apart, whose centroids are the directions of their sums."""
    rng = np.random.default_rng(1)
    directions = unit(rng.normal(size=(4, 16)))
    labels = np.arange(80) % 4
    vectors = torch.from_numpy(unit(directions[labels] + 0.05 * rng.normal(size=(80, 16))))
    online = OnlineClusters(4, 16, 0.0).double()
    online.centroids.copy_(vectors[:4])
    for _ in range(3):
        found = online.update(vectors)
    assert (found.numpy() == labels).all()
    sums = np.stack([vectors.numpy()[labels == k].sum(0) for k in range(4)])
    np.testing.assert_allclose(online.centroids, unit(sums), atol=1e-12)


def test_the_nearest_other_clusters_are_those_of_the_largest_cosines():
    online = OnlineClusters(9, 4, 0.9)
    cosines = online.centroids.numpy() @ online.centroids.numpy().T - 4 * np.eye(9)
    clusters = torch.tensor([3, 8, 3, 0])
    expected = np.argsort(-cosines, axis=1)[clusters.numpy(), :3]
    assert online.nearest_others(clusters, 3).tolist() == expected.tolist()


def test_centroids_that_won_nothing_go_to_recent_vectors_and_the_others_stay():
    online, rng = OnlineClusters(6, 3, 0.9), np.random.default_rng(2)
    vectors = torch.from_numpy(rng.normal(size=(15, 3))).float()
    for start, stop in ((0, 2), (2, 10), (10, 15)):  # the second batch is larger than the ring
        online.update(vectors[start:stop])
    recent = {tuple(row) for row in torch.nn.functional.normalize(vectors[9:], dim=-1).tolist()}
    assert {tuple(row) for row in online.recent.tolist()} == recent
    online.wins.copy_(torch.tensor([0, 2, 0, 0, 1, 0]))
    before, order = online.centroids.clone(), torch.tensor([4, 0, 5, 1, 2, 3])
    assert online.revive(order).tolist() == [0, 2, 3, 5]
    assert torch.equal(online.centroids[[0, 2, 3, 5]], online.recent[order[:4]])
    assert torch.equal(online.centroids[[1, 4]], before[[1, 4]]) and not online.wins.any()


def test_before_k_vectors_were_seen_only_those_revive_centroids():
    online = OnlineClusters(6, 3, 0.9)
    online.update(torch.eye(3)[:2])
    online.wins.zero_()
    assert online.revive(torch.tensor([5, 1, 4, 0, 3, 2])).tolist() == [0, 1]
    assert torch.equal(online.centroids[:2], torch.eye(3)[[1, 0]])


def filled(pushes, number=4, length=3):
    """A memory, and rings as lists of (hash, entry)."""
    memory, rings = ClusterMemory(number, length, (2, 1)), [deque(maxlen=length) for _ in range(number)]
    for clusters, hashes in pushes:
        entries = np.random.default_rng(len(hashes)).normal(size=len(hashes))
        tensor = torch.from_numpy(entries).float()[:, None, None].repeat(1, 2, 1)
        memory.push(torch.tensor(clusters), tensor, torch.tensor(hashes))
        for cluster, key, entry in zip(clusters, hashes, tensor[:, 0, 0].tolist(), strict=True):
            rings[cluster].append((key, entry))
    return memory, rings


def test_the_memory_keeps_the_latest_of_each_cluster_and_draws_those_of_others_alike():
    rng = np.random.default_rng(3)
    pushes = [(rng.integers(0, 3, n).tolist(), rng.integers(0, 6, n).tolist()) for n in (1, 5, 20, 2, 11)]
    for last in range(
        1, len(pushes) + 1
    ):  # rings that are partly full, and more of a cluster than a ring holds
        memory, rings = filled(pushes[:last])
        uniform = torch.arange(0.0005, 1, 0.001, dtype=torch.float64)
        for cluster in range(4):
            for own in range(6):
                clusters, hashes = torch.full((1000,), cluster), torch.full((1000,), own)
                found, there = memory.draw(clusters, hashes, uniform)
                wanted = [entry for key, entry in rings[cluster] if key != own]
                assert there.tolist() == [bool(wanted)] * 1000
                if wanted:
                    met = Counter(found[:, 1, 0].tolist())
                    assert met.keys() == set(wanted)
                    assert max(abs(n - 1000 / len(wanted)) for n in met.values()) <= 1


def test_what_is_forgotten_is_not_drawn():
    memory, _ = filled([([0, 1, 1], [5, 6, 7])])
    memory.forget(torch.tensor([1]))
    _, there = memory.draw(torch.tensor([0, 1]), torch.tensor([9, 9]), torch.zeros(2))
    assert there.tolist() == [True, False]
