"""Two processes that make the same output: the second waits, and finds it up to date."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_corpora import wavdir

from pydino.base import Lock, Step, is_held, lock_path
from pydino.kaldi import ArchiveWriter

ROOT = Path(__file__).parent.parent
MAKE = """
import sys, time
from pydino.base import Step
step = Step("out/.done", "out", outputs=["out/made"])
if not step.is_done():
    with step:
        open("out/made", "a").write("x")
        print("at work", flush=True)
        time.sleep(float(sys.argv[1]))
"""


def start(*command, cwd, **environment):
    return subprocess.Popen(
        list(map(str, command)),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def make(tmp_path, seconds):
    return start(sys.executable, "-c", MAKE, seconds, cwd=tmp_path)


def test_the_second_process_waits_and_finds_the_step_done(tmp_path):
    (tmp_path / "out").mkdir()
    first = make(tmp_path, 1.5)
    assert first.stdout.readline() == "at work\n"
    second = make(tmp_path, 0)
    said = second.communicate(timeout=60)[1].splitlines()
    assert first.wait() == second.returncode == 0
    who = rf"out is being made by process {first.pid} on \S+ \(\S+, since [0-9: -]+\); waiting for it"
    assert re.search(who, said[0]) and said[1].endswith("out is up to date") and len(said) == 2
    assert (tmp_path / "out/made").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # no lock file is left


def test_a_process_that_was_killed_keeps_nobody_waiting(tmp_path):
    (tmp_path / "out").mkdir()
    first = make(tmp_path, 60)
    first.stdout.readline()
    second = make(tmp_path, 0)
    assert "waiting for it" in second.stderr.readline()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.communicate(timeout=60)[1] == "" and second.returncode == 0
    assert (tmp_path / "out/made").read_text() == "xx" and not list(tmp_path.glob(".out*"))


def test_a_job_takes_no_lock_of_the_step_that_it_makes_for_another_process(tmp_path, monkeypatch):
    held = Lock(lock_path(tmp_path / "out"))
    assert held.acquire() == ""
    assert make(tmp_path, 0).stderr.readline() != ""  # waits
    job = start(sys.executable, "-c", MAKE, 0, cwd=tmp_path, PYDINO_LOCKED="out/.done")
    (tmp_path / "out").mkdir()
    assert job.wait(timeout=60) == 0
    assert is_held(held.path)
    held.release()


def test_what_this_process_has_locked_already_is_not_waited_for(tmp_path):
    outer, inner = (Step(tmp_path / "out/.done", "out") for _ in range(2))
    outer.lock()
    with inner:
        pass
    assert is_held(lock_path(tmp_path / "out"))
    del outer
    assert not lock_path(tmp_path / "out").exists()


def test_a_forked_child_releases_nothing(tmp_path):
    held = Lock(tmp_path / "x.lock").wait("x")
    if (child := os.fork()) == 0:
        held.release()
        os._exit(0)
    os.waitpid(child, 0)
    assert is_held(tmp_path / "x.lock")
    held.release()


def test_a_file_system_without_locks_reports_what_another_process_left(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with Lock(tmp_path / "x.lock").wait("x"):
        assert capsys.readouterr().err == ""
    (tmp_path / "x.lock").write_text("process 12 on nodeA (anna, since 2026-01-01 12:00:00)\n")
    with Lock(tmp_path / "x.lock").wait("x"):
        said = capsys.readouterr().err
    assert "no locks on this file system; if process 12 on nodeA (anna, since" in said


def test_where_no_file_can_be_made_there_is_no_lock(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with Lock(tmp_path / "file/x.lock").wait("x") as lock:
        assert lock.descriptor is None

    def refuse(path, flags, *mode):  # a file of another user, in a folder that both may write to
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return open_file(path, flags, *mode)

    open_file = os.open
    (tmp_path / "y.lock").touch()
    monkeypatch.setattr(os, "open", refuse)
    with Lock(tmp_path / "y.lock").wait("y") as lock:
        assert lock.descriptor is not None and is_held(tmp_path / "y.lock")


def embeddings(folder):
    folder.mkdir(parents=True)
    with ArchiveWriter(str(folder / "xvector.ark"), str(folder / "xvector.scp")) as archive:
        archive.write("u1", np.ones(2, dtype=np.float32))
    (folder / "meta.yaml").write_text("{model_dir: exp/m, seed: 0}\n")


@pytest.mark.parametrize(
    ("locked", "command"),
    [
        ("data", "local/prepare_wavdir.py corpus data"),
        ("corpus", "local/download.py emodb corpus"),
        ("copy", "pydino copy-data-dir data/train copy"),
        ("data/train", "pydino fix-data-dir data/train"),
        ("data/train.features", "pydino make-fbank --nj 1 --max-drop 0.9 data/train"),
        ("joined", "pydino join-embeddings x/a x/b joined"),
        ("joined", "pydino join-embeddings --cmd run_local.sh x/a x/b joined"),
    ],
)
def test_each_kind_of_step_waits(tmp_path, locked, command):
    """A preparation, a download, tools of data directories, jobs with parts, a verb here and as a job."""
    corpus = next(iter(wavdir(tmp_path / "made").values()))
    (tmp_path / "corpus").symlink_to(corpus)
    (tmp_path / "corpus/wav").mkdir(exist_ok=True)
    prepare = [sys.executable, ROOT / "local/prepare_wavdir.py", corpus, "data"]
    assert start(*prepare, cwd=tmp_path).wait(timeout=60) == 0
    for name in ("a", "b"):
        embeddings(tmp_path / "x" / name)
    folder, _, kind = locked.partition(".")
    held = Lock(lock_path(tmp_path / folder, f".{kind}" if kind else "")).wait("it")
    program, *words = command.split()
    words = [*([sys.executable, ROOT / program] if "/" in program else [program]), *words]
    path = f"{ROOT / 'utils'}:{os.environ['PATH']}"
    waiting = start(*words, cwd=tmp_path, PATH=path)
    said = waiting.stderr.readline()
    while said and "waiting for it" not in said:
        said = waiting.stderr.readline()
    assert f"is being made by process {os.getpid()} on" in said
    time.sleep(0.2)
    assert waiting.poll() is None
    held.release()
    rest = waiting.communicate(timeout=120)[1]
    assert waiting.returncode == 0, rest
    assert not [path for path in tmp_path.rglob(".*lock") if "made" not in path.parts]
