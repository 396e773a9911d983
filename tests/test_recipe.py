"""pydino/recipe: what a recipe may ask for, which systems it has, what each needs; calls made from rows,
and run.
"""

import dataclasses
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import torch
from test_infer_model_folder import configuration

from pydino.base import ConfigError, UserError, config_from_dict, load_config
from pydino.cli import for_each, main
from pydino.cli._embeddings import configuration_name
from pydino.infer import save_model
from pydino.models import build_encoder
from pydino.recipe import Call, Recipe, Run, calls_of, systems, systems_of
from pydino.recipe.calls import expand
from pydino.recipe.methods import method_of
from pydino.recipe.rows import KINDS, Row, rows
from pydino.recipe.verification import Clusters

ROOT = Path(__file__).resolve().parent.parent
MINI = load_config(Recipe, ROOT / "egs/mini/conf/recipe.yaml")


def run_of(recipe=MINI, **options):
    conf = str(ROOT / "egs/mini/conf")
    wanted = {"models": recipe.models, "seeds": [0], "tag": recipe.name} | options
    return Run(recipe, conf, str(ROOT / "conf"), **wanted)


def recipe_of(**changes):
    return config_from_dict(
        Recipe, {"name": "x", "stages": [5, 6, 10], "sets": ["train", "dev", "test"]} | changes
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trials": [{"set": "tests"}]}, "'tests' is used but not listed"),
        ({"trials": [{"set": "test", "enroll": "dv"}]}, "'dv' is used but not listed"),
        ({"trials": [{"set": "test"}, {"set": "test"}]}, "trials: 'test' occurs twice"),
        ({"scorers": [{"backend": "plda"}]}, "plda needs the key 'plda'"),
        ({"scorers": [{"normalisation": "asnorm"}]}, "did you mean 'as-norm'?"),
        ({"scorers": [{"labels": "train"}]}, "labels of cosine must be 'none'"),
        ({"scorers": [{"centring": "centered"}]}, "did you mean 'centred'?"),
        ({"tasks": [{"name": "a", "labels": "utt2a"}]}, "'a' has no 'set'"),
        ({"tasks": [{"name": "a/b", "labels": "utt2a", "set": "test"}]}, "becomes part of file names"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_key(changes, said):
    with pytest.raises(ConfigError) as caught:
        recipe_of(**changes)
    assert said in str(caught.value)


FIXED = {"set": "", "train": ["train"], "test": ["test"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"modes": ["affine_then_all"]},
            "modes: there is no 'affine_then_all' (did you mean 'affine-then-all'?)",
        ),
        ({"modes": []}, "modes: none, so that task 'a' would never be learnt"),
        ({"classifiers": ["svn"]}, "classifiers: there is no 'svn' of a class (did you mean 'svm'?)"),
        ({"kind": "number", "classifiers": ["svm"]}, "no 'svm' of a number; there are ridge"),
        ({"classifiers": ["svm", "svm"]}, "classifiers: 'svm' occurs twice"),
        ({"controls": ["chanel"]}, "did you mean 'channel'?"),
        ({"controls": ["interviewer"]}, "controls: 'interviewer' needs the key 'interviewer'"),
        ({"interviewer": "train"}, "interviewer: without 'interviewer' among the controls"),
        ({"metadata": ["utt2age"]}, "metadata: without 'metadata' among the controls"),
        ({"train": ["train"]}, "set: 'dev' is cross-validated, but 'train' or 'test' is a fixed division"),
        ({"set": "", "train": ["train"]}, "has no 'set'"),
        ({**FIXED, "dev": "none"}, "dev of a fixed division is a list of sets, got 'none'"),
        ({**FIXED, "dev": ["train"]}, "train, dev, test: 'train' occurs twice"),
        ({**FIXED, "folds": "5"}, "folds: '5', but 'train' and 'test' are a fixed division"),
        ({**FIXED, "test": ["tst"]}, "sets: 'tst' is used but not listed"),
        ({"dev": ["train"]}, "dev of a cross-validation is 'next' or 'none', got ['train']"),
        ({"folds": "0"}, "folds must be 'speaker', 'given', a number from 2 on, or a table"),
        ({"folds": "speakers"}, "did you mean 'speaker'?"),
        ({"average_over": "speaker"}, "average_over must be one of utterance, recording, subject"),
        ({"groups": "a/b"}, "groups: 'a/b' is not the name of a file in data/SET"),
        ({"unit": "years"}, "unit: 'years', but task 'a' has classes"),
        ({"published": [{"system": "x"}]}, "missing keys tasks[0].published[0].metric"),
    ],
)
def test_a_task_that_cannot_be_done_is_refused_with_the_key(changes, said):
    with pytest.raises(ConfigError) as caught:
        recipe_of(tasks=[{"name": "a", "labels": "utt2a", "set": "dev"} | changes])
    assert said in str(caught.value)


def task_run(tmp_path, seeds=(0,), **task):
    """A run of a trained model, a given one, the baselines and an x-vector, with one task."""
    (tmp_path / "config.yaml").write_text("method: m\nrole: model\nseed: 7\n")
    about = {"name": "a", "labels": "utt2a", "set": "test"} | task
    recipe = recipe_of(
        tasks=[about], stages=[4, 5, 9, 10], models=["dino-koleo"], supervised={"models": ["xvector"]}
    )
    return run_of(recipe, seeds=list(seeds), given=[str(tmp_path)])


def test_a_task_folder_is_made_of_what_the_recipe_says(tmp_path):
    (row,) = rows(task_run(tmp_path, groups="utt2style", average_over="recording"), "task_dirs", 10)
    assert row.values["data"] == ["data/test"] and row.values["task_dir"] == "data/tasks/a"
    text = " ".join(row.values["options"])
    assert "--average-over recording --groups utt2style" in text and "--folds speaker --dev next" in text
    (row,) = rows(task_run(tmp_path, set="", train=["train"], dev=["dev"], test=["test"]), "task_dirs", 10)
    assert row.values["data"] == ["--train", "data/train", "--dev-set", "data/dev", "--test", "data/test"]
    assert "--folds" not in row.values["options"]


def test_every_system_has_a_row_for_each_classifier_and_treatment(tmp_path):
    run = task_run(tmp_path, classifiers=["logreg", "svm"], statistics=True)
    found = [row.values["transfer"] for row in rows(run, "tasks", 10)]
    stored = {system.name for system in systems(run)}
    assert len(stored) == 6
    two = {"a/logreg", "a/svm"}
    for name in stored:
        own = {place.split("/transfer/")[1] for place in found if place.startswith(f"exp/{name}/")}
        assert own == (two if "fbank" in name else two | {f"{backend}+statistics" for backend in two})
    run.stage = 10
    assert not any("xvector_x" in row.values["transfer"] for row in rows(run, "tasks", 10))
    appended = [row.values for row in rows(run, "tasks", 10) if "--append" in row.values["options"]]
    assert all(v["options"][-1] == "exp/fbank-stats_x/seed0/xvectors_test" for v in appended)
    assert all(v["transfer"].endswith("+statistics") for v in appended)


def test_tuning_has_a_row_for_each_system_mode_and_seed(tmp_path):
    modes = ["frozen", "affine-then-all", "all-at-once", "from-scratch"]
    run = task_run(tmp_path, (0, 1), modes=modes, statistics=True, set="", train=["train"], test=["test"])
    run.stop_stage, found = 11, {}
    for row in rows(run, "tuning", 10):
        system, _, rest = row.values["transfer"].partition("/transfer/a/")
        found.setdefault(system, set()).add(rest)
        assert row.values["sets"] == ["data/train", "data/test"]
    both = {"affine-then-all+statistics", "all-at-once+statistics"}
    place = next(name for name in found if name.startswith("exp/m_model-"))
    assert found.pop(place) == {f"{mode}/seed{seed}" for mode in both for seed in (0, 1)}
    for seed in (0, 1):
        assert found.pop(f"exp/dino-koleo_x/seed{seed}") == both
        assert found.pop(f"exp/xvector_x/seed{seed}") == both
    scratch = {f"from-scratch+statistics/seed{seed}" for seed in (0, 1)}
    assert list(found.values()) == [scratch] and "untrained-" in next(iter(found))
    options = next(
        row.values["options"] for row in rows(run, "tuning", 10) if "affine-then-all" in row.values["options"]
    )
    assert [options[i + 1].rpartition("/")[2] for i, word in enumerate(options) if word == "--config"] == [
        "tune-affine.yaml",
        "tune-all.yaml",
    ]
    statistics = [options[i + 1] for i, word in enumerate(options) if word == "--statistics"]
    assert statistics == [f"exp/fbank-stats_x/seed0/xvectors_{name}" for name in ("train", "test")]
    assert options[-2:] == ["--seed", "0"]


def test_controls_have_one_row_for_a_task_with_the_first_model(tmp_path):
    run = task_run(tmp_path, controls=["silence", "metadata"], metadata=["utt2age", "spk2gender"])
    (row,) = rows(run, "controls", 10)
    assert row.values["task_dir"] == "data/tasks/a" and row.values["sets"] == ["data/test"]
    assert row.values["controls"] == "exp/controls_x/a"
    metadata = ["--metadata", "utt2age", "--metadata", "spk2gender"]
    model = ["--model", "exp/dino-koleo_x/seed0/teacher"]
    assert row.values["options"] == ["--controls", "silence metadata", *metadata, *model]
    assert rows(task_run(tmp_path), "controls", 10) == []


def test_what_is_only_tuned_is_not_embedded(tmp_path):
    run = task_run(tmp_path, modes=["all-at-once", "from-scratch"], statistics=True)
    needed = {system.method: set(system.needs(run.recipe)) for system in systems(run)}
    assert needed == {
        "dino-koleo": set(),
        "m": set(),
        "fbank-stats": {("test", False)},
        "fbank-stats-cmn": set(),
        "untrained": set(),
        "xvector": set(),
    }
    made = [row.values["model"] for row in rows(run, "baselines", 5)]
    assert len(made) == 2 and not rows(run, "tasks", 10)


def test_tables_of_a_task_are_looked_for_in_all_its_sets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "test"):
        Path("data", name).mkdir(parents=True)
        Path("data", name, "utt2a").touch()
    Path("data/train/utt2style").touch()
    run = task_run(tmp_path, set="", train=["train"], test=["test"], groups="utt2style")
    run.skip_stages = [9]
    with pytest.raises(UserError, match="no data/test/utt2style, which task 'a' of the recipe names"):
        run.check_tables()


def test_labels_that_clusters_are_compared_with_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data/train").mkdir(parents=True)
    run = task_run(tmp_path, set="", train=["train"], test=["test"])
    run.skip_stages, run.recipe.clusters = [9, 10], Clusters(labels="utt2speaker")
    run.recipe.stages = sorted({*run.recipe.stages, 7})
    with pytest.raises(UserError, match="no data/train/utt2speaker, which clusters.labels of the recipe"):
        run.check_tables()
    Path("data/train/utt2speaker").touch()
    run.check_tables()


def test_test_recordings_may_be_in_pretraining_only_where_the_task_says_so():
    task = {"name": "a", "labels": "utt2a", "set": "train"}
    with pytest.raises(ConfigError, match="'train' is also the set of trials or of a task"):
        recipe_of(models=["dino"], tasks=[task])
    assert recipe_of(models=["dino"], tasks=[task | {"transductive": True}]).tasks[0].transductive
    fixed = task | {"set": "", "train": ["train"], "test": ["test"]}
    assert recipe_of(models=["dino"], tasks=[fixed])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models": ["../../wavdir/conf/tiny"]}, "x.yaml: models: '../../wavdir/conf/tiny' becomes part of"),
        (
            {"stages": [9], "models": ["a"], "supervised": {"models": [".."]}},
            "supervised.models: '..' becomes",
        ),
        ({"sets": ["train", "test", "../x"]}, "sets: '../x' becomes part of file names"),
        ({"sets": ["train", "train", "test"]}, "sets: 'train' occurs twice"),
        ({"sets": ["-x", "train"]}, "sets: '-x' becomes part of file names"),
        ({"models": ["a", "a"]}, "models: 'a' occurs twice"),
        ({"train_set": {"sets": ["train", "train"]}}, "train_set.sets: 'train' occurs twice"),
        ({"train_set": {"sets": []}, "models": ["a"]}, "train_set.sets: none, but there are models"),
        ({"train_set": {"min_duration": -1}}, "train_set.min_duration must not be negative, got -1"),
        ({"plda": {"lda_dim": 0}}, "plda.lda_dim must be above 0, got 0"),
        ({"disk_gb": float("nan")}, "disk_gb must be a finite number, got nan"),
        ({"disk_gb": -1}, "disk_gb must not be negative"),
        ({"prepare": "../../x"}, "prepare: '../../x' becomes part of file names"),
        ({"corpora": ["a/b"]}, "corpora: 'a/b' becomes part of file names"),
        ({"noises": ["../musan"]}, "noises: '../musan' becomes part of file names"),
        ({"name": ".."}, "name: '..' becomes part of file names"),
        ({"name": False}, "name must be text, got False: yes, no, on, off, true and false without quotes"),
        ({"tasks": [{"name": "a", "labels": "..", "set": "test"}]}, "tasks[0].labels: '..' is not the name"),
        ({"supervised": {"labels": "a/b"}}, "x.yaml: supervised.labels: 'a/b' is not the name"),
        ({"trials": [{"set": "test", "name": "a b"}]}, "x.yaml: trials[0].name: 'a b' becomes part"),
        ({"trials": [{"set": "test", "cohort": "dev"}]}, "x.yaml: unknown key 'trials[0].cohort'"),
        ({"scorers": [{"labels": "train"}]}, "x.yaml: scorers[0].labels of cosine must be 'none'"),
        ({"scorers": [{"backend": "plda", "centring": "centred"}]}, "scorers[0].centring: PLDA centres"),
        ({"tasks": [{"name": "a", "labels": "utt2a"}]}, "x.yaml: tasks[0].set: task 'a' has no 'set'"),
    ],
)
def test_a_value_that_leads_elsewhere_or_means_nothing_is_refused_with_its_key(changes, said):
    with pytest.raises(ConfigError) as caught:
        config_from_dict(
            Recipe, {"name": "x", "stages": [5], "sets": ["train", "dev", "test"]} | changes, where="x.yaml"
        )
    assert said in str(caught.value)


def test_a_run_is_the_same_after_its_way_through_json():
    run = run_of(
        recipe_of(trials=[{"set": "test"}], plda={"set": "dev"}), corpora={"a": "/b"}, skip_stages=[9]
    )
    assert config_from_dict(Run, json.loads(json.dumps(dataclasses.asdict(run)))) == run


def test_systems_have_parts_and_what_they_need():
    found = {system.method: system for system in systems(run_of())}
    without_labels = ["dino-koleo", "simclr-ssps", "dino-koleo-round-1", "dino-koleo-round-2"]
    assert list(found) == [*without_labels, "fbank-stats", "fbank-stats-cmn", "untrained", "xvector"]
    dino, untrained, xvector = found["dino-koleo"], found["untrained"], found["xvector"]
    assert (dino.kind, dino.role, dino.labels, dino.stage) == ("trained", "teacher", "none", 4)
    assert (xvector.kind, xvector.role, xvector.labels, xvector.stage) == ("trained", "model", "train", 9)
    assert dino.model_dir == "exp/dino-koleo_mini/seed0/teacher" and untrained.encoder == dino.encoder
    assert dino.needs(MINI) == {
        ("train", False): [*(scorer.name for scorer in MINI.scorers[1:]), "clusters"],
        ("test", False): ["trials test", "task emotion"],
        ("test", True): ["task impairment"],
    }
    assert [system.method for system in systems_of(run_of(), 9)] == ["xvector"]
    assert "xvector" not in {system.method for system in systems_of(run_of(), 6)}
    assert len(systems_of(run_of(seeds=[0, 1]), 10)) == 4 + 4 + 3 + 2


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"trials": [{"set": "test", "enroll": "dev"}]}, {("dev", False), ("test", False), ("train", False)}),
        ({"trials": [{"set": "test"}], "scorers": [{}]}, {("test", False)}),
        ({"trials": [{"set": "test"}], "stages": [5, 10]}, set()),
        ({"tasks": [{"name": "a", "labels": "utt2a", "set": "dev", "keep_silence": True}]}, {("dev", True)}),
        ({}, set()),
    ],
)
def test_baselines_are_embedded_where_something_is_tested(changes, needed):
    recipe = recipe_of(**changes)
    dino, *_, untrained = (s for s in systems(run_of(recipe, models=["dino-koleo"])) if s.stage != 9)
    assert set(untrained.needs(recipe)) == needed
    everything = {(name, False) for name in recipe.sets}
    assert set(dino.needs(recipe)) == (needed or everything)


def test_sets_may_be_embedded_though_nothing_is_tested_with_them():
    recipe = recipe_of(trials=[{"set": "test"}], scorers=[{}], embed=["dev"])
    dino, *baselines = systems(run_of(recipe, models=["dino-koleo"]))
    assert list(dino.needs(recipe)) == [("dev", False), ("test", False)]
    assert all(list(system.needs(recipe)) == [("test", False)] for system in baselines)


def test_centring_is_estimated_on_all_training_sets():
    recipe = recipe_of(train_set={"sets": ["train", "dev"]}, trials=[{"set": "test"}])
    scoring = rows(run_of(recipe, models=["dino-koleo"]), "scoring", 6)
    centred = next(row.values for row in scoring if "centred" in row.values["options"])
    exp = "exp/dino-koleo_x/seed0"
    assert [word for word in centred["options"] if "xvectors" in word] == [
        f"{exp}/xvectors_train",
        f"{exp}/xvectors_dev",
    ]


def test_enrolment_may_have_a_set_of_its_own():
    recipe = recipe_of(trials=[{"set": "test", "enroll": "dev", "name": "x-dev"}])
    values = rows(run_of(recipe, models=["dino-koleo"]), "scoring", 6)[0].values
    assert values["enroll"].endswith("xvectors_dev") and values["test"].endswith("xvectors_test")
    assert values["trials"] == "data/test/trials" and values["scores"].endswith("/x-dev.cosine.raw.txt")
    assert speakers_in(values["options"]) == ["data/test/utt2spk", "data/dev/utt2spk"]
    alone = rows(run_of(recipe_of(trials=[{"set": "test"}]), models=["dino-koleo"]), "scoring", 6)
    assert all(speakers_in(row.values["options"]) == ["data/test/utt2spk"] for row in alone)


def speakers_in(options):
    return [value for name, value in zip(options, options[1:], strict=False) if name == "--utt2spk"]


def test_one_name_never_stands_for_two_systems(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.yaml").write_text("method: dino\nrole: teacher\nseed: 0\n")
    given = next(system for system in systems(run_of(given=[str(folder)])) if system.kind == "given")
    tag = given.name.removeprefix("dino_").removesuffix("/seed0")
    with pytest.raises(UserError, match="would both be called dino_teacher-.*: give another --tag"):
        systems(run_of(models=["dino"], tag=tag, given=[str(folder)]))


def test_one_encoder_has_one_untrained_baseline_however_it_was_configured(tmp_path, monkeypatch):
    """Options that are left out, options that are spelled out, and models given by their folders."""
    monkeypatch.chdir(tmp_path)
    encoder = {"name": "tdnn", "channels": 8, "pooled_channels": 16, "embedding_dim": 12}

    def model(place, encoder=encoder, **changes):
        config = {**configuration(encoder=encoder), **changes}
        torch.manual_seed(0)
        save_model(place, build_encoder(encoder, 20), config, "")
        return place

    def untrained(*given, models=("short", "long")):
        run = Run(recipe_of(models=[]), "conf", "conf", list(models), [0, 1], "x", given=list(given))
        return [system.name for system in systems(run) if system.method == "untrained"]

    Path("conf").mkdir()
    Path("conf/short.yaml").write_text("method: dino\n")
    Path("conf/long.yaml").write_text(f"method: dino\nencoder: {json.dumps(encoder)}\n")
    for name, options in (("short", encoder), ("long", {**encoder, "stride": 3})):
        for seed in (0, 1):
            model(f"exp/{name}_x/seed{seed}/teacher", options, seed=seed)
    given = model("exp/short_x/seed0/student", role="student"), model("elsewhere", method="other")
    (one,) = untrained()
    assert untrained(*given) == untrained(*given, models=()) == untrained(models=["long"]) == [one]
    wide = model("wide", {**encoder, "channels": 9})
    front_end = configuration()["front_end"]
    level = model("level", front_end={**front_end, "normalisation": {"kind": "none"}})
    assert len({*untrained(*given, wide, level)}) == len(untrained(*given, wide, level)) == 3


@pytest.mark.parametrize("labels", ["none", "pseudo", "train", None])
def test_what_a_given_model_was_trained_on_is_in_its_folder(tmp_path, labels):
    said = "" if labels is None else f"labels: {labels}\n"
    (tmp_path / "config.yaml").write_text(f"method: m\nrole: model\nseed: 0\n{said}")
    given = next(system for system in systems(run_of(given=[str(tmp_path)])) if system.kind == "given")
    assert given.labels == (labels or "unknown")


def test_the_tables_keep_given_models_apart_whose_paths_end_alike():
    """`config` in the results distinguishes the rows of the tables."""
    trained = {"model_dir": "exp/dino_x/seed1/teacher", "system": "dino_x/seed1"}
    assert configuration_name(trained) == "dino_x/teacher"
    given = [
        {"model_dir": f"/{place}/exp/dino_x/seed0/teacher", "system": f"dino_teacher-{place}/seed0"}
        for place in ("a1", "b2")
    ]
    assert [configuration_name(meta) for meta in given] == [
        "dino_x/teacher (dino_teacher-a1)",
        "dino_x/teacher (dino_teacher-b2)",
    ]


def test_seeds_of_a_given_model_are_seeds_of_one_row(tmp_path):
    """Their folders differ by the seed alone; another place, or a folder of another seed's name, is another."""
    folders = []
    for place, seed in (("a/seed0", 0), ("a/seed1", 1), ("b/seed0", 0), ("a/seed2", 0)):
        folder = tmp_path / place / "teacher"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(f"method: dino\nrole: teacher\nseed: {seed}\n")
        folders.append(str(folder))
    given = [system for system in systems(run_of(given=folders)) if system.kind == "given"]
    assert [system.name.split("/")[1] for system in given] == ["seed0", "seed1", "seed0", "seed0"]
    rows = [configuration_name({"model_dir": s.model_dir, "system": s.name}) for s in given]
    assert rows[0] == rows[1] and len(set(rows)) == 3


def test_methods_are_read_without_importing_them():
    for name, labels in (("dino-koleo", False), ("xvector", True)):
        method = method_of(str(ROOT / f"egs/mini/conf/{name}.yaml"))
        assert method.reads_labels == labels and method.roles[0] == ("model" if labels else "teacher")


def test_templates_take_words_lists_and_empty_lists():
    row = Row({"set": "a b", "options": ["--x", "1 2"], "none": []})
    assert expand(["s", "{options}", "data/{set}", "{none}", "{set}"], row) == [
        "s",
        "--x",
        "1 2",
        "data/a b",
        "a b",
    ]
    for word, said in (
        ("{sets}", "have no {sets}; they have set, options, none"),
        ("x{options}", "is a list"),
    ):
        with pytest.raises(ValueError) as caught:
            expand([word], row)
        assert said in str(caught.value)
    for words, said in ((["set", "x"], "did you mean 'sets'?"), (["sets"], "has no command")):
        with pytest.raises(ValueError) as caught:
            calls_of(run_of(), 2, words)
        assert said in str(caught.value)


def templates_of_run_sh():
    """Yield each stage with what follows for_each."""
    stage = 0
    for line in (ROOT / "run.sh").read_text().replace("\\\n", " ").splitlines():
        if found := re.match("if stage ([0-9]+) ", line):
            stage = int(found[1])
        elif found := re.match(r" *for_each (?:--round \S+ )?(.*)", line):
            yield stage, found[1]


def test_rows_that_do_not_depend_on_each_other_wait_in_the_queue_of_a_cluster_together():
    """With three seeds as with one: the times that a stage waits for jobs, one after another."""
    recipe = load_config(Recipe, ROOT / "egs/mini/conf/smoke.yaml")
    for seeds in ([0], [0, 1, 2]):
        run = run_of(recipe, seeds=seeds, dry_run=True, round="round-1", models=recipe.models)
        waits, submitted = Counter(), Counter()
        for stage, template in templates_of_run_sh():
            words = [
                word.replace('"$cuda_cmd"', "x").replace('"$train_cmd"', "x") for word in template.split()
            ]
            for phase in calls_of(run, stage, words):
                waits[stage] += any(call.cmd or call.in_array for call in phase)
                submitted[stage] += sum(bool(call.cmd) for call in phase)
                submitted[stage] += any(call.in_array for call in phase)
        assert +waits == {2: 2, 4: 2, 5: 1, 6: 1, 7: 2, 8: 3, 9: 3, 10: 2}
        print(submitted.total(), submitted)


def test_every_kind_of_row_is_called_by_run_sh_with_all_that_it_has():
    """A row's value that no call uses, or a call of rows that are not there, is a mistake of ours."""
    calls = {}
    for _, line in templates_of_run_sh():
        for section in re.split(" --(?:and)? ", line):
            kind, *words = section.split()
            calls.setdefault(kind, []).append(" ".join(words))
    assert set(calls) == set(KINDS)
    recipe = recipe_of(
        stages=[3, 4, 5, 6, 7, 8, 9, 10, 11],
        models=["dino-koleo"],
        supervised={"models": ["xvector"]},
        trials=[{"set": "test"}],
        plda={"set": "train"},
        calibrations=[
            {"scores": ["cosine.raw"], "fitted_on": fitted_on} for fitted_on in ("crops", "clusters")
        ],
        clusters={"labels": "utt2spk", "threshold": True},
        rounds=[{"name": "again", "train": ["xvector"]}],
        tasks=[{"name": "a", "labels": "utt2a", "set": "test", "controls": ["duration"]}],
    )
    run = run_of(recipe, corpora={"musan": "/m"}, download=True, dry_run=True, stage=4, stop_stage=11)
    stages = {"check": 0, "training": 8, "task_dirs": 10, "tasks": 10, "tuning": 10, "controls": 10}
    for kind, templates in calls.items():
        used = "".join(templates)
        found = rows(run, kind, stages.get(kind, 7))
        assert found or kind == "tuning", kind
        for row in found:
            assert all(f"{{{name}}}" in used for name in row.values if name != "corpus"), kind


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A work folder whose program local/note.py writes what it is called with, and fails if it is `bad`."""
    (tmp_path / "local").mkdir()
    (tmp_path / "local/note.py").write_text(
        "import sys\nopen('said', 'a').write(' '.join(sys.argv[1:]) + '\\n')\nsys.exit('bad' in sys.argv)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYDINO_ROOT", str(tmp_path))
    return tmp_path


def call(*words, run=None, stage=2, options=()):
    context = json.dumps(dataclasses.asdict(run or run_of()))
    return main(["for-each", "--context", context, "--stage", str(stage), *options, "--", *words])


def test_rows_are_run_in_order_and_the_first_failure_ends_it(work, capfd):
    assert call("sets", "local/note.py", "{set}", "--", "sets", "local/note.py", "x y", "{set}") == 0
    assert (work / "said").read_text() == "train\ntest\nx y train\nx y test\n"
    assert call("sets", "local/note.py", "bad", "a b", "{set}", "--", "sets", "local/note.py", "never") == 1
    assert (work / "said").read_text().count("bad") == 1 and "never" not in (work / "said").read_text()
    assert f"The command, in {work}, was:\n  local/note.py bad 'a b' train\n" in capfd.readouterr().err


def test_dry_run_prints_what_would_be_run(work, capfd):
    assert call("sets", "local/note.py", "a b", "{set}", options=["--dry-run"]) == 0
    assert capfd.readouterr().out == "  local/note.py 'a b' train\n  local/note.py 'a b' test\n"
    assert not (work / "said").exists()
    assert call("sets", "local/note.py", "{nothing}", options=["--dry-run"]) == 1
    assert "the rows have no {nothing}" in capfd.readouterr().err


def test_what_is_up_to_date_is_not_run_and_a_system_is_one_job(work, capfd, monkeypatch):
    """The steps of a system that has something to do are one job, in the order of the calls."""
    submitted, done = [], {"untrained"}
    monkeypatch.setattr(
        for_each,
        "pending",
        lambda words: {} if any(name in words[-1] for name in done) else {words[-1]: "it changed"},
    )
    groups = []

    def submit(cmd, log, argv, jobs, options):
        submitted.append((cmd, log, jobs))
        groups.extend(json.loads(Path(argv[-2]).read_text()))
        if cmd != "true":
            done.update(("dino", "simclr", "fbank"))

    monkeypatch.setattr(for_each, "submit", submit)
    monkeypatch.setattr(for_each, "run_step", lambda words: pytest.fail(f"{words} is run here"))
    words = ["plda", "steps/train_plda.sh", "{plda}", "--", "scoring", "steps/score.sh", "{scores}"]
    assert call(*words, stage=6, options=["--cmd", "wrapper.sh --mem 1G"]) == 0
    assert submitted == [("wrapper.sh --mem 1G", "exp/log/score.JOB.log", 4)]
    assert not list((work / "exp/log").glob("score.*.json"))  # there is nothing left to resume
    assert [len(group) for group in groups] == [6, 6, 6, 6]
    assert groups[0][0] == ["steps/train_plda.sh", "exp/dino-koleo_mini/seed0/plda"]
    assert all(words[0] == "steps/score.sh" and "dino-koleo" in words[1] for words in groups[0][1:])
    said = capfd.readouterr().err
    assert "6 of 30 up to date" in said
    assert (
        "steps/train_plda.sh: exp/dino-koleo_mini/seed0/plda and 3 more to be made again: it changed" in said
    )
    assert call(*words, stage=6) == 0 and len(submitted) == 1
    assert "steps/train_plda.sh, steps/score.sh: 30 of 30 up to date" in capfd.readouterr().err
    done -= {"dino"}
    assert call(*words, stage=6, options=["--cmd", "true"]) == 1
    assert "'true' reported success, but steps are not done" in capfd.readouterr().err


def test_a_reason_names_the_output_that_it_is_about(work, capfd, monkeypatch):
    """A step with several outputs need not make all of them again."""
    reasons = {"exp/x/xvectors_test": "exp/x/xvectors_test/xvector.ark has another size", "b": "not done yet"}
    monkeypatch.setattr(for_each, "pending", lambda words: reasons)
    monkeypatch.setattr(for_each, "run_step", lambda words: 0)
    assert (
        call(
            "sets", "steps/extract_embeddings.sh", "--cmd", "run_local.sh", "{set}", "exp/x/xvectors_silence"
        )
        == 0
    )
    said = capfd.readouterr().err
    assert "exp/x/xvectors_test to be made again: exp/x/xvectors_test/xvector.ark has another size" in said
    assert "xvectors_silence" not in said and "not done yet" not in said


@pytest.mark.parametrize("number", [1, 2])
def test_a_group_that_fails_is_named_by_its_command_and_the_others_are_shown(
    work, capfd, monkeypatch, number
):
    failing = ["exp/dino-koleo_mini/seed0/scores", "exp/fbank-stats_mini/seed0/scores"][:number]
    ran = False

    def submit(cmd, log, argv, jobs, options):
        nonlocal ran
        ran = True
        for n in range(1, jobs + 1):
            Path(log.replace("JOB", str(n))).write_text(f"# a header\nline of group {n}\n")
        raise UserError("failed: wrapper.sh ended with status 1")

    def pending(words):
        return {} if ran and not words[-1].startswith(tuple(failing)) else {words[-1]: "not done yet"}

    monkeypatch.setattr(for_each, "pending", pending)
    monkeypatch.setattr(for_each, "submit", submit)
    words = ["plda", "steps/train_plda.sh", "{plda}", "--", "scoring", "steps/score.sh", "{scores}"]
    assert call(*words, stage=6) == 1
    shown, said = [], capfd.readouterr().err
    (path,) = (work / "exp/log").glob("score.*.json")  # by which a rerun recognises its jobs
    groups = json.loads(path.read_text())
    for n, group in enumerate(groups, 1):
        succeeded = not any(words[-1].startswith(tuple(failing)) for words in group)
        assert (f"line of group {n}\n" in said) == succeeded
        shown.append(succeeded)
    assert shown.count(False) == number and shown.count(True) == 5 - number and "# a header" not in said
    first = [f"\n  steps/score.sh {scores}" for scores in failing]
    which = "command" if number == 1 else "2 commands"
    assert f"run.sh: failed: wrapper.sh ended with status 1\nThe {which}, in {work}, w" in said
    assert all(text in said for text in first) and said.count("steps/score.sh exp") == number


def test_a_step_that_submits_jobs_to_this_machine_is_run_here(work, monkeypatch):
    ran = []
    monkeypatch.setattr(for_each, "pending", lambda words: {"x": "not done yet"})
    monkeypatch.setattr(for_each, "run_step", lambda words: ran.append(words) or 0)
    cmd = ["--cmd", "run_local.sh --mem 1G"]
    assert call("scoring", "steps/score.sh", *cmd, "{scores}", stage=9) == 0
    assert len(ran) == 5 and all(words[:3] == ["steps/score.sh", *cmd] for words in ran)


# Begins, and ends when as many as its third argument have begun, or fails in vain.
MEETING = """#!/bin/bash
[ "$5" != fails ] || exit 1
echo "$4" >> begun
for _ in {1..300}; do [ "$(wc -l < begun)" -lt "$3" ] || { echo "$4" >> met; echo "$4 is done"; exit 0; }; sleep 0.1; done
exit 1
"""


def at_once(work, *words):
    program = work / "local/meet.sh"
    program.write_text(MEETING)
    program.chmod(0o755)
    return call(*words)


def test_rows_whose_jobs_go_to_a_cluster_are_run_at_once(work, capfd):
    """With those of what --and adds; what follows -- waits."""
    meet = ["local/meet.sh", "--cmd", "run_slurm.sh --mem 1G"]
    words = ["sets", *meet, "4", "a.{set}", "--and", "sets", *meet, "4", "b.{set}"]
    assert (
        at_once(work, *words, "--", "sets", "local/note.py", "{set}", "--", "sets", *meet, "6", "c.{set}")
        == 0
    )
    begun = (work / "begun").read_text().split()
    assert {*begun[:4]} == {"a.train", "a.test", "b.train", "b.test"} and {*begun[4:]} == {
        "c.train",
        "c.test",
    }
    said = capfd.readouterr().err.splitlines()
    assert {f"{one}: {one} is done" for one in begun} <= {*said}


def test_rows_at_once_that_fail_are_named_and_let_the_others_end(work, capfd):
    meet = ["local/meet.sh", "--cmd", "run_slurm.sh"]
    words = ["sets", *meet, "2", "a.{set}", "--and", "sets", *meet, "1", "b.{set}", "fails"]
    assert at_once(work, *words, "--", "sets", "local/note.py", "never") == 1
    assert {*(work / "met").read_text().split()} == {"a.train", "a.test"} and not (work / "said").exists()
    said = capfd.readouterr().err
    assert f"The 2 commands, in {work}, were:\n" in said and said.count("local/meet.sh") == 2
    assert "1 b.train fails\n" in said and "1 b.test fails" in said


@pytest.mark.parametrize("ok", [True, False])
def test_trainings_that_start_from_each_other_are_run_in_order(work, ok):
    note = ["local/note.py", "good" if ok else "bad"]
    calls = [Call([*note, name, number], name, "run_slurm.sh") for name in "ab" for number in "12"]
    if ok:
        for_each.run_calls([calls], "run_slurm.sh", "exp/log/x", [])
    else:
        with pytest.raises(for_each.Failed) as caught:
            for_each.run_calls([calls], "run_slurm.sh", "exp/log/x", [])
        assert caught.value.commands == [[*note, "a", "1"], [*note, "b", "1"]]
    said = [line.split()[1:] for line in (work / "said").read_text().splitlines()]
    numbers = ["1", "2"] if ok else ["1"]
    assert all([number for name, number in said if name == one] == numbers for one in "ab")


def test_a_new_recipe_runs_as_it_is(tmp_path):
    """Whatever the corpus is, the folders that utils/new_recipe.sh makes prepare, list and plan."""
    project = tmp_path / "project"
    for name in ("utils", "local", "pydino", "conf", "egs/mini", "egs/speechocean762/conf"):
        made = ("data", "feats", "exp", "downloads") if name.startswith("egs/") else ()
        ignore = shutil.ignore_patterns("__pycache__", *made)
        shutil.copytree(ROOT / name, project / name, ignore=ignore)
    for name in ("path.sh", "cmd.sh", "run.sh"):
        shutil.copy(ROOT / name, project)
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PYDINO_ROOT", "PYTHONPATH")
    }
    environment |= {"PYDINO_NO_VENV": "true"}

    def ask(*words):
        return subprocess.run(
            [*map(str, words)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    made = ask(project / "utils/new_recipe.sh", "mycorpus")
    assert made.returncode == 0, made.stderr
    for speaker in ("ann", "bob", "cid", "dee"):
        (tmp_path / "wavs" / speaker).mkdir(parents=True)
        for number in range(2):
            shutil.copy(next(ROOT.glob("tests/fixtures/**/*.wav")), tmp_path / f"wavs/{speaker}/{number}.wav")
    recipe = project / "egs/mycorpus/run.sh"
    done = ask(recipe, "--root", "wavs", "--stage", 1, "--stop-stage", 1)
    assert done.returncode == 0, done.stderr
    trials = (project / "egs/mycorpus/data/test/trials").read_text().splitlines()
    assert len((project / "egs/mycorpus/data/train/wav.scp").read_text().splitlines()) == 4 and trials
    planned = ask(recipe, "--dry-run")
    assert planned.returncode == 0 and "--config " in planned.stdout, planned.stderr
    assert "steps/score.sh" in planned.stdout
    for name, said in (("mycorpus", "exists already"), ("My Corpus", "becomes part of file names")):
        again = ask(project / "utils/new_recipe.sh", name)
        assert again.returncode == 1 and said in again.stderr
