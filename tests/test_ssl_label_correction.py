"""Labels that follow the network: the queue against a loop, the mixture against scikit-learn, the gate against a
search.
"""

from collections import Counter, deque

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.mixture import GaussianMixture

from pydino.ssl import NONE, LossMixture, fit_loss_mixture, mode_of_queue, new_queue, push


def by_a_loop(labels, answered, length, copies):
    """Queues as lists, one utterance after the other."""
    queues = [deque([] if label == NONE else [label] * copies, maxlen=length) for label in labels]
    modes = []
    for place, answer in answered:
        queues[place].append(answer)
    for label, queue in zip(labels, queues, strict=True):
        counts = Counter(queue)
        tied = [answer for answer in counts if counts[answer] == max(counts.values())]
        modes.append(label if label in tied or not tied else next(a for a in reversed(queue) if a in tied))
    return modes


@pytest.mark.parametrize("length, copies", [(5, 2), (3, 1), (4, 0), (1, 1)])
def test_the_label_is_the_mode_of_the_last_answers(length, copies):
    rng = np.random.default_rng(length)
    labels = rng.integers(-1, 4, 60)
    queue, answered = new_queue(labels, length, copies), []
    for _ in range(4):  # utterances come never, once or several times
        places, answers = rng.integers(0, 50, 70), rng.integers(0, 4, 70)
        push(queue, places, answers)
        answered += zip(places.tolist(), answers.tolist(), strict=True)
        assert mode_of_queue(queue, labels).tolist() == by_a_loop(labels.tolist(), answered, length, copies)


def test_one_deviating_answer_changes_nothing_and_three_do():
    labels = np.array([0, 0, 0, NONE])
    queue = new_queue(labels, 5, 2)
    seen = []
    for _ in range(3):
        push(queue, np.array([0, 1, 1]), np.array([7, 0, 0]))
        seen.append(mode_of_queue(queue, labels).tolist())
    assert seen == [[0, 0, 0, NONE], [0, 0, 0, NONE], [7, 0, 0, NONE]]


def losses(seed, count=4000, share=0.7, means=(-4.0, 1.0), deviations=(1.2, 0.5)):
    rng = np.random.default_rng(seed)
    wrong = rng.random(count) > share
    x = rng.normal(np.where(wrong, means[1], means[0]), np.where(wrong, deviations[1], deviations[0]))
    return x, wrong


@pytest.mark.parametrize(
    "seed, shape", [(0, {}), (1, {"share": 0.3, "means": (-1.0, 1.0), "deviations": (0.4, 0.9)})]
)
def test_the_mixture_is_that_of_scikit_learn(seed, shape):
    x, wrong = losses(seed, **shape)
    ours = fit_loss_mixture(x, tolerance=1e-10, max_iterations=5000)
    x = np.clip(x, *np.percentile(x, [0.1, 99.9]))
    theirs = GaussianMixture(2, tol=1e-10, max_iter=5000, random_state=0).fit(x[:, None])
    order = theirs.means_[:, 0].argsort()
    for mine, other in (
        (ours.weights, theirs.weights_),
        (ours.means, theirs.means_[:, 0]),
        (ours.variances, theirs.covariances_[:, 0, 0]),
    ):
        assert mine == pytest.approx(other[order], rel=1e-3, abs=1e-3)
    between = x[(x > ours.means[0]) & (x < ours.means[1])]
    posterior = theirs.predict_proba(between[:, None])[:, order[0]]
    assert ours.clean_probability(between) == pytest.approx(posterior, abs=2e-3)
    assert (ours.clean_probability(x) < 0.5)[wrong].mean() > 0.8


@pytest.mark.parametrize("variances", [(1.0, 9.0), (9.0, 1.0), (2.0, 2.0)])
def test_the_probability_never_rises_with_the_loss(variances):
    """Of the plain posterior it does, where the wider component outweighs the other far outside."""
    mixture = LossMixture(np.array([0.6, 0.4]), np.array([-2.0, 1.0]), np.array(variances))
    x = np.linspace(-30, 30, 2001)
    probabilities = mixture.clean_probability(x)
    assert (np.diff(probabilities) <= 0).all() and probabilities[0] > 0.5 > probabilities[-1]


def test_the_gate_is_where_the_weighted_densities_cross():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(300):
        weight, (m0, m1) = rng.uniform(0.02, 0.98), np.sort(rng.normal(size=2)) * 2
        v0, v1 = rng.uniform(0.05, 3, 2) if rng.random() < 0.8 else [rng.uniform(0.05, 3)] * 2
        mixture = LossMixture(np.array([weight, 1 - weight]), np.array([m0, m1]), np.array([v0, v1]))
        x = np.linspace(m0, m1, 20001)
        above = weight * norm.pdf(x, m0, v0**0.5) > (1 - weight) * norm.pdf(x, m1, v1**0.5)
        crossings = np.flatnonzero(above[:-1] != above[1:])
        assert len(crossings) <= 1
        wanted = 0.5 * (x[crossings[0]] + x[crossings[0] + 1]) if len(crossings) else 0.5 * (m0 + m1)
        found += len(crossings)
        assert mixture.gate == pytest.approx(wanted, abs=(m1 - m0) / 20000)
    assert 100 < found < 200  # both kinds come up


def test_losses_that_are_all_alike_or_too_few_are_no_mixture():
    assert fit_loss_mixture(np.full(100, -3.0)) is None
    assert fit_loss_mixture(np.arange(9.0)) is None
    heaps = fit_loss_mixture(np.repeat([-3.0, 1.0], [90, 10]))  # no variance within
    assert heaps.means == pytest.approx([-3, 1], abs=1e-3) and heaps.weights == pytest.approx([0.9, 0.1])
    assert heaps.clean_probability(np.array([-3.0, 1.0])) == pytest.approx([1, 0], abs=1e-6)
