"""Clusters without a number of clusters: the parts against their definitions, the chain on synthetic
speakers.
"""

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import multivariate_normal

from pydino.backend import equal_error_rate, train_plda_chain
from pydino.backend.clustering import (
    METHODS,
    Embedded,
    PseudoSpeakersConfig,
    agreement,
    class_evidence,
    edge_weights,
    merge_by_evidence,
    propagate_labels,
    pseudo_speakers,
    split_self_eer,
    standardised,
    treatments,
)


def speakers(count=30, each=10, dim=16, spread=0.45, seed=0):
    """Vectors (N, D) of speakers in a random order, which are theirs (N,), and ascending hashes (N,)."""
    draw = np.random.default_rng(seed)
    classes = draw.permutation(np.repeat(np.arange(count), each))
    vectors = draw.normal(size=(count, dim))[classes] + spread * draw.normal(size=(len(classes), dim))
    hashes = np.sort(draw.choice(2**62, len(classes), replace=False).astype(np.uint64))
    return vectors, classes, hashes


def graph_of(edges, count):
    rows, columns, weights = zip(*[(i, j, w) for a, b, w in edges for i, j in ((a, b), (b, a))], strict=True)
    graph = csr_array((np.array(weights, dtype=float), (rows, columns)), shape=(count, count))
    graph.sort_indices()
    return graph


def random_graph(count, degree, seed):
    draw = np.random.default_rng(seed)
    pairs = {tuple(sorted(p)) for p in draw.integers(0, count, (count * degree // 2, 2)) if p[0] != p[1]}
    return graph_of([(a, b, 1 + draw.random()) for a, b in sorted(pairs)], count)


def test_two_cliques_with_a_bridge_are_two_clusters_and_a_lone_node_is_one():
    cliques = [(a, b, 1.0) for base in (0, 4) for a in range(base, base + 4) for b in range(a + 1, base + 4)]
    labels = propagate_labels(graph_of([*cliques, (3, 4, 1.0)], 9))
    assert labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_propagation_ends_where_no_node_wants_another_label(seed):
    graph = random_graph(300, 6, seed)
    labels = propagate_labels(graph)
    one_hot = np.eye(labels.max() + 1)[labels]
    support = graph @ one_hot
    own = support[np.arange(300), labels]
    assert (own >= support.max(axis=1) * (1 - 1e-9))[np.diff(graph.indptr) > 0].all()


def test_propagation_is_as_good_as_another_implementation_of_it():
    networkx = pytest.importorskip("networkx")
    vectors, classes, _ = speakers(40, 8, spread=0.6)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit @ unit.T - 2 * np.eye(len(unit))
    near = np.zeros(cosine.shape, dtype=bool)
    np.put_along_axis(near, np.argsort(-cosine, axis=1)[:, :6], True, axis=1)
    dense = np.where(near & near.T, cosine + 1, 0)
    theirs = np.zeros(len(unit), dtype=int)
    communities = networkx.algorithms.community.asyn_lpa_communities(
        networkx.from_numpy_array(dense), weight="weight", seed=0
    )
    for number, members in enumerate(communities):
        theirs[list(members)] = number
    graph = csr_array(dense)
    graph.data = edge_weights(graph.data)
    ours, reference = agreement(propagate_labels(graph), classes), agreement(theirs, classes)
    assert reference["pair_precision"] > 0.7
    for name in ("pair_precision", "pair_recall"):
        assert ours[name] > reference[name] - 0.06, (name, ours, reference)


def test_weights_are_between_one_and_two():
    np.testing.assert_allclose(edge_weights(np.array([-3.0, 1.0, -1.0])), [1.0, 2.0, 1.5])
    np.testing.assert_allclose(edge_weights(np.array([0.3, 0.3])), [1.0, 1.0])


def evidence_by_definition(psi, members):
    """ln p(x_1 ... x_n of one class) - sum ln N(x_k; 0, 1), by the covariance of all of them together."""
    n, dim = members.shape
    total = 0.0
    for i in range(dim):
        joint = multivariate_normal(np.zeros(n), np.eye(n) + psi[i] * np.ones((n, n)))
        total += joint.logpdf(members[:, i]) - multivariate_normal(np.zeros(n), np.eye(n)).logpdf(
            members[:, i]
        )
    return total


def test_the_evidence_of_a_class_is_that_of_the_gaussian():
    draw = np.random.default_rng(1)
    psi = np.array([4.0, 1.0, 0.0])
    members = [draw.normal(size=(n, 3)) for n in (1, 2, 5)]
    found = class_evidence(psi, np.array([1.0, 2.0, 5.0]), np.array([m.sum(axis=0) for m in members]))
    np.testing.assert_allclose(found, [evidence_by_definition(psi, m) for m in members], atol=1e-10)


def merged_by_brute_force(psi, vectors, bound):
    clusters = [[i] for i in range(len(vectors))]

    def evidence(members):
        return class_evidence(psi, np.array([float(len(members))]), vectors[members].sum(axis=0)[None])[0]

    while len(clusters) > 1:
        gains = {
            (a, b): evidence(clusters[a] + clusters[b]) - evidence(clusters[a]) - evidence(clusters[b])
            for a in range(len(clusters))
            for b in range(a + 1, len(clusters))
        }
        (a, b), gain = max(gains.items(), key=lambda item: item[1])
        if gain <= bound:
            break
        clusters[a] += clusters.pop(b)
    labels = np.empty(len(vectors), dtype=int)
    for number, members in enumerate(sorted(map(sorted, clusters))):
        labels[members] = number
    return labels


@pytest.mark.parametrize("bound", [0.0, 2.0, 6.0])
def test_merging_is_greedy_over_all_pairs(bound):
    vectors, _, _ = speakers(6, 6, dim=4, spread=0.5, seed=3)
    psi = np.array([6.0, 5.0, 4.0, 3.0])
    vectors = vectors * 2
    everyone = np.tile(np.arange(len(vectors)), (len(vectors), 1))
    found = merge_by_evidence(psi, vectors, everyone, bound)
    assert found.tolist() == merged_by_brute_force(psi, vectors, bound).tolist()
    assert 1 < found.max() + 1 < len(vectors)


def test_merging_goes_on_from_clusters_and_keeps_to_the_candidates():
    psi, vectors = np.array([9.0]), np.array([[3.0], [3.1], [-3.0], [-3.1]])
    nobody = np.arange(4)[:, None]
    assert merge_by_evidence(psi, vectors, nobody, 0.0).tolist() == [0, 1, 2, 3]
    assert merge_by_evidence(psi, vectors, nobody, 0.0, np.array([7, 5, 5, 6])).tolist() == [0, 1, 1, 2]
    one_way = np.array([[1], [1], [2], [2]])  # a candidate in one direction is enough
    assert merge_by_evidence(psi, vectors, one_way, 0.0).tolist() == [0, 0, 1, 1]


def test_agreement_is_that_of_its_definitions():
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(2)
    clusters, classes = draw.integers(0, 12, 200), draw.integers(0, 7, 200)
    found = agreement(clusters, classes)
    pairs = np.triu_indices(200, 1)
    together, same = clusters[pairs[0]] == clusters[pairs[1]], classes[pairs[0]] == classes[pairs[1]]
    assert found["pair_precision"] == pytest.approx(same[together].mean())
    assert found["pair_recall"] == pytest.approx(together[same].mean())
    assert found["nmi"] == pytest.approx(metrics.normalized_mutual_info_score(classes, clusters))
    table = metrics.cluster.contingency_matrix(classes, clusters)
    assert found["purity"] == pytest.approx(table.max(axis=0).sum() / 200)
    assert found["inverse_purity"] == pytest.approx(table.max(axis=1).sum() / 200)
    assert agreement(["a", "b"], [1, 2]) == dict.fromkeys(found, 1.0)


def test_split_self_eer_prefers_speakers_to_other_partitions():
    vectors, classes, hashes = speakers(40, 8)
    right = split_self_eer(vectors, classes, hashes, 8)
    draw = np.random.default_rng(4)
    halved = 2 * classes + draw.integers(0, 2, len(classes))
    blurred = np.where(draw.random(len(classes)) < 0.3, draw.permutation(classes), classes)
    scrambled = split_self_eer(vectors, draw.permutation(classes), hashes, 8)
    assert right < 0.07
    assert right < split_self_eer(vectors, halved, hashes, 8)
    assert right < split_self_eer(vectors, np.unique(blurred, return_inverse=True)[1], hashes, 8)
    assert scrambled == pytest.approx(0.5, abs=0.06)
    assert split_self_eer(vectors, np.arange(len(classes)), hashes, 8) == 0.5  # nothing to train on


def test_the_chain_finds_speakers_and_the_plda_on_them_is_as_good_as_with_labels():
    vectors, classes, hashes = speakers(40, 10, spread=0.55)
    others, of_others, _ = speakers(20, 10, spread=0.55, seed=9)
    starts = treatments(Embedded(vectors))
    found = pseudo_speakers(
        starts, standardised(vectors), hashes, PseudoSpeakersConfig(lda_dim=12, neighbours=[6, 8], rounds=2)
    )
    measured = agreement(found.labels, classes)
    assert measured["pair_precision"] > 0.9 and measured["pair_recall"] > 0.7, measured
    best = found.candidates[found.chosen]
    assert best.self_eer == min(candidate.self_eer for candidate in found.candidates)
    assert best.num_clusters == found.labels.max() + 1
    rates = []
    for labels in (found.labels, classes):
        chain = train_plda_chain(vectors, np.unique(labels, return_inverse=True)[1], 12, 10)
        left, right = chain.comparison_features(others, np.ones(len(others)), others)
        pairs = np.triu_indices(len(others), 1)
        same = of_others[pairs[0]] == of_others[pairs[1]]
        rates.append(equal_error_rate((left @ right.T)[pairs], same))
    assert rates[0] < rates[1] + 0.02


def test_a_bound_that_leaves_utterances_alone_is_not_chosen():
    vectors, classes, hashes = speakers(20, 8, spread=0.4)
    settings = PseudoSpeakersConfig(lda_dim=6, neighbours=[6], rounds=2, bounds=[1000.0, 0.0])
    found = pseudo_speakers(treatments(Embedded(vectors)), standardised(vectors), hashes, settings)
    assert [candidate.self_eer for candidate in found.candidates][0] == 0.5
    assert found.candidates[found.chosen].bound == 0.0
    assert agreement(found.labels, classes)["pair_recall"] > 0.6


def test_crops_take_out_what_varies_within_an_utterance():
    vectors, classes, hashes = speakers(30, 8, dim=12, spread=0.3)
    draw = np.random.default_rng(5)
    mixing = 6.0 * draw.normal(size=(2, 12))
    heard = vectors + draw.normal(size=(len(vectors), 2)) @ mixing
    crop_classes = np.repeat(np.arange(len(vectors)), 4)
    crops = heard[crop_classes] + draw.normal(size=(len(crop_classes), 2)) @ mixing
    starts = treatments(Embedded(heard, crops, crop_classes), shrinkage=0.01)
    assert list(starts) == ["centred", "wccn"]
    for name, unit in starts.items():
        np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5, err_msg=name)
    same = classes[:, None] == classes
    pairs = np.triu_indices(len(classes), 1)
    rate = {name: equal_error_rate((unit @ unit.T)[pairs], same[pairs]) for name, unit in starts.items()}
    assert rate["wccn"] < 0.5 * rate["centred"], rate
    settings = PseudoSpeakersConfig(lda_dim=10, neighbours=[6], rounds=2, splits=1, joint_rounds=0)
    found = pseudo_speakers(starts, standardised(heard), hashes, settings)
    assert found.candidates[found.chosen].start == "wccn"


def test_standardised_parts_stand_side_by_side_and_what_is_constant_is_zero():
    draw = np.random.default_rng(6)
    first, second = draw.normal(3, 5, (50, 2)), np.hstack([draw.normal(size=(50, 1)), np.full((50, 1), 7.0)])
    both = standardised(first, second)
    np.testing.assert_allclose(both.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(both.std(axis=0), [1, 1, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("kmeans", {"num_clusters": 20}),
        ("ward", {"num_clusters": 20}),
        ("average", {"num_clusters": 20}),
        ("average", {"threshold": 0.5}),
        ("plda-ahc", {"first_num_clusters": 40, "num_clusters": 20, "lda_dim": 12}),
        ("plda-ahc", {"first_num_clusters": 40, "threshold": 0.0, "lda_dim": 12}),
        ("average", {"num_clusters": 20, "num_centroids": 60}),
        ("ward", {"num_clusters": 20, "num_centroids": 60}),
        (
            "plda-ahc",
            {"num_centroids": 80, "first_threshold": 0.5, "num_clusters": 20, "lda_dim": 12},
        ),
        ("density", {"min_cluster_size": 3}),
    ],
)
def test_other_methods_by_name(name, settings):
    vectors, classes, hashes = speakers(20, 10, spread=0.4)
    method = METHODS[name]
    found = method.run(
        treatments(Embedded(vectors)), standardised(vectors), hashes, method.config(**settings)
    )
    assert agreement(found.labels, classes)["pair_precision"] > 0.8
    assert found.candidates[found.chosen].num_clusters == found.labels.max() + 1
    if "num_clusters" in settings:
        assert found.labels.max() + 1 == 20


def test_where_to_stop_must_be_said():
    with pytest.raises(ValueError, match="num_clusters or threshold"):
        METHODS["ward"].config()
    with pytest.raises(ValueError, match="by cosine: first_num_clusters or first_threshold"):
        METHODS["plda-ahc"].config(num_clusters=5)
    with pytest.raises(ValueError, match="min_cluster_size"):
        METHODS["density"].config(min_cluster_size=1)
    with pytest.raises(ValueError, match="neighbours"):
        PseudoSpeakersConfig(neighbours=[])
    vectors, _, hashes = speakers(5, 4)
    with pytest.raises(ValueError, match="hashes must ascend"):
        pseudo_speakers(treatments(Embedded(vectors)), vectors, hashes[::-1])


def test_too_many_to_merge_are_refused_before_memory_is_asked_for():
    many, method = np.broadcast_to(np.float32(1.0), (1_100_000, 2)), METHODS["average"]
    with pytest.raises(ValueError, match="4840 GB: set num_centroids"):
        method.run({"centred": many}, many, None, method.config(num_clusters=9))
    with pytest.raises(ValueError, match="275000 takes 302 GB"):
        method.run({"centred": many}, many, None, method.config(num_clusters=9, num_centroids=275_000))
