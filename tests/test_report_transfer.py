"""The report of tasks: paired differences, leak controls, confusions and published numbers, from the files that
the back-ends leave.
"""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import recall_score

from pydino.base import dump_config
from pydino.cli import main
from pydino.cli._task_results import write_task_outputs
from pydino.downstream import TaskConfig, read_task, write_task
from pydino.kaldi import read_table
from pydino.report.gather import gather_training_runs
from pydino.report.gather_transfer import read_predictions

MODELS = {  # model: (labels of its weights, back-end: how many of its answers are right)
    "dino-koleo": ("none", {"affine-then-all": 0.9, "all-at-once": 0.9, "logreg": 0.6}),
    "xvector": ("train", {"affine-then-all": 0.7}),
    "untrained": ("none", {"from-scratch": 0.5, "logreg": 0.3}),
    "fbank-stats": ("none", {"logreg": 0.4}),
}


def make_task(root, config, speakers, each, sets):
    """A task with a fixed division, or leaving a speaker out, of utterances with labels drawn at random."""
    rng = np.random.default_rng(7)
    keys = [f"s{s:02d}-{u:02d}" for s in range(speakers) for u in range(each)]
    speaker_of = {key: key[:3] for key in keys}
    label_of = {key: str(rng.choice(config.classes)) for key in keys}
    if config.average_over == "subject":
        label_of = {key: config.classes[int(key[1:3]) % 2] for key in keys}
    unit_of = {key: key[:3] if config.average_over == "subject" else key for key in keys}
    set_of = {key: sets[int(key[1:3]) * len(sets) // speakers] for key in keys}
    tables = {"utt2label": label_of, "utt2spk": speaker_of, "utt2unit": unit_of, "utt2set": set_of}
    folds = {}
    for fold in config.folds:
        of_fold = {key: fold in (key[:3], "fixed") and set_of[key] != "train" for key in keys}
        folds[fold] = {key: "test" if tested else "train" for key, tested in of_fold.items()}
    write_task(root / "data/tasks" / config.name, config, tables, folds)
    return read_task(Path("data/tasks") / config.name)


def write_back_end(task, model, backend, right, seed, labels="none", extra=None):
    rng = np.random.default_rng([seed, sum(map(ord, model + backend))])
    tested = [key for fold in task.config.folds for key in task.part(fold, "test")]
    count = len(task.config.classes)
    answers = {key: rng.integers(0, count) for key in tested}
    answers |= {key: task.targets[key] for key in tested if rng.random() < right}
    outputs = {key: np.log(np.full(count, 0.1) + np.eye(count)[answer]) for key, answer in answers.items()}
    system = f"{model}_x/seed{seed}"
    meta = {
        "model": model,
        "system": system,
        "model_labels": labels,
        "train_set": "none" if model in ("untrained", "fbank-stats") else "train",
        "seed": seed,
        "model_dir": f"exp/{system}/model",
    }
    write_task_outputs(
        Path("exp", system, "transfer", task.config.name, backend),
        task,
        outputs,
        meta,
        backend=backend,
        treatment="raw",
        command=f"steps/train.sh {backend}",
        resamples=50,
        seed=0,
        extra=extra,
    )


CONTROL = {
    "task": "diagnosis",
    "control": "channel",
    "vectors": "statistics",
    "metric": "uar",
    "value": 81.2,
    "unit": "percent",
    "interval": [66.0, 93.0],
    "chance": 50.0,
    "chance_bound": 64.6,
    "independent_draws": 48,
    "beats_chance": True,
    "n": 48,
    "subjects": 48,
    "suspicious_if_above_chance": True,
    "note": "",
}
UNMEASURED = CONTROL | {"control": "silence", "beats_chance": False, "note": "not measured: 26 %"}
UNMEASURED |= dict.fromkeys(("value", "interval", "chance", "chance_bound", "independent_draws"))
RECIPE = {
    "name": "x",
    "stages": [1, 2, 5, 10, 11],
    "sets": ["emo"],
    "tasks": [
        {
            "name": "emotion",
            "set": "emo",
            "labels": "utt2emotion",
            "published": [
                {
                    "system": "HuBERT | base",
                    "metric": "uar",
                    "value": 87.73,
                    "protocol": "frozen",
                    "source": "a page",
                }
            ],
        }
    ],
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder in which stages 10 and 11 are done: two tasks, three seeds, a leak control."""
    root = tmp_path_factory.mktemp("work")
    speakers = [f"s{s:02d}" for s in range(12)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        text = "leave one speaker out"
        emotion = make_task(
            root,
            TaskConfig(
                "emotion", classes=["anger", "joy", "sad"], folds=speakers, data=["emo"], division=text
            ),
            12,
            15,
            ["emo"],
        )
        for model, (labels, backends) in MODELS.items():
            for backend, right in backends.items():
                for seed in range(3 if model != "fbank-stats" else 1):
                    write_back_end(emotion, model, backend, right, seed, labels)
        diagnosis = make_task(
            root,
            TaskConfig("diagnosis", classes=["ad", "cn"], folds=["fixed"], average_over="subject"),
            60,
            2,
            ["train", "test1", "test2"],
        )
        write_back_end(diagnosis, "dino-koleo", "affine-then-all", 0.95, 0)
        write_back_end(diagnosis, "dino-koleo", "logreg", 0.5, 0)
        write_back_end(diagnosis, "control-channel", "logreg", 1.0, 0, extra={"control": "channel"})
        Path("exp/controls_x").mkdir()
        Path("exp/controls_x/controls.json").write_text(json.dumps([CONTROL]))
        dump_config(RECIPE, "recipe.yaml")
        assert main(["report", "exp", "--title", "x", "--recipe", "recipe.yaml"]) == 0
        yield root


def section(work, title):
    text = (work / "exp/RESULTS.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def table(text):
    lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("|")]
    header, _, *rows = [[cell.strip().strip("*") for cell in line] for line in lines]
    return header, rows


def test_frozen_comes_before_tuned_and_the_caption_says_what_chance_is(work):
    text = section(work, "Emotion: emo")
    header, rows = table(text)
    assert [row[0] + " " + row[header.index("back-end")] for row in rows] == [
        "dino-koleo logreg",
        "dino-koleo affine-then-all",
        "dino-koleo all-at-once",
        "xvector affine-then-all",
        "untrained logreg",
        "untrained from-scratch",
        "fbank-stats logreg",
    ]
    assert "180 utterances of 12 speakers (12 folds: leave one speaker out)." in text
    assert "Always answering the most frequent class: UAR 33.3 %; micro-F1" in text
    assert "accuracy %" not in header and len(header) <= 10
    results = json.loads((work / "exp/results.json").read_text())
    folds = [
        result["mean_of_folds"]
        for result in results
        if (result["model"], result["backend"], result["metric"]) == ("dino-koleo", "logreg", "uar")
        and result["task"] == "emotion"
    ]
    assert len(folds) == 3 and rows[0][header.index("mean of folds")] == f"{np.mean(folds):.1f}"


def recalls(work, folder):
    predictions = [line.split() for line in (work / folder / "predictions.txt").read_text().splitlines()]
    return 100 * recall_score(*zip(*((p[3], p[4]) for p in predictions), strict=True), average="macro")


def test_differences_are_those_of_the_means_over_seeds_from_the_predictions(work):
    text = section(work, "Differences: Emotion: emo")
    header, rows = table(text)
    assert "minus the reference (dino-koleo, affine-then-all) on the same 180 utterances" in text
    verdicts = {(row[0], row[1]): row[2] for row in rows}
    assert verdicts == {
        ("dino-koleo", "logreg"): "worse",
        ("dino-koleo", "affine-then-all"): "reference",
        ("dino-koleo", "all-at-once"): "tie",
        ("xvector", "affine-then-all"): "worse",
        ("untrained", "from-scratch"): "worse",
        ("untrained", "logreg"): "worse",
        ("fbank-stats", "logreg"): "worse",
    }
    means = [
        np.mean([recalls(work, f"exp/{model}_x/seed{seed}/transfer/emotion/{backend}") for seed in range(3)])
        for model, backend in (("xvector", "affine-then-all"), ("dino-koleo", "affine-then-all"))
    ]
    (row,) = (row for row in rows if row[0] == "xvector")
    assert row[4].startswith(f"{means[0] - means[1]:+.1f} [-")
    assert header[-1] == "minus the reference", "utterances of one speaker are no independent units"


def test_the_summary_compares_with_the_best_baseline_on_the_same_units(work):
    text = section(work, "Trained models and baselines")
    header, rows = table(text)
    (row,) = (row for row in rows if row[0] == "Emotion: emo" and row[1] == "logreg")
    means = [
        np.mean([recalls(work, f"exp/{model}_x/seed{seed}/transfer/emotion/logreg") for seed in range(count)])
        for model, count in (
            (row[5].split(":")[0], 3),
            (row[6].split(":")[0], 3 if "untrained" in row[6] else 1),
        )
    ]
    word, difference = row[header.index("trained model is")].split(": ")
    assert difference.split()[0] == f"{means[0] - means[1]:+.1f}"
    low, high = map(float, difference.split("[")[1].strip("]").split(", "))
    assert word == ("tie" if low <= 0 <= high else "better" if low > 0 else "worse")
    assert "where the interval holds 0, they tie" in text


def test_models_that_differ_in_their_training_set_alone_are_told_apart(work, tmp_path, monkeypatch):
    shutil.copytree(work, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    shutil.copytree("exp/dino-koleo_x/seed0", "exp/dino-koleo_y/seed0")
    for path in Path("exp/dino-koleo_y").rglob("*.result.json"):
        other = path.read_text().replace("dino-koleo_x", "dino-koleo_y")
        path.write_text(other.replace('"train_set": "train"', '"train_set": "more"'))
    assert main(["report", "exp"]) == 0
    header, rows = table(section(tmp_path / "copy", "Differences: Emotion: emo"))
    named = [row[header.index("configuration")] for row in rows if row[0] == "dino-koleo"]
    assert named == ["dino-koleo_y/model"] * 3 + ["dino-koleo_x/model"] * 3
    assert "the best of the 2 tuned affine-then-all" in section(
        tmp_path / "copy", "Differences: Emotion: emo"
    )


def test_a_test_set_is_compared_on_its_own_units_and_subjects_have_mcnemars_test(work):
    for name in ("test1", "test2"):
        text = section(work, f"Differences: Alzheimer's disease: {name}")
        header, rows = table(text)
        assert "on the same 20 subjects" in text and "over 20 speakers or subjects" in text
        assert header[-1] == "McNemar p" and 0 < float(rows[0][-1]) <= 1
        assert [row[0] for row in rows] == ["dino-koleo"] * 2, "a control is no system"
    folder = work / "exp/dino-koleo_x/seed0/transfer/diagnosis/logreg"
    units = [
        set(read_predictions(folder, name, work / "data/tasks/diagnosis")) for name in ("test1", "test2")
    ]
    unit_of, set_of = (read_table(work / f"data/tasks/diagnosis/{name}") for name in ("utt2unit", "utt2set"))
    for name, found in zip(("test1", "test2"), units, strict=True):
        assert found == {unit_of[key] for key in unit_of if set_of[key] == name}


def test_results_are_suspect_where_a_leak_control_beats_chance(work):
    text = section(work, "Alzheimer's disease: test1")
    header, rows = table(text)
    column = header.index("controls")
    assert [(row[0], row[column]) for row in rows] == [("dino-koleo", "suspect")] * 2
    assert "Suspect: the channel alone (statistics) reaches 81.2 % UAR [66.0, 93.0]; chance is 50.0 %" in text
    (row,) = table(section(work, "Leak controls: Alzheimer's disease"))[1]
    assert row[0] == "channel" and row[3] == "yes: suspect" and row[4] == "81.2 [66.0, 93.0]"
    assert "control-" not in (work / "exp/RESULTS.md").read_text()
    assert "suspect" not in section(work, "Emotion: emo") and "control was" not in section(
        work, "Emotion: emo"
    )


@pytest.mark.parametrize(
    "entries, said",
    [
        ([], "No leak control was run."),
        ([CONTROL | {"beats_chance": False}], "No leak control is above chance (channel)."),
        ([CONTROL | {"suspicious_if_above_chance": False}], "No leak control was run."),
        ([UNMEASURED], "so they were not measured: silence."),
        (
            [CONTROL | {"control": "permutation", "suspicious_if_above_chance": False}],
            "Permuted labels: UAR 66.0 to 93.0 %.",
        ),
    ],
)
def test_the_caption_says_what_the_controls_found(work, entries, said, monkeypatch, capsys):
    monkeypatch.chdir(work)
    path = Path("exp/controls_x/controls.json")
    before = {name: Path("exp", name).read_bytes() for name in ("RESULTS.md", "report.html")}
    path.write_text(json.dumps(entries))
    assert main(["report", "exp"]) == 0
    text = section(work, "Alzheimer's disease: test2")
    path.write_text(json.dumps([CONTROL]))
    for name, content in before.items():
        Path("exp", name).write_bytes(content)
    assert said in text and "suspect" not in text


def test_recall_of_each_class_and_confusions(work):
    header, rows = table(section(work, "Recall of each class: Emotion: emo"))
    assert header == [
        "class",
        "dino-koleo, affine-then-all",
        "dino-koleo, logreg",
        "fbank-stats, logreg",
        "untrained, from-scratch",
    ]
    assert [row[0] for row in rows] == ["anger", "joy", "sad"]
    counts = np.zeros((3, 3))
    for seed in range(3):
        path = work / f"exp/dino-koleo_x/seed{seed}/transfer/emotion/affine-then-all/confusion.json"
        counts += json.loads(path.read_text())["counts"]
    assert [float(row[1]) for row in rows] == pytest.approx(100 * counts.diagonal() / counts.sum(1), abs=0.05)
    page = (work / "exp/report.html").read_text(encoding="utf-8")
    assert "Confusions: Emotion" in page and "Confusions: Alzheimer&#x27;s disease" in page
    assert f">{int(counts[0, 0])}<" in page and "<image" not in page


def test_the_trainings_of_folds_are_one_curve_and_one_row(tmp_path):
    logs = {"fold_1/tune": [1.0, 0.5], "fold_2/tune": [3.0], "fold_final/tune": [9.0], "fold_1/more": [4.0]}
    for name, losses in logs.items():
        folder = tmp_path / "exp/dino_x/transfer/emotion/all-at-once" / name
        folder.mkdir(parents=True)
        lines = [json.dumps({"epoch": 1 + i, "loss": loss, "dev_uar": 50}) for i, loss in enumerate(losses)]
        (folder / "log.jsonl").write_text("\n".join(lines))
    (tmp_path / "exp/xvector_x").mkdir()
    (tmp_path / "exp/xvector_x/log.jsonl").write_text('{"epoch": 1, "loss": 7.0}\n')
    assert main(["report", str(tmp_path / "exp")]) == 0
    header, rows = table(section(tmp_path, "Training"))
    assert header[:4] == ["run", "epochs", "loss", "UAR % of dev"]
    tuned = "dino_x/transfer/emotion/all-at-once"
    assert rows == [
        ["xvector_x", "1", "7.000", ""],
        [f"{tuned}/more (1 fold)", "1", "4.000", "50.0"],
        [f"{tuned}/tune (2 folds)", "1.5", "1.750", "50.0"],
    ]
    assert gather_training_runs(tmp_path / "exp")[-1].epochs[0]["loss"] == 2.0


def test_published_numbers_stand_apart(work):
    text = section(work, "Published, with their protocol")
    assert "not comparable" in text
    assert r"| Emotion | HuBERT \| base | frozen | a page | UAR % | 87.73 |" in text


def test_a_system_that_was_tested_with_other_labels_is_not_compared(work, tmp_path, monkeypatch, capsys):
    shutil.copytree(work, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    path = Path("exp/fbank-stats_x/seed0/transfer/emotion/logreg/predictions.txt")
    lines = [line.split() for line in path.read_text().splitlines()]
    lines[0][3] = "joy" if lines[0][3] != "joy" else "sad"
    path.write_text("".join(" ".join(line) + "\n" for line in lines))
    assert main(["report", "exp"]) == 0
    assert "fbank-stats, logreg was tested with other labels" in capsys.readouterr().err
    _, rows = table(section(tmp_path / "copy", "Differences: Emotion: emo"))
    assert "fbank-stats" not in {row[0] for row in rows} and len(rows) == 6


def test_units_that_one_of_the_two_lacks_are_left_out_and_counted(work, tmp_path, monkeypatch):
    shutil.copytree(work, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    path = Path("exp/fbank-stats_x/seed0/transfer/emotion/logreg/predictions.txt")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-20]))
    assert main(["report", "exp"]) == 0
    header, rows = table(section(tmp_path / "copy", "Differences: Emotion: emo"))
    assert [row[header.index("n")] for row in rows] == ["180", "", "180", "180", "180", "180", "160"]


def test_predictions_of_a_version_without_task_folders_are_omitted(work, tmp_path, monkeypatch, capsys):
    shutil.copytree(work, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    folder = Path("exp/fbank-stats_x/seed0/transfer/emotion/logreg")
    (folder / "posteriors.txt").unlink()
    (folder / "predictions.txt").write_text("s00-0 joy sad\n")
    assert main(["report", "exp"]) == 0
    assert f"{folder}: " in (said := capsys.readouterr().err) and "the format of predictions.txt" in said
    assert "fbank-stats |" not in section(tmp_path / "copy", "Emotion: emo")


def test_numbers_are_better_where_the_error_is_smaller_and_transductive_rows_say_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    keys = [f"s{s:02d}-{u}" for s in range(12) for u in range(5)]
    number_of = {key: f"{value:.1f}" for key, value in zip(keys, rng.normal(60, 10, 60), strict=True)}
    speakers = {key: key[:3] for key in keys}
    tables = {"utt2label": number_of, "utt2spk": speakers, "utt2unit": dict(zip(keys, keys, strict=True))}
    config = TaskConfig("age", kind="number", unit="years", folds=["fixed"], transductive=True)
    write_task(
        "data/tasks/age",
        config,
        tables | {"utt2set": dict.fromkeys(keys, "x")},
        {"fixed": dict.fromkeys(keys, "test")},
    )
    task = read_task("data/tasks/age")
    for backend, spread in (("affine-then-all", 3.0), ("ridge", 9.0)):
        outputs = {key: np.array([float(number_of[key]) + rng.normal(0, spread)]) for key in keys}
        meta = {
            "model": "dino",
            "system": "dino_x/seed0",
            "model_labels": "none",
            "train_set": "train",
            "seed": 0,
        }
        write_task_outputs(
            Path("exp/dino_x/seed0/transfer/age", backend),
            task,
            outputs,
            meta,
            backend=backend,
            treatment="raw",
            command="steps/x.sh",
            resamples=50,
            seed=0,
        )
    assert main(["report", "exp"]) == 0
    text = section(tmp_path, "Age: x")
    header, rows = table(text)
    assert header[-3:] == ["MAE, years", "RMSE, years", "correlation"] and "mean of folds" not in header
    assert [row[0:2] for row in rows] == [["dino", "ridge"], ["dino", "affine-then-all"]]
    assert {row[header.index("treatment")] for row in rows} == {"raw, transductive"}
    assert re.search(r"the mean of the labels: MAE \d+.\d\d years; RMSE \d+.\d\d years; corr", text)
    assert [line.count("**") for line in text.splitlines() if line.startswith("| dino")] == [0, 6]
    header, (frozen, tuned) = table(section(tmp_path, "Differences: Age: x"))
    assert (frozen[2], tuned[2]) == ("worse", "reference") and frozen[-1].startswith("+")
    assert "McNemar p" not in header and "Recall" not in (tmp_path / "exp/RESULTS.md").read_text()
