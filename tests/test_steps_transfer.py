"""steps/make_task.sh and steps/train_classifier.sh: folds before models, whoever is on two sides, labels that
make no sense, and what a classifier leaves.
"""

import json
from pathlib import Path

import kaldiio
import numpy as np
import pytest

from pydino.base import read_yaml
from pydino.cli import main
from pydino.downstream import fit_fold, read_task
from pydino.kaldi import read_table, write_table


def speakers(count, each):
    return {f"s{s:02d}-u{u}": f"s{s:02d}" for s in range(count) for u in range(each)}


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A work folder with data/a: 12 speakers of 6 utterances, classes across them, an age per speaker."""
    monkeypatch.chdir(tmp_path)
    write_data("a", speakers(12, 6))
    return tmp_path


def write_data(name, utt2spk, **tables):
    folder = f"data/{name}"
    write_table(f"{folder}/utt2spk", utt2spk)
    tables.setdefault("utt2side", {key: "xy"[int(key[-1]) % 2] for key in utt2spk})
    tables.setdefault("spk2age", {s: 20 + 3 * int(s[-2:]) for s in utt2spk.values()})
    for table, content in tables.items():
        write_table(f"{folder}/{table}", content)


def make_task(*words, labels="utt2side", status=0, capfd=None):
    found = main(["make-task", "--name", "side", "--labels", labels, *words, "task"])
    said = capfd.readouterr().err if capfd else ""
    assert found == status, said
    return said if status else read_task("task")


def parts(task, fold):
    return {part: set(task.part(fold, part)) for part in ("train", "dev", "test")}


def subjects_of(task, names):
    return {task.speakers[name] for name in names}


def test_folds_are_of_whole_subjects_and_each_is_tested_once(work):
    task = make_task("data/a")
    assert task.config.folds == [str(number) for number in range(10)] and task.config.classes == ["x", "y"]
    tested = [name for fold in task.config.folds for name in task.part(fold, "test")]
    assert sorted(tested) == sorted(task.labels) and len(task.labels) == 72
    for number, fold in enumerate(task.config.folds):
        of = parts(task, fold)
        assert sum(map(len, of.values())) == 72
        people = [subjects_of(task, names) for names in of.values()]
        assert not people[0] & people[1] and not people[0] & people[2] and not people[1] & people[2]
        assert of["dev"] == parts(task, str((number + 1) % 10))["test"]
    final = parts(task, "final")
    assert not final["test"] and final["dev"] == parts(task, "0")["test"] and len(final["train"]) == 60
    assert (
        "10 folds of whole subjects, stratified by class, seed 0; development: the next"
        in task.config.division
    )


def test_it_is_made_again_when_a_table_changes_and_only_then(work, capfd):
    make_task("data/a")
    capfd.readouterr()
    make_task("data/a")
    assert "task is up to date" in capfd.readouterr().err
    write_table("data/a/utt2subject", {key: f"p{key[1:3]}" for key in speakers(12, 6)})
    assert set(make_task("data/a").speakers.values()) == {f"p{s:02d}" for s in range(12)}
    assert "data/a/utt2subject is new" in capfd.readouterr().err


def test_a_table_may_give_the_folds_or_the_parts(work):
    write_table("data/a/utt2fold", {key: f"Ses{int(key[1:3]) % 5}" for key in speakers(12, 6)})
    task = make_task("--folds", "utt2fold", "data/a")
    assert task.config.folds == [f"Ses{number}" for number in range(5)]
    assert subjects_of(task, task.part("Ses2", "test")) == {"s02", "s07"}
    assert subjects_of(task, task.part("Ses4", "dev")) == {"s00", "s05", "s10"}
    part_of = {key: "test" if key < "s03" else "dev" if key < "s04" else "train" for key in speakers(12, 6)}
    write_table("data/a/utt2split", part_of)
    task = make_task("--folds", "utt2split", "data/a")
    assert task.config.folds == ["fixed"] and "as utt2split" in task.config.division
    assert subjects_of(task, task.part("fixed", "dev")) == {"s03"}
    assert not task.part("final", "test") and len(task.part("final", "train")) == 48


def test_a_fixed_division_has_sets_and_a_tenth_of_the_subjects_to_stop_by(work):
    write_data("b", {f"t{key[1:]}": f"t{spk[1:]}" for key, spk in speakers(4, 6).items()})
    task = make_task("--train", "data/a", "--test", "data/b")
    of = parts(task, "fixed")
    assert len(subjects_of(task, of["dev"])) == 2 and len(subjects_of(task, of["train"])) == 10
    assert of["test"] == set(read_table("data/b/utt2spk")) and task.sets["t00-u0"] == "b"
    assert parts(task, "final") == {**of, "test": set()}
    text = "trained on a, tested with b; development: one in 10 of the subjects of the training part, seed 0"
    assert task.config.division == text
    given = make_task("--train", "data/a", "--dev-set", "data/b", "--test", write_third())
    assert given.part("fixed", "dev") == sorted(of["test"]) and given.config.data[1] == "data/b"


def write_third():
    write_data("c", {f"v{key[1:]}": f"v{spk[1:]}" for key, spk in speakers(2, 6).items()})
    return "data/c"


def test_labels_of_speakers_are_spread_and_utterances_without_one_are_named(work, capfd):
    write_data("a", speakers(12, 6), spk2age={f"s{s:02d}": 30 + s for s in range(10)})
    task = make_task("--kind", "number", "--unit", "years", "data/a", labels="spk2age")
    assert len(task.labels) == 60 and task.targets["s09-u1"] == 39 and task.config.unit == "years"
    assert len(open("task/dropped.txt").read().splitlines()) == 12
    assert "12 without a label are no part of it" in capfd.readouterr().err
    words = ("--kind", "number", "--max-drop", "0.1")
    said = make_task(*words, "data/a", labels="spk2age", status=1, capfd=capfd)
    assert "12 of 72 utterances have no label in spk2age (first: s10-u0)" in said


def test_units_are_recordings_or_subjects(work, capfd):
    recording = {key: f"{key[:3]}-r{int(key[-1]) // 3}" for key in speakers(12, 6)}
    side = {key: "xy"[int(value[-1])] for key, value in recording.items()}
    write_data("a", speakers(12, 6), utt2side=side, segments={k: f"{r} 0 1" for k, r in recording.items()})
    task = make_task("--average-over", "recording", "data/a")
    assert task.units == dict(sorted(recording.items()))
    said = make_task("--average-over", "subject", "data/a", status=1, capfd=capfd)
    assert "the utterances of s00 have the labels x and y" in said


def number(keys):
    return {key: "old" if key == "s01-u1" else "30" for key in keys}


@pytest.mark.parametrize(
    ("tables", "words", "said"),
    [
        ({"utt2side": dict.fromkeys(speakers(12, 6), "x")}, [], "every utterance has the label x"),
        ({"utt2side": {k: "z" if k < "s01" else "xy"[int(k[-1]) % 2] for k in speakers(12, 6)}}, [],
         "only the speaker s00 has the class z"),
        ({"utt2side": number(speakers(12, 6))}, ["--kind", "number"],
         "the label of s01-u1 is 'old', not a number"),
        ({}, ["--folds", "100"], "--folds 100: give speaker, a table such as utt2fold, or a number from 2 to"),
        ({}, ["--folds", "utt2folds"], "no such file: data/a/utt2folds"),
        ({"utt2f": {k: k[-1] for k in speakers(12, 6)}}, ["--folds", "utt2f"],
         "the subject s00 is in both 0 and 1 (there s00-u1)"),
        ({"utt2f": {k: "1" for k in speakers(12, 6)}}, ["--folds", "utt2f"], "all utterances are in the fold 1"),
        ({"utt2f": {k: "1" for k in speakers(11, 6)}}, ["--folds", "utt2f"],
         "utt2f: 6 utterances have no fold, first: s11-u0"),
        ({"utt2side": {"other": "x"}}, [], "no key is an utterance or a speaker of data/a, first: other"),
        ({"utt2side": {k: "x" if k < "s02" else "y" for k in speakers(12, 6)},
          "utt2f": {k: "1" if k < "s02" else "2" for k in speakers(12, 6)}}, ["--folds", "utt2f"],
         "nothing is left to train the class x on in the fold 1"),
        ({"utt2audiohash": {k: "07" if k in ("s00-u0", "s05-u5") else k for k in speakers(12, 6)}}, [],
         "s05-u5 and s00-u0 have the same samples, and fold 0 trains"),
        ({}, ["--train", "data/a"], "data/a would be cross-validated, but --train"),
        ({}, ["data/../data/a"], "two of the data directories are called a"),
    ],
)  # fmt: skip
def test_what_makes_no_task_is_named(work, capfd, tables, words, said):
    write_data("a", speakers(12, 6), **tables)
    assert said in make_task(*words, "data/a", status=1, capfd=capfd)
    assert not (work / "task/.done").exists()


def test_nobody_is_on_two_sides_of_a_fixed_division(work, capfd):
    write_data("b", {f"b-{key}": spk for key, spk in speakers(3, 6).items()})
    said = make_task("--train", "data/a", "--test", "data/b", status=1, capfd=capfd)
    assert "the subject s00 is in both test and train (there s00-u0)" in said
    said = make_task("--train", "data/a", "--test", "data/a", status=1, capfd=capfd)
    assert "two of the data directories are called a" in said
    write_data("one", speakers(1, 6))
    assert "are of the single speaker s00" in make_task("data/one", status=1, capfd=capfd)


def test_a_class_that_the_development_part_alone_has_is_refused(work, capfd):
    side = {k: "z" if k < "s02" else "xy"[int(k[-1]) % 2] for k in speakers(12, 6)}
    part_of = {k: "dev" if k < "s02" else "test" if k > "s09" else "train" for k in side}
    write_data("a", speakers(12, 6), utt2side=side, utt2split=part_of)
    said = make_task("--folds", "utt2split", "data/a", labels="utt2side", status=1, capfd=capfd)
    assert "the class z is in the development part, but not in the training part" in said


def test_a_pair_of_identical_recordings_in_one_part_is_only_reported(work, capfd):
    write_data("a", speakers(12, 6), utt2audiohash={k: "7" if k[:3] == "s04" else k for k in speakers(12, 6)})
    make_task("data/a")
    assert (
        "6 utterances have the samples of another in the same part, first: s04-u0" in capfd.readouterr().err
    )


def test_a_fold_whose_development_part_would_take_a_class_has_none(work, capfd):
    side = {k: "z" if k < "s02" else "xy"[int(k[-1]) % 2] for k in speakers(12, 6)}
    write_data("a", speakers(12, 6), utt2side=side, utt2f={k: str(int(k[1:3]) % 4) for k in speakers(12, 6)})
    task = make_task("--folds", "utt2f", "data/a")
    assert [bool(task.part(fold, "dev")) for fold in task.config.folds] == [False, True, True, True]
    assert "no development part in the folds 0" in capfd.readouterr().err
    assert not any(make_task("--dev", "none", "data/a").part(fold, "dev") for fold in "0123456789")


def write_embeddings(folder, vectors, **changes):
    Path(folder).mkdir(parents=True)
    with kaldiio.WriteHelper(f"ark,scp:{folder}/xvector.ark,{folder}/xvector.scp") as writer:
        for key in sorted(vectors):
            writer(key, np.asarray(vectors[key], dtype=np.float32))
    meta = {"model": "dino", "role": "teacher", "seed": 3, "train_set": "mini/train", "data": "a"}
    meta |= {"encoder": "tdnn", "system": "dino_mini/seed3", "model_labels": "none", "varied": {}}
    meta |= {"model_dir": "exp/dino_mini/seed3/teacher", **changes}
    Path(folder, "meta.yaml").write_text("".join(f"{key}: {meta[key]}\n" for key in meta))


def vectors_of(task, seed=0):
    rng = np.random.default_rng(seed)
    sign = {"x": -1, "y": 1}
    return {
        name: rng.standard_normal(5) + 3 * np.eye(5)[0] * sign[label] for name, label in task.labels.items()
    }


def results(folder, name="side"):
    with open(f"{folder}/{name}.result.json") as stream:
        return {entry["metric"]: entry for entry in json.load(stream)}


@pytest.mark.parametrize("classifier", ["logreg", "svm", "plda", "mlp"])
def test_a_classifier_leaves_posteriors_predictions_confusions_and_results(work, classifier):
    task = make_task("--folds", "3", "data/a")
    write_embeddings("x/a", vectors_of(task))
    words = ["train-classifier", "--classifier", classifier, "--resamples", "50", "task", "x/a", "out"]
    assert main(words) == 0
    found = results("out")
    assert list(found) == ["uar", "f1_micro", "f1_macro", "accuracy", "calibration_error"]
    assert 0 <= found["calibration_error"]["value"] < 0.25 and "chance" not in found["calibration_error"]
    assert found["uar"]["value"] > 85 and found["uar"]["backend"] == classifier
    assert found["uar"]["chance"] == 50 and found["uar"]["folds"] == 3 and found["uar"]["test_set"] == "a"
    lines = [line.split() for line in open("out/predictions.txt").read().splitlines()]
    assert len(lines) == 72 and all(task.speakers[unit] == speaker for unit, speaker, *_ in lines)
    right = np.mean([line[3] == line[4] for line in lines])
    assert 100 * right == pytest.approx(found["accuracy"]["value"], abs=1e-4)
    counts = np.array(json.load(open("out/confusion.json"))["counts"])
    assert counts.sum() == 72 and np.trace(counts) == right * 72
    assert len(read_table("out/posteriors.txt")) == 72


@pytest.mark.parametrize("classifier", ["logreg", "svm", "plda", "mlp"])
def test_a_classifier_is_never_trained_on_the_test_part(work, classifier):
    """Test vectors that are somewhere else, of whatever label, change nothing of what is learnt."""
    task = make_task("--folds", "3", "data/a")
    vectors, tested = vectors_of(task), set(task.part("0", "test"))
    moved = {name: 50 - vector if name in tested else vector for name, vector in vectors.items()}
    probes = np.random.default_rng(0).standard_normal((9, 5))
    first, second = (fit_fold(task, "0", classifier, found).outputs(probes) for found in (vectors, moved))
    assert (first == second).all()


def test_statistics_stand_beside_the_embedding(work, capfd):
    task = make_task("--folds", "3", "data/a")
    write_embeddings("x/a", {name: [1.0, 2.0] for name in task.labels})
    write_embeddings("x/s", vectors_of(task))
    assert main(["train-classifier", "--append", "x/s", "task", "x/a", "out"]) == 0
    found = results("out")["uar"]
    assert found["value"] > 85 and found["treatment"] == "with statistics"
    assert "it cannot compute the vectors of --append: not fbank-stats" in capfd.readouterr().err
    write_embeddings("x/pauses", vectors_of(task), keep_silence="true")
    assert main(["train-classifier", "--append", "x/pauses", "task", "x/a", "other"]) == 1
    assert "x/pauses: silence was kept, and in the task task it is removed" in capfd.readouterr().err


def test_numbers_are_predicted_with_their_unit(work, capfd):
    assert main("make-task --name age --labels spk2age --kind number data/a age".split()) == 0
    task = read_task("age")
    rng = np.random.default_rng(0)
    write_embeddings("x/a", {n: [float(task.targets[n]) + rng.standard_normal(), 1.0] for n in task.labels})
    assert main(["train-classifier", "age", "x/a", "out"]) == 0
    found = results("out", "age")
    assert (
        found["mae"]["value"] < 2 and found["mae"]["unit"] == "years" and found["mae"]["backend"] == "ridge"
    )
    assert found["pearson"]["value"] > 0.9 and found["mae"]["chance"] > 5
    assert main(["train-classifier", "--classifier", "svm", "age", "x/a", "other"]) == 1
    assert "--classifier svm: the task age has labels of kind number" in capfd.readouterr().err


def test_utterances_without_an_embedding_are_named(work, capfd):
    task = make_task("--folds", "3", "data/a")
    vectors = vectors_of(task)
    del vectors["s03-u2"], vectors["s03-u3"]
    write_embeddings("x/a", vectors)
    assert main(["train-classifier", "--max-drop", "0.01", "task", "x/a", "out"]) == 1
    said = capfd.readouterr().err
    assert "2 of 72 utterances of task have no embedding in x/a (first: s03-u2)" in said
    assert main(["train-classifier", "task", "x/a", "out"]) == 0 and results("out")["uar"]["n"] == 70
    said = capfd.readouterr().err
    assert "2 of 72 test utterances are not measured" in said and "dropped" in said


def test_other_folds_make_the_classifier_train_again(work, capfd):
    write_embeddings("x/a", vectors_of(make_task("--folds", "3", "data/a")))
    words = ["train-classifier", "--resamples", "0", "task", "x/a", "out"]
    assert main(words) == 0 and main(words) == 0
    assert "out is up to date" in capfd.readouterr().err
    make_task("--folds", "4", "data/a")
    assert main(words) == 0 and results("out")["uar"]["folds"] == 4
    assert "out is to be redone" in capfd.readouterr().err
    assert read_yaml("task/task.yaml")["folds"] == ["0", "1", "2", "3"]
