"""The plan of the package: which room may import which, what starts without torch, and what must not be in the
tree.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Besides base and itself.
MAY_IMPORT = {
    "base": set(),
    "kaldi": set(),
    "jobs": set(),
    "recipe": set(),
    "audio": {"kaldi"},
    "models": set(),
    "ssl": {"models"},
    "data": {"audio", "kaldi"},
    "backend": set(),
    "infer": {"models", "audio", "kaldi"},
    "train": {"ssl", "models", "data", "audio", "infer", "backend"},
    "downstream": {"train", "infer", "models", "backend", "data", "kaldi"},  # task folders are tables
    "report": {"backend", "kaldi"},  # it reads scores and embeddings, to draw them
}
MAY_IMPORT["cli"] = set(MAY_IMPORT)


def tracked(*patterns):
    """Paths of the tree, without what a recipe or the set-up makes."""
    listed = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    return [ROOT / name for name in listed if (ROOT / name).exists()]


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        for name in names:
            if name.startswith("pydino."):
                yield name.split(".")[1]


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_rooms_import_only_the_rooms_below_them(room):
    for path in (ROOT / "pydino" / room).rglob("*.py"):
        for other in imported_rooms(path):
            assert other in MAY_IMPORT[room] | {"base", room}, (
                f"{path.relative_to(ROOT)} imports pydino.{other}"
            )


def test_every_room_is_in_the_plan():
    assert {path.parent.name for path in (ROOT / "pydino").glob("*/__init__.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", ["base", "kaldi", "jobs", "recipe", "cli"])
def test_rooms_that_start_without_torch(room):
    code = f"import sys, pydino.{room}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_what_does_not_train_starts_without_the_compiler():
    """PyTorch's compiler is a second of every start."""
    code = "import sys, pydino.infer, pydino.train; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("verb", ["recipe", "for_each", "run_local", "run_slurm"])
def test_what_a_stage_or_a_job_starts_with_imports_no_library_of_numbers(verb):
    slow = {"torch", "scipy", "sklearn", "numpy"}
    code = f"import sys, pydino.cli.{verb}; sys.exit(bool({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_files_fit_in_the_head():
    for path in tracked("*.py", "*.sh"):
        if path.relative_to(ROOT).parts[0] != "tests":
            assert len(path.read_text(encoding="utf-8").splitlines()) <= (
                320 if path.suffix == ".py" else 160
            ), path


def test_no_symlinks_and_nothing_large():
    for path in tracked():
        assert not path.is_symlink(), path
        assert path.stat().st_size < 1_000_000, path


def test_python_passes_ruff():
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_verbs_have_help():
    from pydino.cli import verbs

    for verb, line in verbs().items():
        assert line.endswith(".") or line.endswith(":"), (verb, line)
