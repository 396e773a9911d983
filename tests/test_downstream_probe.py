"""Frozen-embedding classifiers: speakers stay apart, measures by hand, and what is not there is not found."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from pydino.downstream import (
    assign_folds,
    bootstrap_classes,
    bootstrap_numbers,
    class_measures,
    default_fold_count,
    predict_classes,
    predict_numbers,
    speaker_confusions,
    speaker_sums,
)


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


def test_what_is_in_the_vectors_is_found(voices):
    vectors, classes, numbers, speakers = voices
    folds = assign_folds(speakers, 5, classes)
    assert np.mean(predict_classes(vectors, classes, speakers, folds) == classes) > 0.9
    assert np.abs(predict_numbers(vectors, numbers, speakers, folds) - numbers).mean() < 0.1 * numbers.std()


def test_labels_of_speakers_by_chance_are_not_found(voices):
    """The vectors identify every speaker; with a speaker on both sides, random labels of speakers would be
    predicted.
    """
    vectors, _, _, speakers = voices
    apart, leaking = [], []
    for seed in range(6):
        chance = np.random.default_rng(seed).permutation(np.arange(20) % 2)[speakers]
        apart.append(
            np.mean(predict_classes(vectors, chance, speakers, assign_folds(speakers, 10, chance)) == chance)
        )
        leaking.append(
            np.mean(predict_classes(vectors, chance, np.arange(400), np.arange(400) % 10) == chance)
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
