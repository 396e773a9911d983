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
