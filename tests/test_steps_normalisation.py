"""Steps of the back-end without labels: WCCN on crops, PLDA on clusters, adaptation, normalised scores."""

import json

import numpy as np
import pytest
from test_steps_scoring import FIXTURES, corpus, results_of, write_embeddings, write_table  # noqa: F401

from pydino.backend import Plda, cosine_features, estimate_wccn
from pydino.base import read_yaml
from pydino.cli import main
from pydino.cli._steps import pending
from pydino.kaldi import read_object
from pydino.kaldi.plda_file import read_plda

SETS = ["trials", "x/enroll", "x/test"]


@pytest.fixture
def run(corpus, monkeypatch, capfd):
    """Run a verb in the folder of the corpus; return what it said."""
    monkeypatch.chdir(corpus)

    def call(*words, status=0):
        assert main([str(word) for word in words]) == status
        said = capfd.readouterr().err
        assert "Traceback" not in said
        return said

    return call


def vectors_of(name):
    kaldi = np.load(FIXTURES / "kaldi.npz")
    return kaldi[f"{name}_keys"].tolist(), kaldi[name].astype(np.float64), kaldi[f"{name}_speakers"].tolist()


@pytest.fixture(scope="module")
def clusters(corpus):
    """A folder as steps/cluster.sh leaves it: two thirds of the training speakers whole, the rest singletons."""
    keys, _, speakers = vectors_of("train")
    names = sorted(set(speakers))
    chosen = set(names[: 2 * len(names) // 3])
    folder = corpus / "clusters"
    folder.mkdir()
    table = {key: s if s in chosen else f"only-{key}" for key, s in zip(keys, speakers, strict=True)}
    write_table(folder / "utt2cluster", table)
    (folder / "clusters.json").write_text(json.dumps({"labels": "pseudo"}))
    return folder


@pytest.fixture(scope="module")
def crops(corpus):
    """Three noisy copies of each embedding of train, enroll and test, as steps/extract_crops.sh leaves crops."""
    rng = np.random.default_rng(0)
    for name in ("train", "enroll", "test"):
        keys, vectors, _ = vectors_of(name)
        noise = rng.standard_normal((3, *vectors.shape)) * np.linspace(0.1, 3, vectors.shape[1])
        names = [f"{key}#{k}" for k in (1, 2, 3) for key in keys]
        write_embeddings(corpus / "crops" / name, names, np.concatenate(vectors + noise), name)
        write_table(corpus / "crops" / name / "crop2utt", {n: n.partition("#")[0] for n in names})
        if name == "enroll":
            (corpus / "crops/enroll/spk2utt").write_text((corpus / "x/enroll/spk2utt").read_text())
    return corpus / "crops"


def scores_of(path):
    return np.loadtxt(path, usecols=2)


def test_normalised_scores_from_folders_are_those_by_hand(run, corpus):
    """as-norm of centred cosines: models are means of utterances, the cohort is the training set."""
    options = ["--centring", "centred", "--train-dir", "x/train"]
    norm = ["--normalisation", "as-norm", "--top", "50", "--cohort-dir", "x/train"]
    assert "as-norm with a cohort of 900 utterances" in run("score", *options, *norm, *SETS, "n/as.txt")
    eer = results_of(corpus / "n/as.result.json")["eer"]
    assert (eer["treatment"], eer["labels"]) == ("centred, as-norm", "none")
    train, (keys, tests, _), (_, e_vectors, e_speakers) = (
        vectors_of("train")[1],
        vectors_of("test"),
        vectors_of("enroll"),
    )
    names = sorted(set(e_speakers))
    models = np.array([e_vectors[np.array(e_speakers) == name].mean(axis=0) for name in names])
    models, tests, cohort = (x - train.mean(axis=0) for x in (models, tests, train))
    left, right = cosine_features(models, tests)
    cohort = cosine_features(cohort, cohort)[0]
    (model_mean, model_std), (test_mean, test_std) = (
        (top.mean(axis=1), top.std(axis=1))
        for top in (np.sort(side @ cohort.T, axis=1)[:, -50:] for side in (left, right))
    )
    for line in (corpus / "n/as.txt").read_text().splitlines()[::200]:
        model, test, score = line.split()
        e, t = names.index(model), keys.index(test)
        raw = left[e] @ right[t]
        expected = ((raw - model_mean[e]) / model_std[e] + (raw - test_mean[t]) / test_std[t]) / 2
        assert float(score) == pytest.approx(expected, abs=1e-7)


def test_a_cohort_of_clusters_and_its_labels(run, corpus, clusters):
    norm = [
        "--normalisation",
        "s-norm",
        "--cohort-dir",
        "x/train",
        "--cohort-clusters",
        clusters / "utt2cluster",
    ]
    assert "s-norm with a cohort of 400 clusters" in run("score", *norm, *SETS, "n/c.txt")
    eer = results_of(corpus / "n/c.result.json")["eer"]
    assert (eer["treatment"], eer["labels"]) == ("raw, s-norm", "pseudo")
    norm[-1] = "train.utt2spk"
    said = run("score", *norm, *SETS, "n/c2.txt")
    assert "150 clusters" in said and results_of(corpus / "n/c2.result.json")["eer"]["labels"] == "train"
    norm[1] = "as-norm"
    assert "150 clusters: as-norm with the 300 highest is s-norm" in run("score", *norm, *SETS, "n/c3.txt")
    np.testing.assert_array_equal(scores_of(corpus / "n/c2.txt"), scores_of(corpus / "n/c3.txt"))


def test_utterances_of_the_trials_are_left_out_of_the_cohort(run, corpus):
    """A cohort with the trials' own utterances beside others gives the scores of the others alone."""
    norm = ["--normalisation", "z-norm", "--cohort-dir", "x/train"]
    run("score", *norm, *SETS, "n/z.txt")
    said = run("score", *norm, "--cohort-dir", "x/test", *SETS, "n/z2.txt")
    assert "left out of the cohort: 200 of 1100 utterances" in said
    np.testing.assert_allclose(scores_of(corpus / "n/z.txt"), scores_of(corpus / "n/z2.txt"), atol=2e-8)
    said = run("score", *norm[:2], "--cohort-dir", "x/test", *SETS, "n/z3.txt", status=1)
    assert "0 of 200 utterances are not in the trials" in said


def test_utterances_outside_a_list_are_in_neither_mean_nor_cohort_nor_plda(run, corpus, clusters):
    keys, vectors, _ = vectors_of("train")
    write_embeddings(corpus / "x" / "part", keys[::2], vectors[::2], "train")
    (corpus / "listed").write_text("".join(f"{key} 1\n" for key in keys[::2]))
    options = ["--centring", "centred", "--normalisation", "as-norm", "--top", "50"]
    for folder, more in (("x/train", ["--utterances", "listed"]), ("x/part", [])):
        words = [*options, "--train-dir", folder, "--cohort-dir", folder, *more]
        run("score", *words, *SETS, f"u/{folder[2:]}.txt")
        words = ["--min-utts", "2", "--lda-dim", "20", "--max-drop", "0.6", *more]
        run("train-plda", *words, clusters / "utt2cluster", folder, f"u/plda_{folder[2:]}")
    np.testing.assert_array_equal(scores_of(corpus / "u/train.txt"), scores_of(corpus / "u/part.txt"))
    one, two = ((corpus / f"u/plda_{name}/plda").read_bytes() for name in ("train", "part"))
    assert one == two
    said = run(
        "score",
        *options,
        "--train-dir",
        "x/test",
        "--cohort-dir",
        "x/test",
        "--utterances",
        "listed",
        *SETS,
        "u/no.txt",
        status=1,
    )
    assert "none of its 450 names has an embedding in x/test" in said


def test_plda_on_clusters_and_its_normalised_scores(run, corpus, clusters):
    """Speakers of one utterance are omitted, several sets are one, and the results say pseudo."""
    keys, vectors, _ = vectors_of("train")
    for name, part in (("half_a", slice(0, None, 2)), ("half_b", slice(1, None, 2))):
        write_embeddings(corpus / "x" / name, keys[part], vectors[part], name)
    options = ["--min-utts", "2", "--lda-dim", "20", clusters / "utt2cluster"]
    said = run("train-plda", *options, "x/half_a", "x/half_b", "ps/plda")
    assert "omitted: 300 of 400 clusters with fewer than 2 utterances (300 of 900" in said
    assert "600 embeddings of 100 clusters" in said
    meta = read_yaml(corpus / "ps/plda/meta.yaml")
    assert (meta["labels"], meta["clusters"], meta["min_utts"]) == ("pseudo", 100, 2)
    # The same speakers of one folder, by a table of them alone, are the same model.
    kept = [line for line in (clusters / "utt2cluster").read_text().splitlines() if "only" not in line]
    (corpus / "whole").write_text("\n".join(kept) + "\n")
    run("train-plda", "--lda-dim", "20", "--max-drop", "0.5", "whole", "x/train", "ps/other")
    other = read_yaml(corpus / "ps/other/meta.yaml")
    assert (other["labels"], other["speakers"]) == ("train", 100)
    for one, two in zip(*(read_plda(corpus / "ps" / n / "plda") for n in ("plda", "other")), strict=True):
        np.testing.assert_allclose(np.abs(one), np.abs(two), rtol=1e-6, atol=1e-6)
    norm = ["--normalisation", "as-norm", "--top", "100", "--cohort-dir", "x/train"]
    run("score", "--backend", "plda", "--plda-dir", "ps/plda", *norm, *SETS, "ps/s.txt")
    eer = results_of(corpus / "ps/s.result.json")["eer"]
    assert (eer["backend"], eer["treatment"], eer["labels"]) == ("plda", "raw, as-norm", "pseudo")
    assert eer["value"] < 25
    said = run("train-plda", *options, "x/train", "x/half_a", "ps/twice", status=1)
    assert "is in x/train and in x/half_a" in said
    said = run("train-plda", *options, "x/train", "x/train", "ps/twice", status=1)
    assert "is in x/train and in x/train" in said
    run("train-plda", "--min-utts", "99", clusters / "utt2cluster", "x/train", "ps/none")
    assert "no cluster has 99 utterances" in (corpus / "ps/none/skipped").read_text()


def test_clusters_of_a_model_that_saw_labels_are_not_called_pseudo(run, corpus, clusters, tmp_path):
    (tmp_path / "utt2cluster").write_text((clusters / "utt2cluster").read_text())
    for kind, status in (("train", 0), (None, 1)):
        (tmp_path / "clusters.json").write_text(json.dumps({"labels": kind} if kind else {}))
        said = run("train-plda", tmp_path / "utt2cluster", "x/train", tmp_path / "plda", status=status)
    assert "does not say on what labels" in said
    (tmp_path / "clusters.json").write_text("[]")
    said = run("train-plda", tmp_path / "utt2cluster", "x/train", tmp_path / "plda", status=1)
    assert "does not say on what labels" in said


def test_simplified_plda_is_written_as_any_other(run, corpus):
    said = run("train-plda", "--lda-dim", "20", "--between-dim", "5", "train.utt2spk", "x/train", "sp/plda")
    assert "LDA 24 to 20" in said or "to 20, between-class variances" in said
    model = Plda(*read_plda(corpus / "sp/plda/plda"))
    assert model.psi[4] > 0.01 and np.all(model.psi[5:] < 1e-8)
    run("score", "--backend", "plda", "--plda-dir", "sp/plda", *SETS, "sp/s.txt")
    assert results_of(corpus / "sp/s.result.json")["eer"]["value"] < 25
    words = ["--lda-dim", "4", "--between-dim", "5", "train.utt2spk", "x/train", "sp/no"]
    assert "more than the 4 dimensions" in run("train-plda", *words, status=1)


def test_adapted_plda_is_kaldis(run, corpus):
    """Of the chain's own maths, Kaldi's figures are in test_backend_kaldi_parity: here, files and mean."""
    keys, vectors, _ = vectors_of("train")
    write_embeddings(corpus / "x" / "moved", keys, 2 * vectors + 5, "moved")
    run("train-plda", "--lda-dim", "20", "train.utt2spk", "x/train", "ad/plda")
    said = run(
        "adapt-plda",
        "--within-covar-scale",
        "0.75",
        "--between-covar-scale",
        "0.25",
        "ad/plda",
        "x/moved",
        "ad/out",
    )
    assert "adapted to 900 embeddings" in said
    np.testing.assert_allclose(
        read_object(str(corpus / "ad/out/mean.vec")), (2 * vectors + 5).mean(axis=0), rtol=1e-5
    )
    assert (corpus / "ad/out/transform.mat").read_bytes() == (corpus / "ad/plda/transform.mat").read_bytes()
    assert read_yaml(corpus / "ad/out/meta.yaml")["labels"] == "train"
    run("score", "--backend", "plda", "--plda-dir", "ad/out", *SETS, "ad/s.txt")
    assert results_of(corpus / "ad/s.result.json")["eer"]["labels"] == "train"
    (corpus / "ad/none").mkdir()
    (corpus / "ad/none/skipped").write_text("no PLDA: a single speaker\n")
    assert "skipped: no PLDA: a single speaker" in run("adapt-plda", "ad/none", "x/moved", "ad/out2")
    assert "skipped" in run("score", "--backend", "plda", "--plda-dir", "ad/out2", *SETS, "ad/s2.txt")


def test_wccn_from_crops_to_scores(run, corpus, crops):
    said = run("train-wccn", "--shrinkage", "0.2", "crops/train", "w/wccn")
    assert "2700 crops of 900 utterances" in said
    lines = [line.split(None, 1) for line in (crops / "train/xvector.scp").read_text().splitlines()]
    classes = np.unique([key.partition("#")[0] for key, _ in lines], return_inverse=True)[1]
    expected = estimate_wccn(np.array([read_object(place) for _, place in lines]), classes, 0.2)
    transform = read_object(str(corpus / "w/wccn/transform.mat")).astype(np.float64)
    np.testing.assert_allclose(transform, expected, rtol=1e-5, atol=1e-6)
    options = ["--centring", "wccn", "--train-dir", "x/train", "--wccn-dir", "w/wccn"]
    run("score", *options, *SETS, "w/s.txt")
    eer = results_of(corpus / "w/s.result.json")["eer"]
    assert (eer["treatment"], eer["labels"]) == ("wccn", "none")
    names, tests, _ = vectors_of("test")
    _, e_vectors, e_speakers = vectors_of("enroll")
    mean = vectors_of("train")[1].mean(axis=0)
    model, test, score = (corpus / "w/s.txt").read_text().splitlines()[17].split()
    pair = e_vectors[np.array(e_speakers) == model].mean(axis=0), tests[names.index(test)]
    left, right = cosine_features(*((x - mean)[None] @ transform.T for x in pair))
    assert float(score) == pytest.approx((left @ right.T).item(), abs=1e-7)
    assert not pending(["steps/train_wccn.sh", "--shrinkage", "0.2", "crops/train", "w/wccn"])
    assert pending(["steps/train_wccn.sh", "crops/train", "w/wccn"])
    assert "needs --wccn-dir" in run("score", *options[:4], *SETS, "w/t.txt", status=1)
    (crops / "test/crop2utt").rename(crops / "test/gone")
    assert "no such file: crops/test/crop2utt" in run("train-wccn", "crops/test", "w/no", status=1)
    (crops / "test/gone").rename(crops / "test/crop2utt")


def test_scores_averaged_over_crops(run, corpus, crops):
    sets = ["trials", "crops/enroll", "crops/test"]
    options = ["--crops", "true", "--centring", "centred", "--train-dir", "x/train"]
    run("score", *options, *sets, "cr/s.txt")
    eer = results_of(corpus / "cr/s.result.json")["eer"]
    assert (eer["treatment"], eer["test_set"]) == ("centred, crops", "test")
    mean = vectors_of("train")[1].mean(axis=0)
    units = {}
    for name in ("enroll", "test"):
        for line in (crops / name / "xvector.scp").read_text().splitlines():
            key, place = line.split(None, 1)
            vector = read_object(place) - mean
            units.setdefault(key.partition("#")[0], []).append(vector / np.linalg.norm(vector))
    members = dict(line.split(None, 1) for line in (crops / "enroll/spk2utt").read_text().splitlines())
    for line in (corpus / "cr/s.txt").read_text().splitlines()[::400]:
        model, test, score = line.split()
        models = [unit for utterance in members[model].split() for unit in units[utterance]]
        assert float(score) == pytest.approx(np.mean([a @ b for a in models for b in units[test]]), abs=1e-7)
    norm = ["--normalisation", "t-norm", "--cohort-dir", "crops/train"]
    assert "a cohort of 900 utterances" in run("score", *options, *norm, *sets, "cr/t.txt")
    for words, message in (
        (["--crops", "true", *SETS], "no x/enroll/crop2utt"),
        (["--crops", "true", "--backend", "plda", "--plda-dir", "x", *sets], "--crops is for cosine"),
    ):
        assert message in run("score", *words, "cr/no.txt", status=1)


def test_what_a_normalisation_lacks_is_named(run):
    norm = ["--normalisation", "as-norm"]
    assert "needs --cohort-dir" in run("score", *norm, *SETS, "no.txt", status=1)
    norm += ["--cohort-dir", "x/train"]
    words = [*norm, "--cohort-clusters", "test.utt2spk", *SETS, "no.txt"]
    assert "has no cluster for 900 of 900 utterances" in run("score", *words, status=1)


def test_a_statistic_beside_the_embedding_is_in_the_treatment(run, corpus):
    keys, vectors, _ = vectors_of("test")
    write_embeddings(corpus / "x" / "beside", keys, vectors, "test")
    with open(corpus / "x/beside/meta.yaml", "a") as stream:
        stream.write("beside: [fbank-stats_mini/seed0]\n")
    (corpus / "t").write_text(f"{keys[0]} {keys[1]} target\n{keys[0]} {keys[9]} nontarget\n")
    run("score", "t", "x/beside", "x/beside", "be/s.txt")
    assert results_of(corpus / "be/s.result.json")["eer"]["treatment"] == "raw + statistics"
