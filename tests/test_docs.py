"""The pages of the project: links, usage lines, tables, and the two diffs that add a method and a corpus."""

import dataclasses
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from test_train_dino import CONFIG, data, log_lines  # noqa: F401

import pydino.train.methods as registry
from pydino.base import dump_config
from pydino.cli import main
from pydino.kaldi import read_table
from pydino.recipe.schema import STAGES, Recipe
from pydino.recipe.tasks import Task
from pydino.recipe.verification import Clusters, Round, Scorer

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *ROOT.glob("egs/*/README.md")]


def page(name):
    return (ROOT / name).read_text(encoding="utf-8")


def diff_of(name):
    return re.search(r"^```diff\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL)[1]


def section(text, heading):
    """The text from a heading to the next heading of the second level."""
    return re.split(r"^## ", text.split(f"## {heading}\n")[1], flags=re.MULTILINE)[0]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (path.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_page_names_exist(path):
    named = re.findall(
        r"`((?:pydino|steps|utils|local|tests|benchmarks|docs|conf)/[\w/.-]+\.(?:py|sh|md|yaml|conf))`",
        path.read_text(encoding="utf-8"),
    )
    named = [name for name in named if not re.search("[A-Z]{3}|mycorpus", name)]  # placeholders
    # a recipe's own conf/ is named without its folder
    places = (ROOT, path.parent, *ROOT.glob("egs/*"))
    assert [name for name in named if not any((place / name).exists() for place in places)] == []


def test_the_readme_has_the_stages_of_the_schema():
    rows = re.findall(r"^\| (\d+) \| ([\w-]+) \|", page("README.md"), re.MULTILINE)
    assert {int(number): name for number, name in rows} == STAGES


def test_every_key_of_a_recipe_is_described():
    table = section(page("docs/recipes.md"), "recipe.yaml")
    keys = {
        key
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for key in re.findall(r"`(\w+)`", row)
    }
    assert keys == {field.name for field in dataclasses.fields(Recipe)}


def test_every_key_of_a_task_is_described():
    table = section(page("docs/recipes.md"), "Tasks")
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    keys = {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}
    assert keys == {field.name for field in dataclasses.fields(Task)}


@pytest.mark.parametrize(
    ("heading", "types"), [("Scorers", [Scorer]), ("Clusters and rounds", [Clusters, Round])]
)
def test_every_key_of_verification_is_described(heading, types):
    cells = re.findall(r"^\| (`.*?) \|", section(page("docs/recipes.md"), heading), re.MULTILINE)
    keys = {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}
    assert keys == {field.name for kind in types for field in dataclasses.fields(kind)}


def usage_lines():
    block = re.search(r"```\n(steps/.*?)```", page("README.md"), re.DOTALL)[1]
    return [(usage.split()[0], usage) for usage in re.split(r"\n(?=steps/)", block)]


@pytest.mark.parametrize("step, usage", usage_lines(), ids=lambda value: value.split()[0])
def test_the_options_of_a_step_are_those_of_its_help(step, usage):
    asked = subprocess.run(
        ["bash", ROOT / step, "--help"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYDINO_NO_VENV": "true"},
    )
    known = set(re.findall(r"--[\w-]+", asked.stdout + asked.stderr))
    assert set(re.findall(r"--[\w-]+", usage)) <= known


def test_every_step_is_in_the_readme():
    assert {step for step, _ in usage_lines()} == {f"steps/{path.name}" for path in ROOT.glob("steps/*.sh")}


def test_the_diff_that_adds_a_method_trains(data, tmp_path, monkeypatch):  # noqa: F811
    new_files = {
        name: "".join(f"{line[1:]}\n" for line in body.splitlines() if line.startswith("+"))
        for name, body in re.findall(
            r"^\+\+\+ b/(\S+)\n@@.*?@@\n(.*?)(?=^--- |\Z)",
            diff_of("docs/training.md"),
            re.MULTILINE | re.DOTALL,
        )
    }
    (program,) = [name for name in new_files if name.startswith("pydino/train/methods/")]
    (yaml,) = [name for name in new_files if name.endswith(".yaml")]
    (tmp_path / Path(program).name).write_text(new_files[program])
    monkeypatch.setattr(registry, "_FOLDER", tmp_path)
    monkeypatch.setattr(registry, "__path__", [str(tmp_path)])
    (tmp_path / "conf.yaml").write_text(new_files[yaml])
    method, config = registry.load_training_config(tmp_path / "conf.yaml")
    assert (config.method, method.roles) == (Path(program).stem, ("teacher", "student"))

    small = {key: CONFIG[key] for key in ("epochs", "batch_size", "encoder", "crops", "on_collapse")}
    dump_config({"method": config.method, **small}, tmp_path / "small.yaml")
    exp = tmp_path / "exp"
    assert (
        main(["train", "--config", str(tmp_path / "small.yaml"), "--num-threads", "1", str(data), str(exp)])
        == 0
    )
    lines = log_lines(exp)
    assert lines[-1]["loss"] < lines[0]["loss"] and np.isfinite(lines[-1]["effective_rank"])
    assert all((exp / role / "model.safetensors").exists() for role in method.roles)


def test_the_diff_that_adds_a_corpus_prepares_it(tmp_path):
    project, corpus = tmp_path / "project", tmp_path / "corpus"
    for name in ("utils", "local", "pydino", "conf", "egs/mini", "egs/speechocean762/conf", "steps"):
        made = ("data", "feats", "exp", "downloads") if name.startswith("egs/") else ()
        ignore = shutil.ignore_patterns("__pycache__", *made)
        shutil.copytree(ROOT / name, project / name, ignore=ignore)
    for name in ("path.sh", "cmd.sh", "run.sh"):
        shutil.copy(ROOT / name, project)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYDINO_ROOT", "PYTHONPATH")}
    environment |= {"PYDINO_NO_VENV": "true", "GIT_CEILING_DIRECTORIES": str(tmp_path)}

    def ask(*words, text=None):
        return subprocess.run(
            [*map(str, words)],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            input=text,
            timeout=120,
        )

    assert ask("utils/new_recipe.sh", "mycorpus").returncode == 0
    applied = ask("git", "apply", "-", text=diff_of("docs/recipes.md"))
    assert applied.returncode == 0, applied.stderr

    (corpus / "audio").mkdir(parents=True)
    wav = ROOT / "tests/fixtures/audio/wav/d4_quiet.wav"
    rows = ["file,speaker,split,emotion"]
    for number, (speaker, split) in enumerate([("ann", "train"), ("bob", "test"), ("cid", "test")] * 2):
        shutil.copy(wav, corpus / f"audio/{number}.wav")
        rows.append(f"{number}.wav,{speaker},{split},{'happy' if number % 2 else 'sad'}")
    (corpus / "metadata.csv").write_text("\n".join(rows) + "\n")

    done = ask("egs/mycorpus/run.sh", "--root", corpus, "--stage", 1, "--stop-stage", 1)
    assert done.returncode == 0, done.stderr
    test = project / "egs/mycorpus/data/test"
    assert read_table(test / "utt2emotion") == {
        "bob-1": "happy",
        "bob-4": "sad",
        "cid-2": "sad",
        "cid-5": "happy",
    }
    assert read_table(test / "utt2spk") == {"bob-1": "bob", "bob-4": "bob", "cid-2": "cid", "cid-5": "cid"}
    assert len((test / "trials").read_text().splitlines()) == 6
    planned = ask("egs/mycorpus/run.sh", "--root", corpus, "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "steps/make_task.sh --name emotion" in planned.stdout
    assert "steps/train_classifier.sh --classifier logreg data/tasks/emotion" in planned.stdout
