"""Clusters of embeddings, against scipy, scikit-learn, faiss and Kaldi's agglomerative-cluster."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from pydino.backend import normalise_length, train_plda
from pydino.backend.clustering import (
    Cells,
    average_link,
    density_clusters,
    kmeans,
    kmeans_average_link,
    make_cells,
    mutual_neighbours,
    nearest_centroids,
    nearest_neighbours,
    number_clusters,
    recall,
    shard,
    ward,
    why_degenerate,
)
from pydino.backend.clustering import neighbours as neighbours_module

FIXTURES = Path(__file__).parent / "fixtures/backend"


def made(count, centres, dim=16, spread=0.7, seed=0):
    """Unit vectors (count, dim) around random directions, the number of the direction of each, and hashes."""
    draws = np.random.default_rng(seed)
    directions = draws.standard_normal((centres, dim))
    truth = draws.integers(centres, size=count)
    vectors = directions[truth] + spread * draws.standard_normal((count, dim))
    hashes = draws.permutation(count).astype(np.uint64) * np.uint64(2**40) + np.uint64(7)
    return normalise_length(vectors, scale_up=False).astype(np.float32), truth, hashes


def mean_cosine(vectors, labels):
    """The objective of spherical k-means at the best centroids of a partition."""
    sums = np.zeros((labels.max() + 1, vectors.shape[1]))
    np.add.at(sums, labels, vectors.astype(np.float64))
    return np.linalg.norm(sums, axis=1).sum() / len(vectors)


def test_importing_the_package_imports_no_torch():
    code = "import sys, pydino.backend.clustering; sys.exit(bool({'torch', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0


def test_clusters_are_numbered_by_first_member():
    assert number_clusters(np.array([7, 3, 7, 9, 3, 0])).tolist() == [0, 1, 0, 2, 1, 3]
    assert number_clusters(np.array([], dtype=int)).tolist() == []


# k-means


def test_kmeans_finds_separate_clusters():
    vectors, truth, hashes = made(600, 8, spread=0.1)
    found = kmeans(
        vectors * np.linspace(0.5, 3, 600)[:, None].astype(np.float32), 8, 3, hashes, plus_plus=True
    )
    assert (number_clusters(found.labels) == number_clusters(truth)).all()
    expected = normalise_length(
        np.stack([vectors[found.labels == k].sum(0) for k in range(8)]), scale_up=False
    )
    assert np.abs(found.centroids - expected).max() < 1e-5
    assert found.similarities == pytest.approx((vectors * expected[found.labels]).sum(1), abs=1e-5)


@pytest.mark.parametrize("plus_plus", [False, True])
def test_an_iteration_never_loses(plus_plus):
    vectors, _, hashes = made(800, 30)
    objective = kmeans(vectors, 30, 5, hashes, tolerance=0, num_iterations=30, plus_plus=plus_plus).objective
    assert len(objective) > 3 and (np.diff(objective) > -1e-6).all()
    assert len(objective) < 31  # converged


def test_plus_plus_starts_in_every_cluster_where_a_random_draw_does_not():
    vectors, truth, hashes = made(500, 25, dim=32, spread=0.01)
    reached = {}
    for plus_plus in (False, True):
        start = kmeans(vectors, 25, 1, hashes, num_iterations=0, plus_plus=plus_plus).centroids
        reached[plus_plus] = len(set(truth[(start @ vectors.T).argmax(1)]))
    assert reached[False] < 25 and reached[True] == 25


def test_the_order_of_the_vectors_does_not_matter_their_hashes_do():
    vectors, _, hashes = made(400, 10)
    order = np.random.default_rng(1).permutation(400)
    first = kmeans(vectors, 10, 2, hashes)
    again = kmeans(vectors[order], 10, 2, hashes[order])
    assert (again.labels == first.labels[order]).all()
    other = kmeans(vectors, 10, 2, hashes[order], num_iterations=0)
    assert not np.allclose(other.centroids, kmeans(vectors, 10, 2, hashes, num_iterations=0).centroids)


def test_centroids_without_vectors_go_to_the_farthest():
    # Three copies of one vector are drawn as three centroids at some seed; two of them lose all vectors.
    vectors = np.concatenate([np.tile(np.eye(6, dtype=np.float32)[0], (50, 1)), np.eye(6, dtype=np.float32)])
    hashes = np.arange(56, dtype=np.uint64)
    found = kmeans(vectors, 6, 0, hashes)
    assert found.objective[0] < 0.95 and found.objective[-1] == pytest.approx(1)
    assert len(set(found.labels)) == 6


def test_a_sample_is_trained_on_and_all_are_assigned():
    vectors, _, hashes = made(3000, 20)
    whole = kmeans(vectors, 20, 1, hashes)
    part = kmeans(vectors, 20, 1, hashes, max_points_per_centroid=30)
    assert len(part.labels) == 3000
    assert (part.labels == (vectors @ part.centroids.T).argmax(1)).all()
    assert part.similarities.mean() > 0.97 * whole.similarities.mean()
    # Centroids fit the vectors that they were trained on better than the others.
    assert part.objective[-1] > part.similarities.mean() + 0.01
    assert whole.objective[-1] == pytest.approx(whole.similarities.mean(), abs=1e-3)


def test_candidates_are_enough():
    vectors, _, hashes = made(3000, 60, dim=32)
    whole, near = (kmeans(vectors, 200, 1, hashes, num_candidates=number) for number in (None, 20))
    assert (np.diff(near.objective) > -1e-6).all()
    assert near.objective[0] == whole.objective[0]
    assert near.similarities.mean() == pytest.approx(whole.similarities.mean(), rel=0.005)
    assert near.similarities == pytest.approx((vectors * near.centroids[near.labels]).sum(1), abs=1e-5)
    every = kmeans(vectors, 200, 1, hashes, num_candidates=199)
    assert (every.labels == whole.labels).mean() > 0.99
    assert near.similarities.mean() > kmeans(vectors, 200, 1, hashes, num_iterations=1).similarities.mean()


def test_bfloat16_decides_almost_as_well():
    vectors, _, hashes = made(2000, 40, dim=64)
    exact, rounded = (kmeans(vectors, 40, 1, hashes, precision=name) for name in ("float32", "bfloat16"))
    assert rounded.similarities.mean() == pytest.approx(exact.similarities.mean(), rel=0.01)
    # What is reported is not rounded.
    cosines = (vectors * rounded.centroids[rounded.labels]).sum(1)
    assert rounded.similarities == pytest.approx(cosines, abs=1e-5)


def test_blocks_of_kmeans_do_not_show(monkeypatch):
    vectors, _, hashes = made(500, 10)
    expected = kmeans(vectors, 10, 1, hashes)
    monkeypatch.setattr(shard, "_CHUNK", 64)
    monkeypatch.setattr(shard, "_SCORES", {"cpu": 10})
    found = kmeans(vectors, 10, 1, hashes)
    assert (found.labels == expected.labels).all()
    assert np.allclose(found.centroids, expected.centroids, atol=1e-5)


def test_nearest_centroids_by_hand():
    vectors, _, _ = made(50, 5)
    centroids = made(9, 9, seed=1)[0]
    indices, cosines = nearest_centroids(vectors, centroids, 3)
    expected = vectors @ centroids.T
    assert (indices == np.argsort(-expected, axis=1)[:, :3]).all()
    assert cosines == pytest.approx(-np.sort(-expected, axis=1)[:, :3], abs=1e-6)


def test_kmeans_refuses_what_cannot_be():
    vectors, _, hashes = made(10, 2)
    for wrong in (0, 11):
        with pytest.raises(ValueError, match=f"{wrong} clusters of 10 vectors"):
            kmeans(vectors, wrong, 0, hashes)
    with pytest.raises(ValueError, match="10 vectors have 9 hashes"):
        kmeans(vectors, 2, 0, hashes[1:])
    with pytest.raises(ValueError, match="unknown precision 'half'"):
        kmeans(vectors, 2, 0, hashes, precision="half")


CASES = ({}, {"plus_plus": True}, {"max_points_per_centroid": 10}, {"num_candidates": 3})


def a_shard(rank, folder):
    """The results of one of two processes."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(minutes=2)
    )
    vectors, _, hashes = made(400, 12)
    part = slice(0, 150) if rank == 0 else slice(150, 400)
    results = [kmeans(vectors[part], 12, 4, hashes[part], **case) for case in CASES]
    # More centroids than the smaller shard has vectors, and some that have to be put elsewhere.
    same = np.concatenate([np.tile(vectors[0], (60, 1)), vectors[:40]])
    part = slice(0, 10) if rank == 0 else slice(10, 100)
    results.append(kmeans(same[part], 20, 4, hashes[:100][part]))
    if rank == 0:  # by itself, with all vectors: it would wait for the other for ever
        results.append(kmeans(vectors, 12, 4, hashes, max_points_per_centroid=10, sharded=False))
    dist.destroy_process_group()
    torch.save([(r.centroids, r.labels, r.objective) for r in results], folder / f"{rank}.pt")


def test_two_processes_find_what_one_finds(tmp_path):
    other = torch.multiprocessing.get_context("spawn").Process(target=a_shard, args=(1, tmp_path))
    other.start()
    a_shard(0, tmp_path)
    other.join()
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in (0, 1)]
    vectors, _, hashes = made(400, 12)
    expected = [kmeans(vectors, 12, 4, hashes, **case) for case in CASES]
    same = np.concatenate([np.tile(vectors[0], (60, 1)), vectors[:40]])
    expected.append(kmeans(same, 20, 4, hashes[:100]))
    alone = shares[0].pop()
    assert (alone[0] == expected[2].centroids).all() and (alone[1] == expected[2].labels).all()
    for one, first, second in zip(expected, *shares, strict=True):
        assert (first[0] == second[0]).all()
        assert np.allclose(first[0], one.centroids, atol=1e-5)
        assert (np.concatenate([first[1], second[1]]) == one.labels).all()
        assert first[2] == pytest.approx(one.objective, abs=1e-6)


def test_kmeans_is_as_good_as_faiss():
    faiss = pytest.importorskip("faiss")
    vectors, _, hashes = made(5000, 50, dim=32, spread=0.5)
    theirs = faiss.Kmeans(32, 50, niter=20, seed=1, spherical=True, verbose=False)
    theirs.train(vectors)
    labels = theirs.index.search(vectors, 1)[1][:, 0]
    ours = kmeans(vectors, 50, 1, hashes).labels
    assert mean_cosine(vectors, ours) > 0.99 * mean_cosine(vectors, labels)


# Agglomerative clustering


@pytest.fixture(scope="module")
def points():
    return made(300, 20)


@pytest.mark.parametrize("method", ["average", "ward"])
def test_agglomerative_clustering_is_scipys(points, method):
    unit = points[0]
    distances = pdist(unit.astype(np.float64)) ** (2 if method == "average" else 1)
    tree = linkage(distances / 2 if method == "average" else unit.astype(np.float64), method)
    for number in (1, 2, 7, 20, 100, 299, 300):
        options = {"num_clusters": number}
        found = average_link(unit, unit, **options) if method == "average" else ward(unit, **options)
        assert (found == number_clusters(fcluster(tree, number, "maxclust"))).all()
    for limit in (0.05, 0.2, 0.5, 0.9, 2.5):
        if method == "average":
            found = average_link(unit, unit, threshold=1 - limit)  # cosine distance
        else:
            found = ward(unit, threshold=limit)
        assert (found == number_clusters(fcluster(tree, limit, "distance"))).all()


@pytest.mark.parametrize("method", ["average", "ward"])
def test_clusters_to_begin_with_weigh_as_their_members(points, method):
    """Beginning with groups of equal vectors gives what all the vectors give, and not what one of each does."""
    sizes = np.random.default_rng(2).integers(1, 9, size=60)
    start = np.repeat(np.arange(60), sizes)
    vectors = points[0][:60][start]
    tree = linkage(
        vectors.astype(np.float64), method, metric="cosine" if method == "average" else "euclidean"
    )
    for number in (3, 10, 40):
        if method == "average":
            found = average_link(vectors, vectors, num_clusters=number, start=start)
        else:
            found = ward(vectors, num_clusters=number, start=start)
        assert (found == number_clusters(fcluster(tree, number, "maxclust"))).all()


def test_agglomerative_clustering_is_kaldis():
    stored = np.load(FIXTURES / "agglomerative.npz")
    wanted = {"reco0": 4, "reco1": 3, "reco2": 2}
    for reco, number in wanted.items():
        scores, costs = stored[f"scores_{reco}"], stored[f"costs_{reco}"]
        identity = np.eye(len(scores), dtype=np.float32)
        for labels, similarity, options in (
            (4, scores, {"threshold": 0.0}),
            (5, scores, {"threshold": -0.8}),
            (7, scores, {"num_clusters": number}),
            (8, -costs, {"threshold": -0.7}),
        ):
            found = average_link(similarity, identity, **options)
            assert (found == number_clusters(stored[f"labels_{labels}_{reco}"])).all()


def test_plda_clusters_by_the_average_of_all_ratios():
    """Against the greedy algorithm on the full matrix of log-likelihood ratios, from some clusters on."""
    vectors, truth, _ = made(150, 12, dim=8, spread=0.6)
    plda = train_plda(vectors.astype(np.float64), truth)
    projected = plda.project(vectors)
    left, right = plda.comparison_features(projected, 1, projected)
    ratios = left @ right.T
    start = number_clusters(truth * 4 + np.arange(150) % 4)
    clusters = [list(np.flatnonzero(start == k)) for k in range(start.max() + 1)]
    while True:
        means = np.array([[ratios[np.ix_(a, b)].mean() for b in clusters] for a in clusters])
        np.fill_diagonal(means, -np.inf)
        a, b = sorted(divmod(int(means.argmax()), len(clusters)))
        if means[a, b] < 1.5:
            break
        clusters[a] += clusters.pop(b)
    expected = np.empty(150, dtype=int)
    for k, members in enumerate(clusters):
        expected[members] = k
    found = average_link(left, right, threshold=1.5, start=start)
    assert 3 < len(clusters) < start.max() and (found == number_clusters(expected)).all()


def test_equal_vectors_end_the_chain():
    assert average_link(np.ones((9, 1)), np.ones((9, 1)), threshold=0.5).tolist() == [0] * 9
    assert ward(np.ones((9, 2)), num_clusters=3).max() == 2
    assert average_link(np.ones((1, 1)), np.ones((1, 1)), num_clusters=1).tolist() == [0]


def test_two_levels_find_the_directions():
    vectors, truth, hashes = made(2000, 30, dim=32, spread=0.2)
    found = kmeans_average_link(vectors * 3, 200, 1, hashes, threshold=0.5)
    assert (found == number_clusters(truth)).all()
    found = kmeans_average_link(vectors, 200, 1, hashes, num_clusters=30, features=(vectors, vectors))
    assert (found == number_clusters(truth)).all()


def test_agglomerative_clustering_says_what_is_wrong():
    unit = made(10, 2)[0]
    for options in ({}, {"threshold": 0.5, "num_clusters": 2}):
        with pytest.raises(ValueError, match="one of the two"):
            average_link(unit, unit, **options)
    with pytest.raises(ValueError, match="11 clusters of 10"):
        ward(unit, num_clusters=11)
    with pytest.raises(ValueError, match="cluster 1 has no vector"):
        ward(unit, num_clusters=1, start=np.array([0] * 5 + [2] * 5))
    with pytest.raises(ValueError, match="10 vectors have 9 labels"):
        ward(unit, num_clusters=1, start=np.arange(9))


# Neighbours


def sorted_neighbours(similarity, k):
    similarity = similarity.copy()
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(similarity, order, axis=1)


@pytest.mark.parametrize("k", [1, 5, 60, 299])
@pytest.mark.parametrize("block", [1 << 24, 2000])
def test_neighbours_are_those_of_a_full_sort(points, monkeypatch, k, block):
    monkeypatch.setattr(neighbours_module, "_BLOCK_CELLS", block)
    left, right = points[0], points[0] * np.linspace(0.5, 1.5, 300, dtype=np.float32)[:, None]
    expected, values = sorted_neighbours(left.astype(np.float64) @ right.T.astype(np.float64), k)
    indices, similarities = nearest_neighbours(left, right, k)
    assert (indices == expected).mean() > 0.9999
    assert similarities == pytest.approx(values, abs=1e-6)


def test_equal_similarities_are_in_the_order_of_indices(monkeypatch):
    left = np.random.default_rng(0).integers(0, 2, size=(400, 4)).astype(np.float32)
    similarity = left @ left.T
    for k in (3, 40):
        expected, _ = sorted_neighbours(similarity, k)
        assert (nearest_neighbours(left, left, k)[0] == expected).all()
        cells = Cells(np.arange(400) % 7, np.tile(np.arange(7), (400, 1)), 7)
        assert (nearest_neighbours(left, left, k, cells)[0] == expected).all()


def test_cells_find_most_neighbours_and_all_of_them_where_all_are_probed():
    unit, _, hashes = made(2000, 60)
    exact, similarities = nearest_neighbours(unit, unit, 6)
    everywhere = nearest_neighbours(unit, unit, 6, make_cells(unit, 1, hashes, 30, 30))
    assert recall(everywhere[0], exact) > 0.9999
    assert everywhere[1] == pytest.approx(similarities, abs=1e-6)
    few = nearest_neighbours(unit, unit, 6, make_cells(unit, 1, hashes, 30, 4))[0]
    assert 0.9 < recall(few, exact) < 1


def test_cells_with_few_members_leave_places_empty():
    unit = made(6, 6)[0]
    cells = Cells(np.array([0, 0, 0, 1, 1, 3]), np.array([[0], [0], [0], [1], [1], [3]]), 4)
    indices, similarities = nearest_neighbours(unit, unit, 2, cells)
    assert [sorted(row) for row in indices.tolist()] == [[1, 2], [0, 2], [0, 1], [-1, 4], [-1, 3], [-1, -1]]
    assert ((indices == -1) == np.isneginf(similarities)).all()
    graph = mutual_neighbours(indices, similarities)
    assert graph.nnz == 8 and np.isfinite(graph.data).all()


def test_recall_counts_the_exact_neighbours():
    exact = np.array([[1, 2], [0, 2], [0, 1]])
    assert recall(np.array([[2, 1], [0, -1], [-1, -1]]), exact) == 0.5


def test_the_graph_joins_mutual_neighbours(points):
    indices, similarities = nearest_neighbours(points[0], points[0], 4)
    similarities[similarities == similarities[3, 1]] = 0  # no weight is lost for being 0
    graph = mutual_neighbours(indices, similarities)
    chosen = np.zeros((300, 300), dtype=bool)
    chosen[np.arange(300)[:, None], indices] = True
    weights = np.zeros((300, 300))
    weights[np.arange(300)[:, None], indices] = similarities
    mutual = chosen & chosen.T
    assert graph.nnz == mutual.sum()
    row, column = np.nonzero(mutual)
    assert (graph.indices == column).all() and (np.diff(graph.indptr) == mutual.sum(1)).all()
    assert graph.data == pytest.approx((weights + weights.T)[row, column] / 2, abs=1e-6)


def test_neighbours_refuse_what_cannot_be(points):
    with pytest.raises(ValueError, match="300 neighbours of 300 vectors; possible are 1 to 299"):
        nearest_neighbours(points[0], points[0], 300)
    with pytest.raises(ValueError, match="300 vectors on the left, 299 on the right"):
        nearest_neighbours(points[0], points[0][1:], 3)


# Density


def test_density_clusters_and_lone_vectors():
    vectors, truth, _ = made(200, 6, dim=32, spread=0.1)
    lone = made(3, 3, dim=32, seed=9)[0]
    found = density_clusters(np.concatenate([vectors, lone]), min_cluster_size=5)
    assert (found == number_clusters(np.concatenate([truth, [97, 98, 99]]))).all()


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ([10], "the only cluster has 10 of the 10 utterances"),
        ([6, 4], "one of the 2 clusters has 6 of the 10 utterances"),
        ([1, 1, 1], "0 of the 3 clusters of 3 utterances have two members or more"),
        ([2, 1, 1, 1], "1 of the 4 clusters of 5 utterances have two members or more"),
        ([1], "0 of the 1 clusters"),
        ([5, 5], ""),
        ([4, 3, 3], ""),
        ([2, 2, 1, 1, 1], ""),
    ],
)
def test_degenerate_clusters_are_told_apart_by_their_sizes(sizes, said):
    assert why_degenerate(np.repeat(np.arange(len(sizes)), sizes)).startswith(said)
    assert bool(why_degenerate(np.repeat(np.arange(len(sizes)), sizes))) == bool(said)
