"""benchmarks/gpu.sh: a rehearsal on the CPU, and what it does with sections that fail or take too long."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
# Stands in for Python: the head of the report, a check that fails, one that never ends, others that pass.
PYTHON = """#!/bin/bash
case "$*" in
  *report.py*) echo "# a device"; echo; echo "called: $3" ;;
  *gpu_checks.py*resume) echo "in $PWD the weights differ"; exit 3 ;;
  *gpu_checks.py*precision) echo "going on"; sleep 60 & wait ;;
  *) echo "all is well" ;;
esac
"""


@pytest.fixture
def stub(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").write_text(PYTHON)
    (tmp_path / "bin/python3").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYDINO_NO_VENV": "true"}


def command(tmp_path, *options):
    return ["bash", str(ROOT / "benchmarks/gpu.sh"), "--output-dir", str(tmp_path / "results"), *options]


def gpu(tmp_path, *options, **arguments):
    return subprocess.run(command(tmp_path, *options), capture_output=True, text=True, **arguments)


def test_a_rehearsal_on_the_cpu(tmp_path):
    """A training is killed and resumed with the weights of the uninterrupted one, and the file says so."""
    options = ("--device", "cpu", "--sections", "resume", "--steps", "4")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = gpu(tmp_path, *options, env={**environment, "PYDINO_NO_VENV": "true"})
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "results").iterdir()
    assert done.stdout.strip() == str(path)
    assert re.fullmatch(r"gpu-\d{4}-\d\d-\d\d-cpu\.md", path.name)
    text = path.read_text()
    for name in ("date", "processor", "python", "torch", "commit"):
        assert re.search(rf"^\| {name} \| \S.* \|$", text, re.MULTILINE), name
    assert re.search(r"^\| command \| `benchmarks/gpu.sh .*--sections resume --steps 4` \|$", text, re.MULTILINE)
    assert f"| torch | {torch.__version__} |" in text
    assert "CPU: egs/voxceleb/conf/dino.yaml is skipped" in text
    assert re.search(r"dino-koleo.yaml +4 +[23] +identical +identical +as it should be", text)
    assert re.search(r"^\| resume \| went well \| \d+ \|$", text, re.MULTILINE)
    assert str(ROOT) not in text


def test_a_section_that_fails_or_takes_too_long_is_reported_and_the_others_run(tmp_path, stub):
    source = (ROOT / "benchmarks/gpu.sh").read_text()
    assert 'check "$section" 200' in source
    quick = tmp_path / "root/benchmarks/gpu.sh"
    quick.parent.mkdir(parents=True)
    quick.write_text(source.replace('check "$section" 200', 'check "$section" 5'))
    (tmp_path / "root/path.sh").write_text(f"PATH=$PATH:{ROOT}/utils\n")
    for config in ("voxceleb/conf/dino-big.yaml", "mini/conf/dino-koleo.yaml", "mini/conf/dino-smoke.yaml"):
        path = tmp_path / "root/egs" / config
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    done = subprocess.run(
        ["bash", quick, "--output-dir", tmp_path / "out"], env=stub, capture_output=True, text=True
    )
    assert done.returncode == 1
    (path,) = (tmp_path / "out").iterdir()
    assert path.name.endswith("-a-device.md")
    text = path.read_text()
    outcomes = dict(re.findall(r"^\| (.+?) \| (.+?) \| \d+ \|$", text, re.MULTILINE))
    assert outcomes == {
        "tests": "went well",
        "resume": "**failed**, exit status 3",
        "precision": "**stopped** after 5 s",
        "processes": "went well",
        "supervised": "went well",
        "step: egs/voxceleb/conf/dino-big.yaml": "went well",
        "step: egs/mini/conf/dino-koleo.yaml": "went well",
        "beside the naive step: egs/mini/conf/dino-koleo.yaml": "went well",
    }
    assert "in . the weights differ" in text and "going on" in text
    assert str(tmp_path) not in text.replace(str(tmp_path / "out"), "")


def test_what_does_not_fit_into_the_time_is_not_run(tmp_path, stub):
    done = gpu(tmp_path, "--minutes", "0", "--sections", "tests processes", env=stub)
    assert done.returncode == 1
    (path,) = (tmp_path / "results").iterdir()
    assert path.read_text().count("**not run**: the 0 minutes are over") == 4


def test_an_interrupt_ends_the_section_too(tmp_path, stub):
    options = ("--sections", "precision")
    with subprocess.Popen(
        command(tmp_path, *options), env=stub, stderr=subprocess.PIPE, text=True
    ) as process:
        while "precision (at most" not in process.stderr.readline():
            pass
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 130


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "gpu"], "--device must be cuda or cpu, got 'gpu'"),
        (["--sections", "test"], "unknown section 'test'; known: tests resume"),
        (["--minutes", "half"], "--minutes must be a whole number, got 'half'"),
        (["now"], "unexpected argument 'now'"),
    ],
)
def test_mistakes_get_a_message(tmp_path, stub, options, message):
    done = gpu(tmp_path, *options, env=stub)
    assert done.returncode == 1 and message in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_how_to_rehearse(tmp_path):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = gpu(tmp_path, env={**environment, "PYDINO_NO_VENV": "true"})
    assert done.returncode == 1
    assert "PyTorch finds no GPU" in done.stderr and "--device cpu rehearses" in done.stderr
    assert not list((tmp_path / "results").iterdir())
