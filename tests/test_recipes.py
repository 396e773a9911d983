"""Every recipe of egs/, from its own run.sh to its last stage, on a tiny corpus of its layout: the stages, options
and formats of the recipe as they are, with models of a few channels. egs/mini has its tests in
test_end_to_end.py.
"""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny_corpora
import tiny_emotion_corpora
import yaml
from once import once
from smoke import ROOT


def trains(name: str) -> bool:
    return "models" in yaml.safe_load((ROOT / "egs" / name / "conf/recipe.yaml").read_text())


RECIPES = sorted(
    (path.parent.name for path in (ROOT / "egs").glob("*/run.sh") if path.parent.name != "mini"),
    # First the recipe whose model others start from, then those that train models of their own.
    key=lambda name: (name != "wavdir", not trains(name), name),
)

# What makes a recipe small. Everything else is as it is shipped.
SMALL_RECIPE = {
    "disk_gb": 0.01,
    "train_set": {"min_duration": 0.5},
    "plda": {"lda_dim": 3},
    "prepare_options": {"partial": "true"},
    "clusters": {"lda_dim": 3, "min_utts": 2, "crops": "crops"},
}
SMALL_TRAINING = {
    "epochs": 2,
    "batch_size": 8,
    "encoder": {"name": "tdnn", "channels": 16, "pooled_channels": 32, "embedding_dim": 8},
    "compute": {"precision": "fp32", "accumulation": 1},
    "on_collapse": "warn",
}
SMALL_DINO = SMALL_TRAINING | {
    "head": {"hidden_dim": 32, "bottleneck_dim": 16, "output_dim": 64},
    "crops": {"num_local": 1, "global_seconds": [1.0, 1.0], "local_seconds": [0.5, 0.5]},
    "optimiser": {"warmup_epochs": 1},
}
SMALL_XVECTOR = SMALL_TRAINING | {
    "margin_warmup_epochs": 1,
    "crops": {"num_global": 1, "num_local": 0, "global_seconds": [1.0, 1.0]},
    "optimiser": {"warmup_steps": 1},
}
TUNED_LIKE_ANOTHER = ("adresso", "crema_d", "ravdess")  # as adress, iemocap and emodb
SMALL_ROUND = SMALL_TRAINING | {
    "crops": {"global_seconds": [1.0, 1.0]},
    "optimiser": {"warmup_epochs": 0, "warmup_steps": 1},
}
SMALL_CLUSTERS = {"method": "pseudo-speakers", "neighbours": [3], "rounds": 1, "lda_dim": 3}
SMALL_TUNING = {"epochs": 1, "batch_size": 16, "crops": {"global_seconds": [0.5, 0.5]}}


@dataclass
class Finished:
    """A recipe after its last stage."""

    folder: Path  # its copy, with conf/, data/ and exp/
    corpora: dict[str, str]  # name -> folder
    said: str  # standard error

    def results(self) -> list[dict]:
        return json.loads((self.folder / "exp/results.json").read_text())


def run(folder: Path, corpora: dict[str, str | Path], *options) -> subprocess.CompletedProcess:
    """Call run.sh of a recipe; corpora: name -> folder."""
    if len(corpora) == 1:
        where = ["--root", *corpora.values()]
    else:
        where = [text for name, path in corpora.items() for text in ("--corpus", f"{name}={path}")]
    command = [folder / "run.sh", *where, "--nj", 1, "--ngpu", 0, *options]
    return subprocess.run([str(text) for text in command], capture_output=True, text=True, timeout=1800)


def small_copy(name: str, place: Path) -> Path:
    """Copy egs/NAME to PLACE/egs/NAME, in a tree like the project's, and make its models small."""
    place.mkdir()
    for script in ("cmd.sh", "path.sh"):
        (place / script).write_text(f". '{ROOT / script}'\n")
    (place / "run.sh").write_text(f"#!/usr/bin/env bash\nexec '{ROOT}/run.sh' \"$@\"\n")
    (place / "run.sh").chmod(0o755)
    shutil.copytree(ROOT / "conf", place / "conf")  # which those of a recipe extend
    folder = place / "egs" / name
    shutil.copytree(
        ROOT / "egs" / name, folder, ignore=shutil.ignore_patterns("data", "exp", "feats", "downloads")
    )
    for path in (folder / "conf").glob("*.yaml"):
        if path.name == "recipe.yaml":
            small = SMALL_RECIPE | few_modes(yaml.safe_load(path.read_text()))
        elif path.name.startswith("dino"):
            small = SMALL_DINO
        elif path.name.startswith("xvector"):
            small = SMALL_XVECTOR
        elif path.name.startswith("round"):
            small = SMALL_ROUND
        else:
            continue
        shipped = yaml.safe_load(path.read_text())
        for key, value in small.items():
            if path.name == "recipe.yaml" and key not in shipped:
                continue
            if name == "wavdir" and key == "batch_size":  # as shipped: more than the recordings here
                continue
            merged = isinstance(value, dict) and key != "encoder"
            shipped[key] = shipped.get(key, {}) | value if merged else value
        if "min_utterances" in shipped:  # no cluster of so few recordings has as many
            shipped["min_utterances"] = 2
        path.write_text(yaml.safe_dump(shipped, sort_keys=False))
    (folder / "conf/cluster.yaml").write_text(yaml.safe_dump(SMALL_CLUSTERS))
    crops = yaml.safe_load((ROOT / "conf/crops.yaml").read_text())
    (folder / "conf/crops.yaml").write_text(yaml.safe_dump(crops | {"number": 2, "seconds": 0.5}))
    for path in (ROOT / "conf").glob("tune-*.yaml"):
        if path.name != "tune-common.yaml":
            small = {"extends": str(path)} | SMALL_TUNING
            (folder / "conf" / path.name).write_text(yaml.safe_dump(small, sort_keys=False))
    return folder


def few_modes(recipe: dict) -> dict:
    """The tasks of a recipe: the first is tuned in one way, where no other recipe is divided like it, and has
    controls; the others have neither.
    """
    tasks = [dict(task) for task in recipe.get("tasks", [])]
    for number, task in enumerate(tasks):
        few = 1 if number or recipe["name"] in TUNED_LIKE_ANOTHER else 2
        task["modes"] = task.get("modes", ["frozen"])[:few]
        for key in ("controls", "interviewer", "metadata") if number else ():
            task.pop(key, None)
    return {"tasks": tasks}


def sets_in_test(task: dict, folder: Path) -> set[str]:
    """The test sets that the results of a task name, and its groups."""
    sets = [task["set"]] if "set" in task else task["test"]
    groups = {
        f"{name}, {line.split()[1]}"
        for name in sets
        if "groups" in task
        for line in (folder / f"data/{name}/{task['groups']}").read_text().splitlines()
    }
    return {*sets, *groups}


@pytest.fixture(scope="session")
def finish(tmp_path_factory):
    """Return the function that runs a recipe from its first stage to its last, once."""

    def finish(name: str) -> Finished:
        # what a folder may be called
        place = once(tmp_path_factory, f"{name} R&D (é) $HOME", lambda place: make(name, place))
        corpora = json.loads((place / "corpora.json").read_text())
        return Finished(place / "project/egs" / name, corpora, (place / "said").read_text())

    def make(name: str, place: Path):
        module = tiny_emotion_corpora if hasattr(tiny_emotion_corpora, name) else tiny_corpora
        corpora = getattr(module, name)(place / "corpora")
        folder = small_copy(name, place / "project")
        options = []
        if not trains(name):
            options = ["--model", finish("wavdir").folder / "exp/dino-koleo_wavdir/seed0/teacher"]
        ran = run(folder, corpora, *options)
        assert ran.returncode == 0, ran.stderr[-6000:]
        (place / "said").write_text(ran.stderr)
        (place / "corpora.json").write_text(json.dumps({key: str(path) for key, path in corpora.items()}))

    return finish


def keys(path: Path) -> list[str]:
    return [line.split(maxsplit=1)[0] for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_to_its_last_stage(name, finish):
    recipe = finish(name)
    listed = run(recipe.folder, recipe.corpora, "--list")
    stages = [line.split()[:2] for line in listed.stdout.splitlines()]
    assert stages[0] == ["0", "check"] and stages[-1] == ["11", "report"]
    assert re.findall(r"stage (\d+): ([\w-]+): done", recipe.said) == [tuple(stage) for stage in stages]
    assert "Traceback" not in recipe.said

    about = yaml.safe_load((recipe.folder / "conf/recipe.yaml").read_text())
    asked = {("sv", trials.get("name", trials["set"])) for trials in about.get("trials", [])}
    asked |= {
        (task["name"], name) for task in about.get("tasks", []) for name in sets_in_test(task, recipe.folder)
    }
    results = recipe.results()
    assert {(result["task"], result["test_set"]) for result in results} == asked
    trained = set(about.get("models", [])) | set(about.get("supervised", {}).get("models", []))
    for task, test_set in asked:
        models = {r["model"] for r in results if (r["task"], r["test_set"]) == (task, test_set)}
        assert trained | {"fbank-stats", "fbank-stats-cmn", "untrained"} <= models

    for folder in (recipe.folder / "exp").glob("*/seed*/xvectors_*"):
        name_of_set = (
            folder.name.removeprefix("xvectors_").removesuffix("+statistics").removesuffix("_with_silence")
        )
        assert keys(folder / "xvector.scp") == keys(recipe.folder / f"data/{name_of_set}/utt2spk")
    page = (recipe.folder / "exp/report.html").read_text(encoding="utf-8")
    tuned = any(len(task.get("modes", ["frozen"])) > 1 for task in about.get("tasks", []))
    assert (
        page.rstrip().endswith("</html>")
        and "Map of" in page
        and ("<h3>Training</h3>" in page) == bool(trained or tuned)
    )


COUNTS = {  # set -> utterances, those in linked folders among them, hidden files not
    "adress": {"adress_train": 24, "adress_test": 8, "adress_interviewer": 32},
    "adresso": {"adresso_train": 24, "adresso_test": 8, "adresso_interviewer": 32},
    "crema_d": {"crema_d": 61},
    "emodb": {"emodb": 24},
    "iemocap": {"iemocap": 65},
    "labelled": {"labelled": 24},
    "librispeech": {"train": 18, "test": 9},
    "msp_podcast": {
        "msp_podcast_train": 28,
        "msp_podcast_dev": 16,
        "msp_podcast_test1": 17,
        "msp_podcast_test2": 16,
    },
    "ravdess": {"ravdess": 96},
    "speechocean762": {"train": 18, "test": 24},
    "voxceleb": {"train": 18, "test": 6},
    "wavdir": {"train": 16},
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recording_of_a_corpus_is_there_and_nothing_else(name, finish):
    data = finish(name).folder / "data"
    assert {set_: len(keys(data / set_ / "utt2spk")) for set_ in COUNTS[name]} == COUNTS[name]
    if name == "voxceleb":
        assert {
            path.name: len(keys(path))
            for path in data.glob("*/*.scp")
            if path.parent.name in ("musan", "rirs")
        } == {
            "noise.scp": 4,
            "music.scp": 4,
            "speech.scp": 4,
            "smallroom.scp": 2,
            "mediumroom.scp": 2,
            "largeroom.scp": 2,
            "realroom.scp": 1,
        }


def test_a_folder_of_fewer_recordings_than_a_batch_takes_is_trained_on_and_reported_without_results(finish):
    recipe = finish("wavdir")
    assert "batch_size: 64 is more than the 16 utterances" in recipe.said
    assert recipe.results() == []
    text = (recipe.folder / "exp/RESULTS.md").read_text(encoding="utf-8")
    table = text[text.index("## Nearest neighbours: train") :]
    rows = re.findall(
        r"^\| 20\d\d-Café_visit_\d_\d \|(?: 20\d\d-Café_visit_\d_\d \(-?\d\.\d\d\) \|){5}$", table, re.M
    )
    assert len(rows) == 10
