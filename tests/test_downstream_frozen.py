"""Classifiers on frozen embeddings: speakers stay apart, measures by hand, what is not there is not found, and
the classifier that is given away is the one that was trained.
"""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, recall_score

from pydino.backend import (
    bootstrap_classes,
    bootstrap_numbers,
    class_measures,
    speaker_confusions,
    speaker_sums,
)
from pydino.cli._final_classifier import head_of
from pydino.downstream import assign_folds, default_fold_count, fit_frozen


@pytest.fixture(scope="module")
def voices():
    """(vectors (400, 12), classes, numbers, speakers): 20 speakers far apart, a class and a number that cut
    across them
    """
    rng = np.random.default_rng(0)
    speakers, classes = np.repeat(np.arange(20), 20), rng.integers(0, 3, 400)
    vectors = 5 * rng.standard_normal((20, 12))[speakers] * (np.arange(12) > 3) + rng.standard_normal(
        (400, 12)
    )
    vectors[np.arange(400), classes] += 4
    return vectors, classes, 10 * vectors[:, 3] + 40, speakers


def test_no_speaker_is_on_both_sides_and_every_fold_is_used():
    speakers = np.random.default_rng(0).integers(0, 37, 1000)
    folds = assign_folds(speakers, 10)
    assert sorted(set(folds)) == list(range(10))
    assert all(len(set(folds[speakers == speaker])) == 1 for speaker in range(37))
    assert (folds == assign_folds(speakers, 10)).all() and (folds != assign_folds(speakers, 10, seed=1)).any()


def test_folds_are_alike_in_the_classes():
    speakers = np.repeat(np.arange(40), 3)
    classes = (speakers % 4 == 0).astype(int)  # a quarter of the speakers
    folds = assign_folds(speakers, 5, classes)
    assert [classes[folds == fold].sum() for fold in range(5)] == [6] * 5


def test_leave_one_speaker_out_up_to_ten():
    assert [default_fold_count(n) for n in (2, 10, 11, 500)] == [2, 10, 10, 10]
    with pytest.raises(ValueError, match="from 2 to"):
        assign_folds(np.array([0, 1]), 3)


def test_measures_are_scikit_learns():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 300)
    predicted = np.where(rng.random(300) < 0.6, truth, rng.integers(0, 4, 300))
    found = class_measures(speaker_confusions(truth, predicted, np.zeros(300, dtype=int), 4)[0])
    assert found["uar"] == pytest.approx(recall_score(truth, predicted, average="macro"))
    assert found["f1_macro"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert found["f1_micro"] == pytest.approx(f1_score(truth, predicted, average="micro"))
    assert found["accuracy"] == pytest.approx(np.mean(truth == predicted))


def test_measures_by_hand_and_with_an_absent_class():
    found = class_measures(np.array([[9, 1, 0], [5, 5, 0], [0, 0, 0]]))
    assert found["uar"] == pytest.approx(0.7)
    assert found["accuracy"] == pytest.approx(0.7)
    assert found["f1_macro"] == pytest.approx((18 / 24 + 10 / 16) / 2)


def test_intervals_are_over_speakers():
    """Ten speakers wholly right, ten wholly wrong: the interval is that of 20 draws, however many utterances
    there are.
    """
    speakers = np.repeat(np.arange(20), 100)
    right = (speakers < 10).astype(int)
    low, high = np.quantile(
        bootstrap_classes(speaker_confusions(np.ones(2000, dtype=int), right, speakers, 2))["accuracy"],
        [0.025, 0.975],
    )
    assert low == pytest.approx(0.3, abs=0.06) and high == pytest.approx(0.7, abs=0.06)
    sums = speaker_sums(np.zeros(2000), right.astype(float), speakers)
    low, high = np.quantile(bootstrap_numbers(sums)["mae"], [0.025, 0.975])
    assert low == pytest.approx(0.3, abs=0.06) and high == pytest.approx(0.7, abs=0.06)


def predict(classifier, vectors, targets, speakers, folds, dev=None):
    """(N, K) outputs for each fold by a classifier of the others."""
    outputs = [None] * len(targets)
    for fold in np.unique(folds):
        train = folds != fold
        fitted = fit_frozen(classifier, vectors[train], targets[train], speakers[train], dev)
        for place, output in zip(np.flatnonzero(~train), fitted.outputs(vectors[~train]), strict=True):
            outputs[place] = output
    return np.array(outputs)


def predict_classes(vectors, classes, speakers, folds, classifier="logreg"):
    return predict(classifier, vectors, classes, speakers, folds).argmax(axis=1)


def predict_numbers(vectors, numbers, speakers, folds):
    return predict("ridge", vectors, numbers, speakers, folds)[:, 0]


@pytest.mark.parametrize("classifier", ["logreg", "svm", "plda", "mlp"])
def test_what_is_in_the_vectors_is_found(voices, classifier):
    vectors, classes, _, speakers = voices
    outputs = predict(classifier, vectors, classes, speakers, assign_folds(speakers, 5, classes))
    assert np.mean(outputs.argmax(axis=1) == classes) > (0.75 if classifier == "plda" else 0.9)
    np.testing.assert_allclose(np.exp(outputs).sum(axis=1), 1)


@pytest.mark.parametrize("classifier", ["logreg", "svm", "plda", "mlp"])
def test_posteriors_are_calibrated(classifier):
    """Two normal classes: the posterior of a test vector is known. The temperature is fitted on subjects that
    were held out, so the mean log-posterior comes near that of the truth.
    """
    rng = np.random.default_rng(1)
    classes, speakers = rng.integers(0, 2, 3000), np.arange(3000) // 50
    vectors = rng.standard_normal((3000, 6)) + np.outer(2 * classes - 1, [0.7, 0.3, 0, 0, 0, 0])
    outputs = predict(classifier, vectors, classes, speakers, assign_folds(speakers, 2, classes))
    truth = 2 * (2 * classes - 1) * (vectors[:, 0] * 0.7 + vectors[:, 1] * 0.3)
    best = np.log1p(np.exp(-truth)).mean()
    assert -outputs[np.arange(3000), classes].mean() < best + 0.02


def test_a_number_in_the_vectors_is_found(voices):
    vectors, classes, numbers, speakers = voices
    folds = assign_folds(speakers, 5, classes)
    assert np.abs(predict_numbers(vectors, numbers, speakers, folds) - numbers).mean() < 0.1 * numbers.std()


def test_rare_classes_weigh_as_much_as_frequent_ones():
    """Where the vectors say nothing, no class is answered because it is frequent."""
    rng = np.random.default_rng(0)
    classes, speakers = (rng.random(2000) < 0.1).astype(int), np.arange(2000) // 20
    vectors = rng.standard_normal((2000, 4))
    for classifier in ("logreg", "svm", "mlp"):
        fitted = fit_frozen(classifier, vectors, classes, speakers)
        assert 0.35 < np.exp(fitted.outputs(vectors)[:, 1]).mean() < 0.65


@pytest.mark.parametrize("classifier", ["logreg", "svm", "mlp", "ridge"])
@pytest.mark.parametrize("count", [2, 3])
def test_the_head_that_is_given_away_gives_the_same_logits(voices, classifier, count):
    vectors, classes, numbers, speakers = voices
    targets = numbers if classifier == "ridge" else classes % count
    fitted = fit_frozen(classifier, vectors, targets, speakers)
    with torch.no_grad():
        found = head_of(fitted)(torch.tensor(vectors, dtype=torch.float32)).double() / (
            fitted.temperature or 1
        )
    found = found if classifier == "ridge" else found.log_softmax(dim=1)
    np.testing.assert_allclose(found.numpy(), fitted.outputs(vectors), rtol=1e-4, atol=1e-4)


def test_the_perceptron_stops_by_the_development_part(voices):
    """It is not trained on: labels there that contradict all others only make it stop at once."""
    vectors, classes, _, speakers = voices
    dev, wrong = speakers < 5, classes.copy()
    wrong[dev] = (wrong[dev] + 1) % 3
    stopped = fit_frozen("mlp", vectors, wrong, speakers, dev)
    assert stopped.held_out == dev.sum() and stopped.temperature == 100
    trained = fit_frozen("mlp", vectors, classes, speakers, dev)
    assert np.mean(trained.outputs(vectors[~dev]).argmax(axis=1) == classes[~dev]) > 0.9


def test_a_class_of_the_development_part_alone_is_no_obstacle(voices):
    vectors, classes, _, speakers = voices
    dev = speakers < 5
    keep = dev | (classes != 2)
    fitted = fit_frozen("mlp", vectors[keep], classes[keep], speakers[keep], dev[keep])
    outputs = fitted.outputs(vectors)
    assert outputs.shape == (len(vectors), 3) and np.isfinite(outputs).all()


def test_labels_of_speakers_by_chance_are_not_found(voices):
    """The vectors identify every speaker; with a speaker on both sides, random labels of speakers would be
    predicted.
    """
    vectors, _, _, speakers = voices
    apart, leaking = [], []
    for seed in range(5):
        chance = np.random.default_rng(seed).permutation(np.arange(20) % 2)[speakers]
        apart.append(
            np.mean(predict_classes(vectors, chance, speakers, assign_folds(speakers, 4, chance)) == chance)
        )
        leaking.append(
            np.mean(predict_classes(vectors, chance, np.arange(400), np.arange(400) % 4) == chance)
        )
    assert 0.3 < np.mean(apart) < 0.65
    assert np.mean(leaking) > 0.8


def test_predictions_do_not_depend_on_scale_and_dead_dimensions(voices):
    vectors, classes, numbers, speakers = voices
    folds = assign_folds(speakers, 5, classes)
    scaled = np.hstack([vectors * np.geomspace(1e-3, 1e3, 12) + 5, np.full((400, 1), 0.1)])
    assert (
        np.mean(
            predict_classes(vectors, classes, speakers, folds)
            == predict_classes(scaled, classes, speakers, folds)
        )
        > 0.99
    )
    np.testing.assert_allclose(
        predict_numbers(vectors, numbers, speakers, folds),
        predict_numbers(scaled, numbers, speakers, folds),
        rtol=1e-6,
    )


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_regression_is_that_of_scikit_learn(classes):
    import warnings

    from sklearn.linear_model import LogisticRegression

    from pydino.downstream.classifiers import INVERSE_STRENGTHS, logistic_regression

    rng = np.random.default_rng(classes)
    y = np.concatenate([np.arange(classes), rng.choice(classes, 86, p=rng.dirichlet(np.full(classes, 4)))])
    x = rng.normal(size=(len(y), 30)) + 0.5 * rng.normal(size=(classes, 30))[y]
    theirs = LogisticRegression(class_weight="balanced", max_iter=100, tol=1e-3, warm_start=True)
    for strength, ours in zip(INVERSE_STRENGTHS, logistic_regression(x, y, 0), strict=True):
        theirs.C = strength
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.fit(x, y)
        scores = ours(x)
        ours_of = scores[:, 1] - scores[:, 0] if classes == 2 else scores
        np.testing.assert_allclose(ours_of, theirs.decision_function(x), rtol=0, atol=1e-5)
