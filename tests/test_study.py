"""Studies: what is refused, which cells a grid has, shares that hold each other, and a small one from start to
end, killed on the way.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import recall_score
from test_train_classifier import CLASSES, NAMES, make_model, write_features
from test_train_dino import make_data, make_train_set

from pydino.base import UserError, config_from_dict, dump_config, load_config
from pydino.base.release import FORMAT
from pydino.cli import main
from pydino.cli.run_study import longer, steps_of_epoch
from pydino.data.make_training_dir import within_hours
from pydino.downstream import TaskConfig, read_task, write_task
from pydino.downstream.label_share import chosen_units, folds_with_fewer_labels
from pydino.infer import read_front_end
from pydino.kaldi import read_table, write_table
from pydino.recipe import RunOptions, resolve
from pydino.recipe.study import Study, cells_of
from pydino.recipe.study_calls import Jobs, StudyPlan
from pydino.recipe.tasks import TUNING
from pydino.report.studies import measure_study, study_tables, write_study
from pydino.train.methods import load_training_config
from pydino.train.methods.classifier import TuningConfig
from pydino.train.methods.dino import DinoConfig

ROOT = Path(__file__).parent.parent


def study(**keys):
    return config_from_dict(Study, keys, "s.yaml")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"grid": {}}, "there is nothing to vary"),
        ({"grid": {"mode": ["frozen"]}}, "grid.mode: give a list of two values or more"),
        ({"grid": {"mode": ["frozen", "all-at-onc"]}}, "no 'all-at-onc' (did you mean 'all-at-once'?)"),
        ({"grid": {"labels": [0.1, 2]}}, "grid.labels must be shares above 0 and up to 1, got 2"),
        ({"grid": {"labels": [10, True]}}, "grid.labels must be shares"),
        ({"grid": {"hours": [0, "all"]}}, "grid.hours must be hours above 0, or 'all', got 0"),
        ({"grid": {"a b": [1, 2]}}, "'a b' is no key of a configuration"),
        ({"grid": {"chunks": {"2 s": {"a": 1}, "2_s": {"a": 2}}}}, "two labels would be the same folder"),
        ({"grid": {"epochs": [1, 1]}}, "two values have one label"),
        ({"grid": {"epochs": [1, 2]}, "reference": {"epochs": 3}}, "no 'epochs: 3' in the grid; it has 1, 2"),
        ({"grid": {"epochs": [1, 2]}, "reference": {"mode": "frozen"}}, "it has the axes epochs"),
        ({"grid": {"epochs": [1, 2]}, "seeds": [0, 0]}, "seeds must be different whole numbers"),
        ({"grid": {"epochs": [1, 2]}, "folds": "utt2fold"}, "folds must be 'speaker' or a number"),
        ({"grid": {"epochs": [1, 2]}, "mod": "frozen"}, "unknown key 'mod'"),
    ],
)  # fmt: skip
def test_what_is_no_study_is_named(keys, said):
    with pytest.raises(UserError) as error:
        study(**keys)
    assert said in str(error.value)


def test_every_shipped_study_is_one_and_names_keys_that_exist(tmp_path):
    given = {"method": "dino", "role": "teacher", "seed": 0, "encoder": {"name": "tdnn"}}
    dump_config(given, tmp_path / "config.yaml")
    found = sorted(ROOT.glob("egs/*/conf/studies/*.yaml"))
    assert {path.stem for path in found} == {"steps", "chunks", "augmentation", "labels", "hours"}
    for path in found:
        recipe = path.parent.parent.parent
        options = RunOptions(str(recipe), str(ROOT / "conf"), stage="10", stop_stage="10")
        options.model = [] if recipe.name == "mini" else [str(tmp_path)]
        plan = StudyPlan(resolve(options, False), load_config(Study, path), Jobs())
        assert plan.cell_calls()
        for cell in plan.cells:
            for name in TUNING.get(cell.mode, ()):
                load_training_config(ROOT / "conf" / f"{name}.yaml", cell.settings)


def test_the_cells_are_the_grid_without_axes_that_make_no_difference():
    grid = {
        "mode": ["frozen", "affine-then-all", "from-scratch"],
        "crops.global_seconds": {"2 s": [2, 2], "4 s": [4, 4]},
    }
    axes, cells = cells_of(study(grid=grid), ["dino"])
    assert list(axes) == list(grid) and len(cells) == 5
    assert cells[0].varied == {"mode": "frozen"} and cells[0].settings == ()
    assert cells[1].folder == "mode=affine-then-all,crops.global_seconds=2_s"
    assert cells[1].settings == ("crops.global_seconds=[2, 2]",)
    axes, cells = cells_of(study(grid={"hours": [1, "all"]}), ["dino", "xvector"])
    assert list(axes) == ["model", "hours"] and [cell.hours for cell in cells] == [1.0, None] * 2
    axes, cells = cells_of(study(grid={"model": ["dino", "from-scratch"], "hours": [1, 2]}), ["dino"])
    assert [cell.varied for cell in cells][2:] == [{"model": "from-scratch"}]
    assert cells[2].mode == "from-scratch" and cells[2].hours is None
    grid = {"augmentation": {"none": {}, "both": {"augment.noise_probability": 0.5, "epochs": 3}}}
    _, cells = cells_of(study(grid=grid, set={"epochs": 1}), [""])
    assert [cell.settings for cell in cells] == [
        ("epochs=1",), ("epochs=3", "augment.noise_probability=0.5")
    ]  # fmt: skip


def test_a_study_of_models_that_start_from_a_release(tmp_path):
    """They are called as run.sh --init calls them, and what is trained on fewer hours starts from it too."""
    release = tmp_path / "big"
    (release / "teacher").mkdir(parents=True)
    dump_config({"method": "dino", "encoder": {"name": "tdnn"}}, release / "config.yaml")
    dump_config(
        {"method": "dino-koleo", "role": "teacher", "labels": "train"}, release / "teacher/config.yaml"
    )
    record = {"format": FORMAT, "name": "published", "method": "dino", "roles": ["teacher"]}
    record |= {"train_set": "train", "epochs": 1}
    (release / "release.json").write_text(json.dumps(record))
    options = RunOptions(str(ROOT / "egs/mini"), str(ROOT / "conf"), stage="10", stop_stage="10")
    options.init = str(release)

    def trainings(**keys):
        plan = StudyPlan(resolve(options, False), study(name="s", **keys), Jobs())
        calls = plan.model_calls({one.folder: [] for one in plan.trainings()})
        return plan, [call.words for call in calls if call.words[0] == "steps/train.sh"]

    plan, (words,) = trainings(grid={"hours": [0.1, "all"]})
    assert words[words.index("--config") + 1] == f"{release}/config.yaml" and "--labels" not in words
    assert words[words.index("--init") + 1] == str(release)
    with pytest.raises(UserError, match=f"no exp/published-from-big_mini/.* --init {release} --seeds 0"):
        plan.check()
    named = {"hours": [0.1, "all"], "model": ["dino-koleo", "xvector"]}
    plan, (ours, labelled) = trainings(grid=named)
    assert ours[ours.index("--config") + 1] == f"{ROOT}/egs/mini/conf/dino-koleo.yaml" and "--init" in ours
    assert "--init" not in labelled and "--labels" in labelled
    with pytest.raises(UserError, match="no exp/dino-koleo-from-big_mini/.* --models dino-koleo --init"):
        plan.check()


def test_a_larger_share_of_the_labels_holds_every_smaller_one_of_each_class():
    labels = {f"u{n:03d}": "abc"[min(n % 7, 2)] for n in range(140)}
    last = set()
    for share in (0.01, 0.1, 0.25, 0.5, 1.0):
        kept = chosen_units(labels, share, 3)
        assert last <= kept
        for name in "abc":
            total = sum(label == name for label in labels.values())
            found = sum(labels[unit] == name for unit in kept)
            assert found == max(1, int(np.ceil(share * total - 1e-9)))
        last = kept
    assert last == set(labels)
    assert chosen_units(labels, 0.1, 3) == chosen_units(dict(reversed(labels.items())), 0.1, 3)
    assert chosen_units(labels, 0.1, 3) != chosen_units(labels, 0.1, 4)


def test_fewer_labels_leave_the_test_parts_whole_and_take_units_as_a_whole(tmp_path):
    names = [f"u{n:02d}" for n in range(48)]
    unit = {name: f"r{n // 2:02d}" for n, name in enumerate(names)}
    tables = {
        "utt2label": {name: "ab"[n // 2 % 2] for n, name in enumerate(names)},
        "utt2spk": unit,
        "utt2unit": unit,
        "utt2set": dict.fromkeys(names, "x"),
    }
    parts = {name: ("train", "dev", "test")[n // 2 % 3] for n, name in enumerate(names)}
    config = TaskConfig("t", classes=["a", "b"], folds=["0"], average_over="recording")
    write_task(tmp_path / "t", config, tables, {"0": parts, "final": dict.fromkeys(names, "train")})
    task = read_task(tmp_path / "t")
    (fold,) = folds_with_fewer_labels(task, 0.5, 0).values()
    assert {n for n, part in fold.items() if part == "test"} == set(task.part("0", "test"))
    for part in ("train", "dev"):
        kept = {name for name in fold if fold[name] == part}
        assert kept < set(task.part("0", part)) and len(kept) == 8
        assert all((other in kept) == (name in kept) for name in kept for other in names
                   if unit[other] == unit[name])  # fmt: skip
    assert main(["subset-task", "--share", "0.5", str(tmp_path / "t"), str(tmp_path / "half")]) == 0
    half = read_task(tmp_path / "half")
    assert (
        half.folds_there == ["0"]
        and half.labels == task.labels
        and "50 % of the labels" in half.config.division
    )
    assert main(["subset-task", "--share", "0", str(tmp_path / "t"), str(tmp_path / "no")]) == 1


def test_fewer_hours_are_a_part_of_more_and_know_no_names(tmp_path):
    seconds = {f"u{n:03d}": 5.0 + n % 9 for n in range(200)}
    kept = [within_hours(seconds, hours, 1) for hours in (0.05, 0.1, 0.2)]
    assert kept[0] < kept[1] < kept[2]
    for hours, names in zip((0.05, 0.1, 0.2), kept, strict=True):
        total = sum(seconds[name] for name in names) / 3600
        assert hours <= total < hours + 14 / 3600
    with pytest.raises(UserError, match="there are 0.50 hours of speech, and 2 are wanted"):
        within_hours(seconds, 2, 1)
    make_data(tmp_path / "source", [f"s{i % 4}-u{i:02d}" for i in range(14)])
    make_train_set(tmp_path / "source", tmp_path / "some", "--max-hours", "0.002", "--seed", "1")
    some = read_table(tmp_path / "some/utt2spk")
    make_train_set(tmp_path / "source", tmp_path / "more", "--max-hours", "0.003", "--seed", "1")
    more = read_table(tmp_path / "more/utt2spk")
    assert 2 <= len(some) < len(more) < 14 and some.keys() < more.keys()


def test_a_smaller_training_set_has_as_many_steps():
    config = config_from_dict(DinoConfig, {"epochs": 6, "batch_size": 10, "optimiser": {"warmup_epochs": 2}})
    settings = dict(
        pair.split("=") for pair in longer(config, steps_of_epoch(100, 10) / steps_of_epoch(40, 10))
    )
    assert float(settings["epochs"]) * 40 / 10 == 6 * 100 / 10
    assert float(settings["optimiser.warmup_epochs"]) == 5 and "snapshot_epochs" not in settings
    assert steps_of_epoch(4, 10) == 1


def write_runs(folder, task, truth, answers, metric="uar", speakers=12):
    folder.mkdir(parents=True)
    lines = [
        f"u{n:03d} s{n % speakers:02d} 0 {label} {answer}\n"
        for n, (label, answer) in enumerate(zip(truth, answers, strict=True))
    ]
    (folder / "predictions.txt").write_text("".join(lines))
    (folder / f"{task}.result.json").write_text(json.dumps([{"metric": metric, "unit": "percent"}]))


def test_a_cell_is_the_mean_of_its_seeds_and_differences_are_paired(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.choice(list("abc"), 120)
    runs, values = [], {}
    for label, right in (("low", 0.4), ("high", 0.9)):
        folders = []
        for seed in (0, 1):
            answers = np.where(rng.random(120) < right, truth, rng.choice(list("abc"), 120))
            values.setdefault(label, []).append(100 * recall_score(truth, answers, average="macro"))
            write_runs(tmp_path / f"{label}{seed}", "t", truth, answers)
            folders.append(str(tmp_path / f"{label}{seed}"))
        runs.append(({"x": label}, "t", folders))
    made = measure_study("s", {"x": ["low", "high"]}, {"x": "low"}, [0, 1], runs, 200)
    low, high = made["cells"]
    assert low["value"] == pytest.approx(np.mean(values["low"])) and "difference" not in low
    assert high["values"] == pytest.approx(values["high"]) and high["chance"] == pytest.approx(100 / 3)
    assert high["difference"] == pytest.approx(np.mean(values["high"]) - np.mean(values["low"]))
    assert high["verdict"] == "better" and high["difference_ci"][0] > 0 and high["speakers"] == 12
    assert high["ci"][0] < high["value"] < high["ci"][1]
    write_study(tmp_path / "out", made)
    page = (tmp_path / "out/RESULTS.md").read_text()
    assert f"{np.mean(values['high']):.1f}" in page and "better" in page and "reference" in page
    assert "<svg" in (tmp_path / "out/study.svg").read_text()
    write_runs(tmp_path / "short", "t", truth[:60], truth[:60])
    runs[1] = ({"x": "high"}, "t", [str(tmp_path / "short")] * 2)
    with pytest.raises(UserError, match="have other test utterances or labels"):
        measure_study("s", {"x": ["low", "high"]}, {"x": "low"}, [0, 1], runs, 20)


def test_numbers_are_compared_by_their_error_and_lower_is_better(tmp_path):
    truth = np.arange(60.0)
    write_runs(tmp_path / "near", "age", truth, truth + 1, "mae")
    write_runs(tmp_path / "far", "age", truth, truth + np.where(np.arange(60) % 2, 6, 4), "mae")
    runs = [({"labels": label, "mode": "m"}, "age", [str(tmp_path / label)]) for label in ("far", "near")]
    axes = {"labels": ["far", "near"], "mode": ["m"]}
    made = measure_study("s", axes, {"labels": "far", "mode": "m"}, [0], runs, 100)
    assert [cell["value"] for cell in made["cells"]] == [5, 1]
    assert made["cells"][1]["difference"] == -4 and made["cells"][1]["verdict"] == "better"
    (table,) = study_tables(made)
    assert table.header[:2] == ["share of labels", "mode"]


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A recipe in a folder of its own, with features, and a model."""
    kinds = np.random.default_rng(0).integers(0, len(CLASSES), len(NAMES))
    make_data(tmp_path / "data/colours", NAMES)
    write_features(tmp_path / "data/colours", NAMES, kinds)
    table = {name: CLASSES[kind] for name, kind in zip(NAMES, kinds, strict=True)}
    write_table(tmp_path / "data/colours/utt2colour", table)
    make_model(tmp_path / "model", read_front_end(tmp_path / "data/colours", TuningConfig().normalisation))
    (tmp_path / "conf/studies").mkdir(parents=True)
    recipe = {
        "name": "colours",
        "stages": [10, 11],
        "sets": ["colours"],
        "tasks": [{"name": "colour", "set": "colours", "labels": "utt2colour", "folds": "2"}],
    }
    dump_config(recipe, tmp_path / "conf/recipe.yaml")
    text = {"grid": {"mode": ["frozen", "all-at-once"]}, "seeds": [0, 1]}
    text["set"] = {"epochs": 1, "batch_size": 8, "crops.global_seconds": [0.5, 0.6]}
    dump_config(text, tmp_path / "conf/studies/steps.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_mistakes_are_found_before_anything_runs(work, capsys):
    assert main(["run-study", "conf/studies/steps.yaml"]) == 1
    assert "trains no model" in capsys.readouterr().err
    dump_config({"grid": {"crops.globalseconds": {"a": [1, 1], "b": [2, 2]}}}, work / "conf/studies/no.yaml")
    assert main(["run-study", "--model", "model", "conf/studies/no.yaml"]) == 1
    assert "globalseconds" in capsys.readouterr().err
    dump_config({"grid": {"hours": [1, "all"]}}, work / "conf/studies/no.yaml")
    assert main(["run-study", "--model", "model", "conf/studies/no.yaml"]) == 1
    assert "was given by --model, and is not trained here" in capsys.readouterr().err
    dump_config({"grid": {"labels": [0.5, 1]}, "tasks": ["color"]}, work / "conf/studies/no.yaml")
    assert main(["run-study", "--model", "model", "conf/studies/no.yaml"]) == 1
    assert "the recipe has no 'color' (did you mean 'colour'?)" in capsys.readouterr().err
    assert main(["run-study", "studies/none.yaml"]) == 1
    assert not (work / "exp").exists()


def test_a_study_that_is_killed_resumes_and_does_nothing_twice(work):
    call = [sys.executable, "-m", "pydino", "run-study", "--resamples", "50", "--model", "model"]
    call += ["--cmd", "run_local.sh --max-jobs-run 1", "conf/studies/steps.yaml"]
    paths = f"{ROOT}/utils:{ROOT}/.venv/bin:{os.environ['PATH']}"
    how = {
        "env": {**os.environ, "PYTHONPATH": str(ROOT), "PATH": paths, "OMP_NUM_THREADS": "1"},
        "text": True,
    }
    cut = subprocess.Popen(
        call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, **how
    )
    cells = work / "exp/studies/steps/cells"
    first = cells / "mode=frozen/colour/seed1/.done"
    ended = time.monotonic() + 300
    while not first.exists() and cut.poll() is None and time.monotonic() < ended:
        time.sleep(0.05)
    os.killpg(cut.pid, signal.SIGKILL)
    assert first.exists(), cut.communicate()[1]
    cut.communicate()
    stamp = first.stat().st_mtime_ns
    done = subprocess.run(call, capture_output=True, **how)
    assert done.returncode == 0, done.stderr
    assert first.stat().st_mtime_ns == stamp
    marks = {path: path.stat().st_mtime_ns for path in cells.rglob(".done")}
    out = work / "exp/studies/steps"
    made = json.loads((out / "results.json").read_text())
    for cell in made["cells"]:
        folders = sorted((cells / f"mode={cell['varied']['mode']}" / "colour").iterdir())
        assert [folder.name for folder in folders] == ["seed0", "seed1"]
        for folder, value in zip(folders, cell["values"], strict=True):
            lines = [line.split() for line in (folder / "predictions.txt").read_text().splitlines()]
            truth, answers = ([line[place] for line in lines] for place in (3, 4))
            assert len(lines) == len(NAMES)
            assert value == pytest.approx(100 * recall_score(truth, answers, average="macro"))
            results = json.loads((folder / "colour.result.json").read_text())
            assert {json.dumps(entry["varied"]) for entry in results} == {json.dumps(cell["varied"])}
    assert "all-at-once" in (out / "RESULTS.md").read_text() and (out / "study.svg").is_file()
    again = subprocess.run(call, capture_output=True, **how)
    assert again.returncode == 0 and "4 of 4 up to date" in again.stderr
    assert marks == {path: path.stat().st_mtime_ns for path in cells.rglob(".done")}
    assert main(["report", "--title", "colours", "exp"]) == 0
    page = (work / "exp/RESULTS.md").read_text()
    assert "Study steps" in page and "Study steps" in (work / "exp/report.html").read_text()
    assert {entry["varied"]["mode"] for entry in json.loads((work / "exp/results.json").read_text())} == {
        "frozen", "all-at-once"
    }  # fmt: skip
