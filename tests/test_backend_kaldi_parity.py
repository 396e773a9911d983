"""The back-end against figures of Kaldi's own programs (tests/fixtures/backend/README.md), within what single
precision explains.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from pydino.backend import (
    Plda,
    apply_affine,
    cosine_features,
    equal_error_rate,
    estimate_lda,
    group_means,
    kaldi_eer,
    kaldi_min_dcf,
    min_dcf,
    normalise_length,
    score_pairs,
    train_plda,
)
from pydino.kaldi.plda_file import read_plda, write_matrix, write_plda, write_vector
from pydino.kaldi.trials import read_trials

FIXTURES = Path(__file__).parent / "fixtures" / "backend"


@pytest.fixture(scope="module")
def kaldi():
    return dict(np.load(FIXTURES / "kaldi.npz"))


@pytest.fixture(scope="module")
def training(kaldi):
    """(vectors less their mean, speakers)"""
    return kaldi["train"] - kaldi["train"].mean(axis=0, dtype=np.float64), np.unique(
        kaldi["train_speakers"], return_inverse=True
    )[1]


def same_signs(rows, reference):
    return rows * np.sign((rows * reference).sum(axis=1, keepdims=True))


def within_covariance(transform):
    inverse = np.linalg.inv(transform)
    return inverse @ inverse.T


def stored(kaldi, name):
    return Plda(*(kaldi[f"{name}_{part}"] for part in ("mean", "transform", "psi")))


def assert_same_model(model, reference, tolerance=1e-10):
    np.testing.assert_allclose(model.mean, reference.mean, atol=tolerance)
    np.testing.assert_allclose(model.psi, reference.psi, rtol=tolerance)
    np.testing.assert_allclose(
        same_signs(model.transform, reference.transform), reference.transform, atol=tolerance
    )
    np.testing.assert_allclose(
        within_covariance(model.transform), within_covariance(reference.transform), atol=tolerance
    )


@pytest.mark.parametrize(
    "name, factor, raw", [("lda_0.0", 0.0, False), ("lda_0.1", 0.1, False), ("lda_raw", 0.0, True)]
)
def test_lda_is_kaldis(kaldi, training, name, factor, raw):
    vectors, speakers = training
    transform = estimate_lda(kaldi["train"] if raw else vectors, speakers, 20, factor)
    np.testing.assert_allclose(same_signs(transform, kaldi[name]), kaldi[name], atol=2e-6)


def test_the_chain_up_to_length_normalisation_is_kaldis(kaldi, training):
    mean = kaldi["train"].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(
        normalise_length(apply_affine(kaldi["lda_0.0"], training[0])), kaldi["train_norm"], atol=7e-6
    )
    np.testing.assert_allclose(
        normalise_length(apply_affine(kaldi["lda_0.0"], kaldi["test"] - mean)), kaldi["test_norm"], atol=7e-6
    )
    names, groups = np.unique(kaldi["enroll_speakers"], return_inverse=True)
    means, counts = group_means(kaldi["enroll"], groups, len(names))
    assert counts.tolist() == kaldi["num_utts"].tolist()
    np.testing.assert_allclose(means, kaldi["enroll_mean"], atol=1e-5)
    np.testing.assert_allclose(
        normalise_length(kaldi["test_norm"], scale_up=False), kaldi["test_unit"], atol=1e-6
    )


def test_plda_training_is_kaldis(kaldi, training):
    vectors, speakers = training
    assert_same_model(train_plda(kaldi["train_norm"], speakers), Plda(*read_plda(FIXTURES / "plda")))
    mean = np.array((FIXTURES / "mean.vec").read_text().split()[1:-1], dtype=np.float32)
    assert_same_model(
        train_plda(kaldi["train"] - mean, speakers, num_em_iterations=3), stored(kaldi, "plda_full")
    )


def test_smoothing_and_adaptation_are_kaldis(kaldi):
    model = Plda(*read_plda(FIXTURES / "plda"))
    single = [float(np.float32(x)) for x in (0.1, 0.3, 0.7)]  # Kaldi keeps these options in single precision
    assert_same_model(model.smooth(single[0]), stored(kaldi, "plda_smooth"))
    adapted = model.adapt(kaldi["adapt_norm"], within_scale=single[1], between_scale=single[2])
    assert_same_model(adapted, stored(kaldi, "plda_adapt0"))
    assert_same_model(
        model.adapt(kaldi["adapt_norm"], within_scale=0.75, between_scale=0.25), stored(kaldi, "plda_adapt1")
    )


@pytest.mark.parametrize(
    "name, model, counts, options",
    [
        ("default", "plda", False, {}),
        ("numutts", "plda", True, {}),
        ("normtrue", "plda", True, {"normalise": True}),
        ("normfalse", "plda", True, {"normalise": False}),
        ("normfalse_1", "plda", False, {"normalise": False}),
        ("simple", "plda", True, {"simple_length_normalisation": True}),
        ("smooth", "plda_smooth", True, {}),
        ("adapt0", "plda_adapt0", True, {}),
        ("adapt1", "plda_adapt1", False, {}),
        ("full", "plda_full", True, {}),
        ("dot", None, False, {}),
        ("cosine", None, False, {}),
    ],
)
def test_scores_and_error_rates_are_kaldis(kaldi, name, model, counts, options):
    models, tests = kaldi["enroll_norm"], kaldi["test_norm"]
    if name == "full":
        mean = np.array((FIXTURES / "mean.vec").read_text().split()[1:-1], dtype=np.float32)
        models, tests = kaldi["enroll_mean"] - mean, kaldi["test"] - mean
    if name == "dot":
        left, right = models.astype(np.float64), tests.astype(np.float64)
    elif name == "cosine":
        left, right = cosine_features(models, tests)
    else:
        plda = Plda(*read_plda(FIXTURES / "plda")) if model == "plda" else stored(kaldi, model)
        num_utts = kaldi["num_utts"] if counts else 1
        left, right = plda.comparison_features(
            plda.project(models, num_utts, **options), num_utts, plda.project(tests, 1, **options)
        )
    trials = read_trials(FIXTURES / "trials")
    rows = np.searchsorted(kaldi["enroll_norm_keys"], trials.models)[trials.rows]
    columns = np.array([kaldi["test_keys"].tolist().index(test) for test in trials.tests])[trials.columns]
    scores, reference = score_pairs(left, right, rows, columns), kaldi[f"scores_{name}"]
    assert np.all(np.abs(scores - reference) <= 1e-5 * np.maximum(1, np.abs(reference)))
    printed = json.loads((FIXTURES / "eer.json").read_text())[name]
    rate, threshold = kaldi_eer(reference, trials.values)
    assert f"{100 * rate:.4g}" == printed["eer"]
    assert f"{threshold:.6g}" == printed["threshold"]
    for p_target in ("0.01", "0.05"):
        assert (
            f"{kaldi_min_dcf(reference, trials.values, float(p_target)):.4f}"
            == printed[f"mindcf_{p_target}"].strip()
        )
        # Ours differs in ties and in accepting all only, and there are no ties here.
        assert min_dcf(scores, trials.values, float(p_target)) == pytest.approx(
            float(printed[f"mindcf_{p_target}"]), abs=6e-5
        )
    # Kaldi's is quantised to one target of 200
    assert 100 * abs(equal_error_rate(scores, trials.values) - rate) <= 0.5


def test_files_are_kaldis_byte_for_byte(kaldi, tmp_path):
    mean, transform, psi = read_plda(FIXTURES / "plda")
    write_plda(tmp_path / "plda", mean, transform, psi)
    assert (tmp_path / "plda").read_bytes() == (FIXTURES / "plda").read_bytes()
    write_matrix(tmp_path / "transform.mat", kaldi["lda_0.0"])
    assert (tmp_path / "transform.mat").read_bytes() == (FIXTURES / "lda_0.mat").read_bytes()
    write_vector(tmp_path / "mean.vec", mean.astype(np.float32))
    words = (tmp_path / "mean.vec").read_text().split()
    assert words[0] == "[" and words[-1] == "]"
    np.testing.assert_array_equal(np.array(words[1:-1], dtype=np.float32), mean.astype(np.float32))


def test_text_plda_is_read_and_written(tmp_path):
    binary, text = read_plda(FIXTURES / "plda"), read_plda(FIXTURES / "plda.txt")
    for exact, printed in zip(binary, text, strict=True):
        np.testing.assert_allclose(printed, exact, rtol=1e-6)
    write_plda(tmp_path / "plda.txt", *binary, binary=False)
    for exact, again in zip(binary, read_plda(tmp_path / "plda.txt"), strict=True):
        np.testing.assert_array_equal(exact, again)
