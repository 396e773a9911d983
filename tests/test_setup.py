"""utils/setup.sh with a pip that only writes down what it is asked for."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Python of the environment: what pip is asked for goes to asked.txt; no PyTorch is there, and no index can be
# reached.
PYTHON = """#!/bin/bash
root=$(realpath "$(dirname "$0")/../..")
case $1 in
  -Im) shift 2; echo "$*" >> "$root/asked.txt" ;;
  -I) exec {python} "$@" ;;
  -Ic) exit 1 ;;
esac
"""


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "utils").mkdir()
    shutil.copy(ROOT / "utils/setup.sh", tmp_path / "utils")
    shutil.copy(ROOT / "path.sh", tmp_path)
    (tmp_path / "utils/install_system_packages.sh").touch()
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    return tmp_path


def test_pytorch_of_another_version_is_not_replaced_by_the_pinned_one(tree):
    done = subprocess.run(
        ["bash", tree / "utils/setup.sh", "dev"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYDINO_TORCH": "torch==2.11.0"},
    )
    assert done.returncode == 0, done.stderr
    first, last = (tree / "asked.txt").read_text().splitlines()
    assert first.endswith(" torch==2.11.0")
    constraints, requirements = (
        Path(path).read_text() for path in re.search(r"-c (\S+) -r (\S+)", last).groups()
    )
    pinned = {line.split("==")[0] for line in constraints.splitlines()}
    assert "torch" not in pinned and {"numpy", "pytest"} <= pinned
    assert {"torch>=2.11", "pytest>=8"} <= set(requirements.splitlines())
    assert (tree / ".venv/.ready.dev").exists()


def sh(tree, command):
    environment = {key: value for key, value in os.environ.items() if key != "PYDINO_NO_VENV"}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=tree,
        capture_output=True,
        text=True,
        env=environment | {"PYDINO_TORCH": "torch==2.11.0"},
    )


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_path_sh_sets_up_once_and_again_when_other_libraries_are_asked_for(tree):
    def asked():
        """What pip was asked for when path.sh was sourced."""
        (tree / "asked.txt").write_text("")
        done = sh(tree, ". ./path.sh")
        assert done.returncode == 0, done.stderr
        return (tree / "asked.txt").read_text(), done.stderr

    first, said = asked()
    assert "-r " in first and "(once; a few minutes" in said
    assert asked() == ("", "")
    (tree / "pyproject.toml").write_text((tree / "pyproject.toml").read_text() + "\n[tool.other]\nkey = 1\n")
    replace(tree / "pyproject.toml", "# Kaldi archives", "# archives of Kaldi")
    assert asked() == ("", "")
    for name, old, new in (
        ("pyproject.toml", '"tqdm>=4.66"', '"tqdm>=4.67"'),
        ("pyproject.toml", '"pytest>=8"', '"pytest>=9"'),
        ("constraints.txt", "scipy==", "scipy==9."),
    ):
        replace(tree / name, old, new)
        again, said = asked()
        assert "-r " in again and "has changed since" in said
        assert asked() == ("", "")
    assert "tqdm>=4.67" in (tree / ".venv/requirements.txt").read_text()
    assert "scipy==9." in (tree / ".venv/constraints.txt").read_text()


def test_the_libraries_of_the_tests_have_a_mark_of_their_own(tree):
    def is_ready(*extra):
        return sh(tree, f"bash utils/setup.sh --check {' '.join(extra)}").returncode == 0

    assert not is_ready() and not is_ready("dev")
    assert sh(tree, "bash utils/setup.sh").returncode == 0
    assert is_ready() and not is_ready("dev")
    assert sh(tree, "bash utils/setup.sh dev").returncode == 0
    assert is_ready() and is_ready("dev")
    replace(tree / "pyproject.toml", '"pytest>=8"', '"pytest>=9"')
    assert not is_ready("dev")
    assert sh(tree, "bash utils/setup.sh").returncode == 0
    assert is_ready() and not is_ready("dev")
    assert "setup.sh --check dev || bash utils/setup.sh dev" in (ROOT / "tests/run.sh").read_text()


def test_an_environment_older_than_the_digest_counts_as_it_is(tree):
    (tree / ".venv/.ready").touch()
    assert sh(tree, "bash utils/setup.sh --check").returncode == 0


def program(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


def test_a_python_that_is_too_old_or_missing_is_said_with_the_remedy_before_all_else(tree):
    """Before its venv is missed, too: that of an old Python is of no use."""
    shutil.rmtree(tree / ".venv")
    program(tree / "bin", "python3", 'if [ "$1" = --version ]; then echo Python 3.9.18; else exit 1; fi')
    done = sh(tree, f"PATH={tree}/bin:$PATH; . ./path.sh")
    assert done.returncode == 1 and "conda activate pydino" in done.stderr, done.stderr
    assert f"3.11 or later is needed, and python3 on PATH is {tree}/bin/python3 Python 3.9.18." in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not (tree / ".venv").exists()
    (tree / "bin/python3").unlink()
    for name in ("bash", "dirname", "realpath", "grep", "paste"):
        (tree / "bin" / name).symlink_to(shutil.which(name))
    done = sh(tree, f"PATH={tree}/bin; . ./path.sh")
    assert done.returncode == 1 and "and python3 on PATH is missing. Put a later one first" in done.stderr


def test_packages_that_may_not_be_installed_are_named_with_what_can_be_done_without_sudo(tmp_path):
    program(tmp_path, "id", "echo 1000")
    command = ["bash", ROOT / "utils/install_system_packages.sh", "bash", "no-such-program"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    )
    assert done.returncode == 1 and "install -y --no-install-recommends no-such-program" in done.stderr
    assert "Without sudo: " in done.stderr and "-c conda-forge no-such-program)" in done.stderr
