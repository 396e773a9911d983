"""Where a user stands, and what the environment holds, changes nothing: modules in the current folder, CDPATH,
PYTHONPATH, another toolkit's programs.
"""

import os
import subprocess
from pathlib import Path

import pytest

from pydino.cli import verbs

ROOT = Path(__file__).resolve().parent.parent
SHADOWS = ("random", "yaml", "torch", "numpy", "json", "signal", "common", "pydino", "kaldiio", "soundfile")


@pytest.fixture
def shadows(tmp_path):
    """A folder with modules that must not be imported."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in SHADOWS:
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the current folder')\n")
    return folder


def call(folder, *words, **variables):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        list(map(str, words)), cwd=folder, capture_output=True, text=True, timeout=120, env=environment
    )


@pytest.mark.parametrize("verb", sorted(verbs()))
def test_no_verb_imports_from_the_current_folder(shadows, verb):
    done = call(shadows, ROOT / "utils/pydino", verb, "--help")
    assert done.returncode == 0 and "current folder" not in done.stdout + done.stderr, done.stderr


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "local").glob("prepare_*.py")))
def test_no_preparation_imports_from_the_current_folder(shadows, script):
    done = call(shadows, "python3", ROOT / "local" / script, "--help")
    assert done.returncode == 0 and "current folder" not in done.stdout + done.stderr, done.stderr


def test_jobs_and_the_processes_of_torchrun_import_nothing_from_the_current_folder(shadows):
    wrapper = ROOT / "utils/run_local.sh"
    launch = ["pydino", "launch", "--processes", "2", "--scheduler", "none", "--", "versions"]
    done = call(shadows, wrapper, "a.log", *launch)
    assert done.returncode == 0 and "current folder" not in (shadows / "a.log").read_text(), done.stderr


def test_a_users_own_job_imports_what_lies_beside_it(shadows):
    (shadows / "mine.py").write_text("import beside\n")
    (shadows / "beside.py").write_text("print('found')\n")
    done = call(shadows, ROOT / "utils/run_local.sh", "a.log", "python3", "mine.py")
    assert done.returncode == 0 and "\nfound\n" in (shadows / "a.log").read_text()


SOURCED = 'unset PYDINO_ROOT; . "$0/path.sh" && echo "[$PYDINO_ROOT] [$PYTHONPATH] [${CDPATH-unset}]"'


@pytest.mark.parametrize("value", ["", ":", "/x:", ":/x", "/x::/y"])
def test_an_empty_part_of_pythonpath_is_not_the_current_folder(shadows, value):
    done = call(shadows, "bash", "-c", SOURCED, ROOT, PYTHONPATH=value)
    path = ":".join([str(ROOT), *filter(None, value.split(":"))])
    assert done.stdout == f"[{ROOT}] [{path}] [unset]\n", done.stderr
    done = call(shadows, ROOT / "utils/run_local.sh", "a.log", "pydino", "versions", PYTHONPATH=value)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("cdpath", [".:/", "{parent}:.", ":{parent}", "{parent}"])
def test_cdpath_leads_no_script_astray(tmp_path, cdpath):
    """Scripts are called by a relative path without a leading dot, which is what CDPATH is about."""
    variables = {"CDPATH": cdpath.format(parent=ROOT.parent), "PYDINO_ROOT": ""}
    work = ["--work-dir", tmp_path, "--list"]
    for words in (["run.sh", *work], ["egs/mini/run.sh", *work], ["utils/split_data.sh", "--help"]):
        done = call(ROOT, "bash", *words, **variables)
        assert done.returncode == 0 and done.stderr == "", (words, done.stderr)
    done = call(ROOT.parent, "bash", "-c", SOURCED, ROOT.name, PYTHONPATH="", **variables)
    assert done.stdout == f"[{ROOT}] [{ROOT}] [unset]\n", done.stderr


def test_the_programs_of_this_tree_come_before_those_of_another(tmp_path):
    (tmp_path / "parse_options.sh").write_text("echo 'of another toolkit'; exit 1\n")
    path = f"{tmp_path}:{ROOT}/utils:{os.environ['PATH']}"
    done = call(tmp_path, ROOT / "utils/copy_data_dir.sh", "--help", PATH=path)
    assert done.returncode == 0 and "another toolkit" not in done.stdout


def test_a_folder_that_cannot_be_on_path_is_refused(tmp_path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "path.sh").write_text((ROOT / "path.sh").read_text())
    done = call(tmp_path, "bash", "-c", SOURCED, folder)
    assert (
        done.returncode == 1 and "as it has a colon: rename the folder" in done.stderr and done.stdout == ""
    )


def test_what_jobs_can_have(tmp_path):
    bin = tmp_path / "bin"
    bin.mkdir()
    for name, text in (
        ("nvidia-smi", 'echo "GPU 0: Fake (UUID: GPU-aa)"'),
        ("sinfo", 'case $3 in %G) echo "(null)"; echo gpu:a100:4 ;; *) echo 8+; echo 12 ;; esac'),
    ):
        (bin / name).write_text(f"#!/bin/bash\n{text}\n")
        (bin / name).chmod(0o755)
    variables = {"PATH": f"{bin}:{os.environ['PATH']}"}
    environment = {**os.environ, **variables}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    cores = str(len(os.sched_getaffinity(0)))

    def ask(*words):
        return subprocess.check_output(["pydino", "resources", *words], env=environment, text=True).split()

    assert ask("--cmd", "/kaldi/utils/run.pl --mem 1G", "local", "gpus") == ["true", "1"]
    assert ask("local", "threads") == ["true", ask("cores")[0]] and int(ask("cores")[0]) <= int(cores)
    assert ask("--cmd", "run_slurm.sh", "local", "gpus", "threads") == ["false", "1", "8"]
    assert ask("--cmd", "slurm.pl", "--processes", "4", "threads") == ["12"]
