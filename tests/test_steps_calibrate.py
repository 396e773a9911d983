"""Calibration, trials without labels and thresholds, from embedding folders to result files."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from test_infer_embed import RATE, speech
from test_infer_model_folder import configuration, tdnn
from test_steps_scoring import RESULT_KEYS, write_embeddings, write_table

import pydino
from pydino.backend import Plda, PldaChain
from pydino.base import UserError, dump_config, utterance_hash
from pydino.cli import main
from pydino.cli._crop_trials import read_crops
from pydino.cli._embeddings import read_embeddings
from pydino.cli._plda import read_chain, write_chain
from pydino.cli._steps import pending
from pydino.infer import save_model
from pydino.kaldi import read_table
from pydino.kaldi.trials import join_scores, read_scores, read_trials

SPEAKERS, EACH, CROPS, DIM = 40, 5, 4, 16
MODEL = "exp/model"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Speakers with sessions: a training set with crops, and a test set of other speakers."""
    folder = tmp_path_factory.mktemp("eich ung é")
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        speaker = np.repeat(np.arange(SPEAKERS), EACH)
        session = 1.5 * rng.normal(size=(SPEAKERS, DIM))[speaker] + rng.normal(size=(len(speaker), DIM))
        keys = [f"{name}{s:02d}-{u}" for u, s in enumerate(speaker)]
        write_embeddings(folder / "x" / name, keys, session + 0.3 * rng.normal(size=session.shape), name)
        write_table(folder / f"{name}.utt2spk", dict(zip(keys, (f"s{s:02d}" for s in speaker), strict=True)))
        write_table(folder / f"{name}.utt2dur", dict(zip(keys, rng.uniform(1, 9, len(keys)), strict=True)))
        assert main(["make-trials", str(folder / f"{name}.utt2spk"), str(folder / f"{name}.trials")]) == 0
        if name == "train":
            crops = {f"{key}#{k}": key for key in keys for k in range(1, CROPS + 1)}
            noisy = np.repeat(session, CROPS, axis=0) + 0.7 * rng.normal(size=(len(crops), DIM))
            write_embeddings(folder / "x" / "crops", list(crops), noisy, "crops")
            for made in ("train", "crops"):
                meta = folder / "x" / made / "meta.yaml"
                meta.write_text(meta.read_text().replace("exp/dino_mini/seed3/teacher", MODEL))
            write_table(folder / "x" / "crops" / "crop2utt", crops)
            write_table(folder / "x" / "crops" / "utt2hash", {key: utterance_hash(key) for key in keys})
    return folder


@pytest.fixture(scope="module")
def scored(corpus):
    """Scores of the trials of both sets and of crops."""
    x, s = corpus / "x", corpus / "s"
    assert main(["make-crop-trials", str(x / "crops"), str(x / "train"), str(x / "pairs")]) == 0
    for trials, embedded, name in (
        (corpus / "train.trials", x / "train", "dev"),
        (corpus / "test.trials", x / "test", "test"),
        (x / "pairs" / "pairs", x / "pairs", "crops"),
    ):
        assert (
            main(["score", "--resamples", "20", *map(str, (trials, embedded, embedded, s / f"{name}.txt"))])
            == 0
        )
    return s


def calibrate(
    corpus, scored, out, *options, dev="dev.txt", dev_trials="train.trials", given=("test.txt",), status=0
):
    words = [
        "--dev-trials",
        corpus / dev_trials,
        "--utt2spk",
        corpus / "test.utt2spk",
        "--resamples",
        50,
        *options,
    ]
    words += [
        word for name in ([dev] if isinstance(dev, str) else dev) for word in ("--dev-scores", scored / name)
    ]
    words += [corpus / "test.trials", *(scored / name for name in given), scored / out]
    assert main(["calibrate", *map(str, words)]) == status
    return (
        {one["metric"]: one for one in json.loads((scored / f"{out[:-4]}.result.json").read_text())}
        if not status
        else None
    )


def test_calibrated_scores_are_likelihood_ratios(corpus, scored):
    found = calibrate(corpus, scored, "calibrated.txt")
    assert list(found) == "eer mindcf_0.01 mindcf_0.05 actdcf_0.01 actdcf_0.05 cllr min_cllr".split()
    assert all(list(one)[: len(RESULT_KEYS)] == RESULT_KEYS for one in found.values())
    one = found["cllr"]
    assert (one["treatment"], one["labels"], one["config"]) == (
        "raw, calibrated",
        "train",
        "dino_mini/teacher",
    )
    assert (one["model"], one["seed"], one["backend"], one["test_set"]) == ("dino", 3, "cosine", "test")
    assert one["ci"][0] < one["value"] < one["ci"][1] and found["min_cllr"]["ci"] is None
    assert found["min_cllr"]["value"] <= one["value"] < found["min_cllr"]["value"] + 0.05
    assert (
        found["mindcf_0.05"]["value"] <= found["actdcf_0.05"]["value"] < found["mindcf_0.05"]["value"] + 0.1
    )
    raw = {one["metric"]: one["value"] for one in json.loads((scored / "test.result.json").read_text())}
    assert found["eer"]["value"] == raw["eer"]  # one score file: the order stays
    record = json.loads((scored / "calibrated.calibration.json").read_text())
    trials = read_trials(corpus / "test.trials")
    before, after = (
        join_scores(read_scores(scored / name), trials, name, "trials")
        for name in ("test.txt", "calibrated.txt")
    )
    (weight,) = record["weights"].values()
    np.testing.assert_allclose(after, weight * before + record["offset"], atol=1e-6)


def test_scores_are_joined_by_key_and_a_rerun_has_nothing_to_do(corpus, scored, capsys):
    lines = (scored / "dev.txt").read_text().splitlines(keepends=True)
    (scored / "reversed.txt").write_text("".join(reversed(lines)))
    calibrate(corpus, scored, "ordered.txt")
    calibrate(corpus, scored, "of_reversed.txt", dev="reversed.txt")
    assert (scored / "ordered.txt").read_bytes() == (scored / "of_reversed.txt").read_bytes()
    capsys.readouterr()
    calibrate(corpus, scored, "ordered.txt")
    assert "is up to date" in capsys.readouterr().err
    (scored / "ordered.result.json").unlink()
    words = ["--dev-trials", corpus / "train.trials", "--utt2spk", corpus / "test.utt2spk", "--resamples", 50]
    words += [
        "--dev-scores",
        scored / "dev.txt",
        corpus / "test.trials",
        scored / "test.txt",
        scored / "ordered.txt",
    ]
    assert pending(["steps/calibrate.sh", *map(str, words)])


def test_labels_of_a_calibration_without_labels(corpus, scored, capsys):
    found = calibrate(corpus, scored, "free.txt", dev="crops.txt", dev_trials="x/pairs/trials")
    assert (found["cllr"]["labels"], found["cllr"]["treatment"]) == ("none", "raw, calibrated on crops")
    oracle = calibrate(corpus, scored, "oracle.txt")["cllr"]["value"]
    assert oracle <= found["cllr"]["value"] < 1  # biased, yet better than to know nothing
    clusters = corpus / "clusters"
    clusters.mkdir()
    write_table(clusters / "utt2cluster", dict(line.split() for line in (corpus / "train.utt2spk").open()))
    (clusters / "clusters.json").write_text('{"labels": "pseudo"}')
    assert main(["make-trials", str(clusters / "utt2cluster"), str(clusters / "trials")]) == 0
    found = calibrate(corpus, scored, "pseudo.txt", dev_trials="clusters/trials")
    assert (found["cllr"]["labels"], found["cllr"]["treatment"]) == ("pseudo", "raw, calibrated on clusters")
    assert "knows the answers" not in capsys.readouterr().err
    results = json.loads((scored / "test.result.json").read_text())
    (scored / "plda.result.json").write_text(json.dumps([one | {"labels": "pseudo"} for one in results]))
    (scored / "plda.txt").write_bytes((scored / "test.txt").read_bytes())
    calibrate(corpus, scored, "own.txt", dev_trials="clusters/trials", given=("plda.txt",))
    assert "knows the answers" in capsys.readouterr().err
    found = calibrate(
        corpus, scored, "own.txt", dev="crops.txt", dev_trials="x/pairs/trials", given=("plda.txt",)
    )
    assert found["cllr"]["labels"] == "pseudo" and "knows the answers" not in capsys.readouterr().err


def test_fusion_with_quality(corpus, scored, capsys):
    norms = ["--norms", corpus / "x" / "train", "--norms", corpus / "x" / "test"]
    for name in ("train", "test"):  # tables of one name are one measure
        (corpus / name).mkdir(exist_ok=True)
        (corpus / name / "utt2dur").write_bytes((corpus / f"{name}.utt2dur").read_bytes())
    durations = [word for name in ("train", "test") for word in ("--quality", corpus / name / "utt2dur")]
    twice = {"dev": ("dev.txt", "dev.txt"), "given": ("test.txt", "test.txt")}
    found = calibrate(corpus, scored, "fused.txt", *durations, *norms, **twice)
    assert found["eer"]["treatment"] == "raw + raw, calibrated with utt2dur and norm"
    assert found["eer"]["backend"] == "cosine + cosine" and found["eer"]["model"] == "dino"
    record = json.loads((scored / "fused.calibration.json").read_text())
    assert [name for name in record["weights"] if " of " in name] == [
        f"{way} of log {name}" for name in ("utt2dur", "norm") for way in ("minimum", "difference")
    ]
    capsys.readouterr()
    free = {"dev": "crops.txt", "dev_trials": "x/pairs/trials"}
    calibrate(corpus, scored, "wrong.txt", "--norms", corpus / "x" / "pairs", **free, status=1)
    assert "which a quality measure tells apart" in capsys.readouterr().err
    calibrate(corpus, scored, "wrong.txt", "--quality", corpus / "train" / "utt2dur", status=1)
    assert "has no log utt2dur" in capsys.readouterr().err
    calibrate(corpus, scored, "wrong.txt", dev=("dev.txt", "dev.txt"), status=1)
    assert "--dev-scores once for each" in capsys.readouterr().err


def test_what_a_plda_that_was_not_trained_has_scored_is_not_calibrated(corpus, scored, capsys):
    (corpus / "plda").mkdir()
    options = ["--plda-dir", corpus / "plda"]
    calibrate(corpus, scored, "of_plda.txt", *options)
    (corpus / "plda" / "skipped").write_text("no PLDA: too few speakers\n")
    words = [
        *options,
        "--dev-trials",
        "t",
        "--dev-scores",
        "gone.txt",
        "t",
        "gone.txt",
        scored / "of_plda.txt",
    ]
    assert pending(["steps/calibrate.sh", *map(str, words)]) == {}
    assert main(["calibrate", *map(str, words)]) == 0
    assert "skipped: no PLDA: too few speakers" in capsys.readouterr().err
    assert not list(scored.glob("of_plda.*"))


# Trials of crops


def test_trials_of_two_systems_are_the_same_and_hold_what_they_name(corpus):
    """So they can be joined; the utterances may be in several folders."""
    x, keys = corpus / "x", read_table(corpus / "x" / "train" / "xvector.scp")
    for name, some in (("a", list(keys)[:90]), ("b", list(keys)[90:])):
        (x / name).mkdir()
        write_table(x / name / "xvector.scp", {key: keys[key] for key in some})
    for out, folders in (("few", [x / "train"]), ("few2", [x / "a", x / "b"])):
        words = ["--max-pairs", 30, x / "crops", *folders, x / out]
        assert main(["make-crop-trials", *map(str, words)]) == 0
    assert (x / "few" / "trials").read_bytes() == (x / "few2" / "trials").read_bytes()
    named = {key for line in (x / "few" / "trials").open() for key in line.split()[:2]}
    assert named == set(read_table(x / "few" / "xvector.scp")) and len(named) < 120
    assert main(["join-embeddings", *map(str, (x / "few", x / "few2", x / "both"))]) == 0


def test_trials_of_clusters_allow_quality_measures(corpus, scored, capsys):
    x, clusters = corpus / "x", corpus / "pairs of clusters"
    clusters.mkdir()
    speakers = dict(line.split() for line in (corpus / "train.utt2spk").open())
    write_table(clusters / "utt2cluster", speakers)
    (clusters / "clusters.json").write_text('{"labels": "pseudo"}')
    words = ["--targets", "clusters", "--clusters", clusters, x / "crops", x / "train", x / "of_clusters"]
    assert main(["make-crop-trials", *map(str, words)]) == 0
    for line in (x / "of_clusters" / "trials").open():
        a, b, kind = line.split()
        assert (speakers[a] == speakers[b]) == (kind == "target")
    words = [x / "of_clusters" / "pairs", x / "of_clusters", x / "of_clusters", scored / "of_clusters.txt"]
    assert main(["score", *map(str, words)]) == 0
    norms = ["--norms", x / "train", "--norms", x / "test"]
    free = {"dev": "of_clusters.txt", "dev_trials": "x/of_clusters/trials"}
    found = calibrate(corpus, scored, "free_norm.txt", *norms, **free)["cllr"]
    assert (found["treatment"], found["labels"]) == ("raw, calibrated on clusters with norm", "pseudo")
    write_table(clusters / "utt2cluster", {key: key for key in speakers})
    words = ["--targets", "clusters", "--clusters", clusters, x / "crops", x / "train", x / "of_clusters"]
    assert main(["make-crop-trials", *map(str, words)]) == 0
    words = [x / "of_clusters" / "pairs", x / "of_clusters", x / "of_clusters", scored / "of_clusters.txt"]
    assert main(["score", *map(str, words)]) == 0 and not (scored / "of_clusters.txt").exists()
    words = ["--dev-trials", x / "of_clusters/trials", "--dev-scores", scored / "of_clusters.txt"]
    words += [corpus / "test.trials", scored / "test.txt", scored / "free_norm.txt"]
    assert main(["calibrate", *map(str, words)]) == 0 and not (scored / "free_norm.txt").exists()
    assert capsys.readouterr().err.count("each utterance is alone in its cluster") == 3
    words = ["--targets", "clusters", x / "crops", x / "train", x / "none"]
    assert main(["make-crop-trials", *map(str, words)]) == 1
    assert "--targets clusters needs --clusters" in capsys.readouterr().err


def test_trials_of_crops_know_no_names(corpus):
    """Renamed utterances with the same stored hashes, in another order, give the same trials."""
    renamed = corpus / "renamed"
    keys = [line.split()[0] for line in (corpus / "x" / "crops" / "utt2hash").open()]
    new = {key: f"z{i:03d}" for i, key in enumerate(reversed(keys))}
    renamed.mkdir()
    write_table(renamed / "crop2utt", {f"{new[k]}#{n}": new[k] for k in keys for n in range(1, CROPS + 1)})
    write_table(renamed / "utt2hash", {new[key]: utterance_hash(key) for key in keys})
    old = {name: key for key, name in new.items()}

    def named(crops, back):
        def original(key):
            utterance, mark, number = key.partition("#")
            return back.get(utterance, utterance) + mark + number

        return [
            (original(crops.keys[i]), original(crops.keys[j]), s)
            for i, j, s in zip(*crops.pairs(300, 1), strict=True)
        ]

    assert named(read_crops(corpus / "x" / "crops", None), {}) == named(read_crops(renamed, None), old)


def test_crops_and_utterances_of_two_models_are_refused(corpus, tmp_path, capsys):
    keys = [line.split()[0] for line in (corpus / "x" / "train" / "xvector.scp").open()]
    write_embeddings(tmp_path / "wide", keys, np.ones((len(keys), DIM + 3)), "train")
    words = ["make-crop-trials", str(corpus / "x" / "crops")]
    assert main([*words, str(tmp_path / "wide"), str(tmp_path / "pairs")]) == 1
    said = capsys.readouterr().err
    assert f"crops has {DIM} dimensions, and {tmp_path}/wide {DIM + 3}; extract the crops with" in said
    assert not (tmp_path / "pairs" / "trials").exists()
    threshold(corpus, tmp_path / "t", "--xvectors", tmp_path / "wide", status=1)
    said = capsys.readouterr().err
    assert "has 16 dimensions" in said or "the threshold is for exp/model" in said
    write_embeddings(tmp_path / "other", keys, np.ones((len(keys), DIM)), "train")
    assert main([*words, str(tmp_path / "other"), str(tmp_path / "pairs")]) == 0
    assert "are crops embedded by exp/model, and" in capsys.readouterr().err


def test_clusters_are_left_out_of_the_pairs(corpus):
    clusters = corpus / "some clusters"
    clusters.mkdir()
    speakers = dict(line.split() for line in (corpus / "train.utt2spk").open())
    write_table(clusters / "utt2cluster", speakers)
    words = ["--clusters", clusters, corpus / "x" / "crops", corpus / "x" / "train", corpus / "apart"]
    assert main(["make-crop-trials", *map(str, words)]) == 0
    trials = [line.split() for line in (corpus / "apart" / "trials").open()]
    assert all(
        (speakers[a.split("#")[0]] == speakers[b.split("#")[0]]) == (kind == "target")
        for a, b, kind in trials
    )
    assert {kind for *_, kind in trials} == {"target", "nontarget"}
    assert json.loads((corpus / "apart" / "trials.json").read_text())["labels"] == "train"  # no clusters.json
    with pytest.raises(UserError, match="run steps/extract_crops.sh"):
        read_crops(corpus / "x" / "train", None)


def test_a_threshold_is_of_one_model_and_says_whether_it_has_heard_the_recordings(corpus, tmp_path, capsys):
    folder = tmp_path / "train"
    shutil.copytree(corpus / "x" / "train", folder)
    meta = yaml.safe_load((folder / "meta.yaml").read_text())
    meta |= {"model_dir": MODEL, "training_overlap": {"known": True, "count": 2}}
    (folder / "meta.yaml").write_text(yaml.safe_dump(meta))
    (folder / "in_training.txt").write_text("a\nb\n")
    options = ["--xvectors", folder, "--false-alarm-rate", 0.05]
    said = " ".join(threshold(corpus, tmp_path / "heard", *options)["cannot_know"])
    assert "trained on 2 of these recordings" in said
    shutil.copytree(folder, tmp_path / "else")
    (tmp_path / "else/meta.yaml").write_text(yaml.safe_dump(meta | {"model_dir": "exp/other"}))
    threshold(corpus, tmp_path / "other", "--xvectors", tmp_path / "else", status=1)
    assert f"embedded with exp/other, and the threshold is for {MODEL}" in capsys.readouterr().err


def threshold(corpus, out, *options, status=0):
    words = [
        "--crops",
        corpus / "x" / "crops",
        "--xvectors",
        corpus / "x" / "train",
        "--resamples",
        100,
        *options,
    ]
    assert main(["threshold", *map(str, words), "exp/model", "data/mine", str(corpus / out)]) == status
    found = corpus / out / "threshold.json"
    return json.loads(found.read_text()) if not status and found.exists() else None


def test_a_threshold_without_labels_gives_about_its_rate(corpus, scored, capsys):
    trials = read_trials(corpus / "test.trials")
    scores = join_scores(read_scores(scored / "test.txt"), trials, "scores", "trials")[~trials.values]
    plain = threshold(corpus, "plain", "--false-alarm-rate", 0.05)
    told = threshold(corpus, "told", "--false-alarm-rate", 0.05, "--speakers", SPEAKERS)
    low, high = told["threshold_interval"]
    assert low < told["threshold"] < high and told["threshold"] < plain["threshold"]
    assert (scores >= plain["threshold"]).mean() < 0.05
    assert (scores >= told["threshold"]).mean() == pytest.approx(0.05, abs=0.02)
    assert len(told["mean"]) == DIM and "was given, not found" in " ".join(told["cannot_know"])
    assert "--speakers or --clusters" in " ".join(plain["cannot_know"])
    capsys.readouterr()
    threshold(corpus, "told", "--false-alarm-rate", 0.05, "--speakers", SPEAKERS)
    assert "is up to date" in capsys.readouterr().err
    threshold(corpus, "few", "--false-alarm-rate", 0.05)
    assert threshold(corpus, "few", "--false-alarm-rate", 1e-5) is None  # and nothing of before is left
    assert "too few for a false-alarm rate" in capsys.readouterr().err
    assert "too few for a false-alarm rate" in (corpus / "few" / "skipped").read_text()
    threshold(corpus, "few", "--false-alarm-rate", 0.05)
    assert not (corpus / "few" / "skipped").exists()
    threshold(corpus, "both", "--speakers", 3, "--clusters", corpus, status=1)
    assert "give one of them" in capsys.readouterr().err


def test_a_threshold_of_plda_scores_is_by_the_formula_and_its_rate_is_kept(corpus, capsys):
    """Scores from the covariances of the model, dimension by dimension, on the pairs that the step draws."""
    x, table = corpus / "x", corpus / "labels"
    write_table(table, dict(line.split() for line in (corpus / "train.utt2spk").open()))
    assert main(["train-plda", "--lda-dim", "8", str(table), str(x / "train"), str(corpus / "plda")]) == 0
    options = ["--backend", "plda", "--plda-dir", corpus / "plda", "--false-alarm-rate", 0.05]
    found = threshold(corpus, "by plda", *options)
    assert found["score"].startswith("log-likelihood ratio of a PLDA") and found["labels"] == "train"
    assert any("PLDA tells the recordings" in text for text in found["cannot_know"])
    chain = read_chain(corpus / "by plda" / "plda", DIM)
    np.testing.assert_allclose(chain.mean, found["mean"], rtol=1e-5, atol=1e-6)
    crops = read_crops(x / "crops", None)
    count = len(crops.utterances)
    scores, both = {}, [read_embeddings(x / name) for name in ("crops", "train")]
    first, second, same = crops.pairs(50_000, 0)
    for kind, embedded, keys in zip(
        (True, False), both, (crops.keys[:count], crops.keys[count:]), strict=True
    ):
        vectors = embedded.vectors[embedded.places(keys, "keys")].astype(np.float64)
        places = chain.plda.project(chain.reduce(vectors - vectors.mean(axis=0) + chain.mean))
        begin = 0 if kind else count
        u, v = (places[side[same == kind] - begin] for side in (first, second))
        psi, total = chain.plda.psi, chain.plda.psi + 1
        joint = -0.5 * np.log(total**2 - psi**2) - 0.5 * (total * (u**2 + v**2) - 2 * psi * u * v) / (
            total**2 - psi**2
        )
        apart = -np.log(total) - 0.5 * (u**2 + v**2) / total
        scores[kind] = (joint - apart).sum(axis=1)
    assert (scores[True] < found["threshold"]).mean() == pytest.approx(found["miss_rate_of_crops"], abs=2e-3)
    accepted = (scores[False] >= found["threshold"]).mean()
    assert accepted == pytest.approx(0.05, abs=2e-3)
    shutil.rmtree(corpus / "by plda/plda")
    assert threshold(corpus, "by plda", *options) == found and (corpus / "by plda/plda/plda").is_file()
    threshold(corpus, "no plda", "--backend", "plda", status=1)
    assert "needs --plda-dir" in capsys.readouterr().err
    threshold(corpus, "", "--backend", "plda", "--plda-dir", corpus / "plda", status=1)
    assert "is where the PLDA is copied to" in capsys.readouterr().err
    dump_config({"model_dir": "exp/other/model"}, corpus / "other_model/meta.yaml")
    dump_config({"embeddings": [str(corpus / "other_model")]}, corpus / "plda/meta.yaml")
    threshold(corpus, "by another", *options, status=1)
    assert "embedded with exp/other/model, and the threshold is for" in capsys.readouterr().err
    (corpus / "none").mkdir()
    (corpus / "none/skipped").write_text("no PLDA from clusters: a single cluster")
    assert threshold(corpus, "by none", "--backend", "plda", "--plda-dir", corpus / "none") is None
    assert "a single cluster" in (corpus / "by none" / "skipped").read_text()


def test_a_threshold_by_costs_that_nothing_or_everything_reaches_is_explained(corpus, capsys):
    high = threshold(corpus, "high", "--prior", 1e-9, "--false-alarm-rate", 0.05)
    assert high["threshold_by_costs"] > 1 and high["miss_rate_of_crops_by_costs"] == 1
    assert "more than a cosine can be: with --prior 1e-09" in high["note_on_costs"]
    assert "raise --prior" in capsys.readouterr().err
    low = threshold(corpus, "low", "--prior", 0.999999, "--c-miss", 1e6, "--false-alarm-rate", 0.05)
    assert "accept every pair" in low["note_on_costs"] and low["miss_rate_of_crops_by_costs"] == 0
    usual = threshold(corpus, "usual", "--prior", 0.5, "--false-alarm-rate", 0.05)
    assert usual["note_on_costs"] == ""


def test_two_recordings_are_compared_by_the_plda_beside_the_threshold(tmp_path, capsys):
    save_model(tmp_path / "model", tdnn(), configuration(), "")
    paths = [tmp_path / name for name in ("one.wav", "two.wav")]
    for seed, path in enumerate(paths):
        soundfile.write(path, speech(1.5, seed), RATE)
    rng = np.random.default_rng(0)
    mean = 0.1 * rng.normal(size=12)
    chain = PldaChain(mean, rng.normal(size=(5, 12)), Plda(np.zeros(5), np.eye(5), np.linspace(3, 0.5, 5)))
    write_chain(tmp_path / "plda", chain)
    record = {"model": str(tmp_path / "model"), "mean": mean.tolist(), "plda": "exp/plda", "threshold": -1e9}
    record |= {
        "threshold_by_costs": 1e9,
        "note_on_costs": "no pair",
        "calibration": {"weight": 2.0, "offset": 1.0},
    }
    (tmp_path / "threshold.json").write_text(json.dumps(record))
    assert main(["same-speaker", str(tmp_path / "threshold.json"), *map(str, paths)]) == 0
    one, two, score, llr, answer = capsys.readouterr().out.split()
    model = pydino.load(tmp_path / "model")
    vectors = np.array([model.embed(*soundfile.read(path, dtype="float32")) for path in paths])
    left, right = chain.comparison_features(vectors[:1], 1, vectors[1:])
    assert float(score) == pytest.approx(float(left[0] @ right[0]), abs=2e-4)
    assert float(llr) == pytest.approx(2 * float(score) + 1, abs=0.01) and answer == "same"
    assert (
        main(["same-speaker", "--by-costs", "true", str(tmp_path / "threshold.json"), *map(str, paths)]) == 0
    )
    said = capsys.readouterr()
    assert said.out.split()[-1] == "different" and "no pair" in said.err
    (tmp_path / "plda").rename(tmp_path / "elsewhere")
    assert main(["same-speaker", str(tmp_path / "threshold.json"), *map(str, paths)]) == 1
    assert "copy it too, or run the step again" in capsys.readouterr().err
    (tmp_path / "threshold.json").write_text("kind: a YAML file")
    assert main(["same-speaker", str(tmp_path / "threshold.json"), *map(str, paths)]) == 1
    said = capsys.readouterr().err
    assert "is not the threshold.json" in said and "remove" not in said


def test_two_recordings_are_compared_as_the_page_says(tmp_path, capsys):
    """The verb, and the example of docs/calibration.md, on the same recordings."""
    save_model(tmp_path / "model", tdnn(), configuration(), "")
    paths = [tmp_path / name for name in ("one.wav", "two.flac", "three.wav")]
    for seed, path in enumerate(paths):
        soundfile.write(path, speech(1.5, seed), RATE)
    record = {
        "model": str(tmp_path / "model"),
        "mean": [0.1] * 12,
        "threshold": 0.2,
        "threshold_by_costs": 2.0,
    }
    record["calibration"] = {"weight": 3.0, "offset": -1.0}
    (tmp_path / "threshold.json").write_text(json.dumps(record))
    assert main(["same-speaker", str(tmp_path / "threshold.json"), *map(str, paths)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines] == [["one", "two"], ["one", "three"], ["two", "three"]]

    page = (Path(__file__).parent.parent / "docs" / "calibration.md").read_text(encoding="utf-8")
    example = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    names = {}
    exec(
        example.replace("exp/dino_mini/seed0/threshold/threshold.json", str(tmp_path / "threshold.json")),
        names,
    )
    for (_, _, score, llr, answer), pair in zip(lines, ((0, 1), (0, 2), (1, 2)), strict=True):
        same, found = names["same_speaker"](*(str(paths[i]) for i in pair))
        assert float(score) == pytest.approx(found, abs=1e-4)
        assert float(llr) == pytest.approx(3 * found - 1, abs=0.01)
        assert answer == ("same" if same else "different")
    assert (
        main(["same-speaker", "--by-costs", "true", str(tmp_path / "threshold.json"), *map(str, paths)]) == 0
    )
    assert capsys.readouterr().out.count("different") == 3
    assert main(["same-speaker", str(tmp_path / "threshold.json"), str(paths[0])]) == 1
    assert "two recordings or more" in capsys.readouterr().err
    for wrong, message in (
        ({**record, "model": "exp/elsewhere"}, "call this from the folder where"),
        ({}, "is not the threshold.json"),
    ):
        (tmp_path / "threshold.json").write_text(json.dumps(wrong))
        assert main(["same-speaker", str(tmp_path / "threshold.json"), *map(str, paths)]) == 1
        assert message in capsys.readouterr().err
