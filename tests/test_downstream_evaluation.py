"""From the outputs for utterances to measures of units: by hand, by scikit-learn, and what is refused."""

import json

import numpy as np
import pytest
from scipy.stats import pearsonr
from sklearn.metrics import f1_score, recall_score

from pydino.backend import number_measures, speaker_sums
from pydino.base import UserError
from pydino.cli._task_results import task_outputs, write_task_outputs
from pydino.downstream import TaskConfig, evaluate, read_task, write_task
from pydino.kaldi import read_table

META = {"model": "dino", "system": "dino_x/seed0", "model_labels": "none", "seed": 0, "model_dir": "exp/a"}


def task_of(folder, labels, units=None, groups=None, sets=None, **config):
    """Utterances u0, u1, ... of subjects s0, s1, ..., two utterances each; folds 0 and 1 of every other
    subject.
    """
    names = [f"u{number:03d}" for number in range(len(labels))]
    speakers = {name: f"s{number // 2:03d}" for number, name in enumerate(names)}
    fold = {name: number // 2 % 2 for number, name in enumerate(names)}
    tables = {
        "utt2label": dict(zip(names, labels, strict=True)),
        "utt2spk": speakers,
        "utt2unit": units(speakers) if units else {name: name for name in names},
        "utt2set": sets(names) if sets else dict.fromkeys(names, "test"),
    }
    if groups:
        tables["utt2group"] = groups(names)
    folds = {
        str(number): {name: "test" if fold[name] == number else "train" for name in names}
        for number in (0, 1)
    }
    if config.get("kind") != "number":
        config["classes"] = sorted(set(labels))
    write_task(folder, TaskConfig("emotion", folds=["0", "1"], division="by hand", **config), tables, folds)
    return read_task(folder), names


def posteriors(rng, truth, classes):
    logits = rng.standard_normal((len(truth), classes)) + 1.5 * np.eye(classes)[truth]
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_measures_of_utterances_are_scikit_learns(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 120)
    task, names = task_of(tmp_path, ["abc"[number] for number in truth])
    outputs = posteriors(rng, truth, 3)
    done = evaluate(task, dict(zip(names, outputs, strict=True)))
    guess, found = outputs.argmax(axis=1), {name: value for name, value, *_ in done.measures}
    assert found["uar"] == pytest.approx(100 * recall_score(truth, guess, average="macro"))
    assert found["f1_macro"] == pytest.approx(100 * f1_score(truth, guess, average="macro"))
    assert found["accuracy"] == pytest.approx(100 * np.mean(truth == guess)) == found["f1_micro"]
    assert done.confusion.sum() == 120 and done.speakers == 60
    posterior = np.exp(outputs)
    bins = np.array_split(np.argsort(posterior.max(axis=1), kind="stable"), 12)  # of ten
    gaps = [len(b) * abs((truth == guess)[b].mean() - posterior[b].max(axis=1).mean()) for b in bins]
    assert found["calibration_error"] == pytest.approx(sum(gaps) / 120)
    assert "calibration_error" not in done.chance
    fold = np.arange(120) // 2 % 2
    in_folds = [recall_score(truth[fold == n], guess[fold == n], average="macro") for n in (0, 1)]
    assert done.mean_of_folds["uar"] == pytest.approx(100 * np.mean(in_folds))
    assert done.chance["uar"] == pytest.approx(100 / 3)
    assert done.chance["accuracy"] == pytest.approx(100 * np.bincount(truth).max() / 120)
    low, high = next(ci for name, _, _, ci in done.measures if name == "accuracy")
    assert low < found["accuracy"] < high
    lines = {line[0]: line for line in done.predictions}
    assert lines["u002"] == ("u002", "s001", "1", "abc"[truth[2]], "abc"[guess[2]])


def test_posteriors_of_a_subject_are_averaged_as_logarithms(tmp_path):
    """One sure utterance outweighs one that hesitates, which a vote or the last utterance would not."""
    task, names = task_of(tmp_path, ["a", "a", "b", "b"], units=dict, average_over="subject")
    outputs = np.log([[0.45, 0.55], [0.9, 0.1], [0.4, 0.6], [0.55, 0.45]])
    done = evaluate(task, dict(zip(names, outputs, strict=True)))
    assert [line[0] for line in done.predictions] == ["s000", "s001"]
    assert done.confusion.tolist() == [[1, 0], [0, 1]]
    without = evaluate(task, dict(zip(names, outputs, strict=True)), only={"u000", "u002"})
    assert without.confusion.tolist() == [[0, 1], [0, 1]]


def test_measures_of_numbers_are_scipys(tmp_path):
    rng = np.random.default_rng(0)
    truth = 70 + 10 * rng.standard_normal(80)
    guess = truth + 5 * rng.standard_normal(80) + 1
    labels = [f"{value!r}" for value in map(float, truth)]
    task, names = task_of(tmp_path, labels, kind="number", unit="years")
    done = evaluate(task, {name: np.array([value]) for name, value in zip(names, guess, strict=True)})
    found = {name: (value, unit) for name, value, unit, _ in done.measures}
    assert found["mae"] == (pytest.approx(np.abs(guess - truth).mean()), "years")
    assert found["rmse"] == (pytest.approx(np.sqrt(np.mean((guess - truth) ** 2))), "years")
    assert found["pearson"] == (pytest.approx(pearsonr(truth, guess)[0]), "")
    assert done.confusion is None
    assert done.chance["mae"] == pytest.approx(np.abs(truth - truth.mean()).mean())
    assert done.chance["pearson"] == 0


def test_correlation_of_large_numbers_and_of_a_constant():
    truth = 1e6 + np.arange(10.0)
    assert number_measures(speaker_sums(truth, 2 * truth, np.zeros(10, int)))["pearson"] == pytest.approx(1)
    assert number_measures(speaker_sums(truth, truth * 0, np.zeros(10, int)))["pearson"] == 0


def test_a_unit_has_one_label(tmp_path):
    task, names = task_of(tmp_path, ["a", "b", "a", "b"], units=dict, average_over="subject")
    with pytest.raises(UserError, match="utterances of s000 have the labels a and b"):
        evaluate(task, {name: np.log([0.5, 0.5]) for name in names})


def test_what_cannot_be_measured_is_refused(tmp_path):
    task, names = task_of(tmp_path, ["a", "b", "a", "b"])
    with pytest.raises(UserError, match="none of its 4 test utterances"):
        evaluate(task, {"else": np.zeros(2)})
    with pytest.raises(UserError, match="outputs have 3 columns; the task has 2"):
        evaluate(task, {names[0]: np.zeros(3)})
    with pytest.raises(UserError, match="the output for u001 is not a number"):
        evaluate(task, {names[1]: np.array([np.nan, 0])})


def test_test_sets_and_groups_are_measured_apart(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 40)
    task, names = task_of(
        tmp_path / "task",
        ["ab"[number] for number in truth],
        sets=lambda names: {name: "test1" if name < "u020" else "test2" for name in names},
        groups=lambda names: {name: "scripted" for name in names[:8]},
    )
    outputs = dict(zip(names, posteriors(rng, truth, 2), strict=True))
    (tmp_path / "out").mkdir()
    common = {"backend": "logreg", "treatment": "raw", "command": "x", "resamples": 50, "seed": 0}
    write_task_outputs(tmp_path / "out", task, outputs, META, **common, extra={"transductive": True})
    assert all(path.is_file() for path in task_outputs(tmp_path / "out", task))
    entries = json.loads((tmp_path / "out/emotion.result.json").read_text())
    counted = {entry["test_set"]: entry["n"] for entry in entries}
    assert counted == {"test1": 20, "test2": 20, "test1, scripted": 8}
    assert all(entry["transductive"] and entry["division"] == "by hand" for entry in entries)
    accuracy = [entry for entry in entries if entry["metric"] == "accuracy"]
    confusion = json.loads((tmp_path / "out/confusion.json").read_text())
    right = np.trace(np.array(confusion["counts"]))
    assert right / 40 * 100 == pytest.approx(np.mean([entry["value"] for entry in accuracy[:2]]))
    assert confusion["classes"] == ["a", "b"] and confusion["test_set"] == "test1+test2"
    stored = read_table(tmp_path / "out/posteriors.txt")
    values = np.array(stored["u003"].strip(" []").split(), dtype=float)
    np.testing.assert_allclose(values, outputs["u003"], rtol=1e-5)
    assert len((tmp_path / "out/predictions.txt").read_text().splitlines()) == 40
