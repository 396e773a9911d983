"""The record of an attempt at some jobs: one run at a time, and what --force makes of an earlier one."""

import os
import shutil
import time

import pytest

from pydino.base import UserError
from pydino.jobs import parse_request, run_slurm
from pydino.jobs.wrapper.attempt import Attempt


@pytest.fixture
def request_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PYDINO_FORCE", "PYDINO_MADE_FROM"):
        monkeypatch.delenv(name, raising=False)
    return lambda log="log/a.JOB.log": parse_request(["JOB=1:2", log, "true"])


def test_a_second_run_of_the_same_jobs_waits_while_the_first_lives(request_of, tmp_path, capsys):
    if (first := os.fork()) == 0:
        with Attempt(request_of()):
            (tmp_path / "begun").touch()
            time.sleep(1.5)
            (tmp_path / "ended").touch()
        os._exit(0)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    with Attempt(request_of("log/b.JOB.log")):
        assert not (tmp_path / "ended").exists()
    with Attempt(request_of()):
        assert (tmp_path / "ended").exists()
    assert f"log/a.JOB.log is being made by process {first} on " in capsys.readouterr().err
    os.waitpid(first, 0)
    assert not [*(tmp_path / "log").iterdir()]  # nothing is left behind


def test_a_job_may_remove_the_folder_of_its_log(request_of, tmp_path):
    with Attempt(request_of()):
        shutil.rmtree(tmp_path / "log")


def test_all_may_write_to_a_device_and_nothing_lies_beside_it(request_of, tmp_path, monkeypatch):
    monkeypatch.setenv("PYDINO_MADE_FROM", "x")
    os.mkfifo(tmp_path / "sink")
    with Attempt(parse_request(["sink", "true"])) as one, Attempt(parse_request(["sink", "true"])):
        one.start()
        assert os.listdir() == ["sink"]
    with pytest.raises(UserError, match="the log sink has to be a file"):
        run_slurm(parse_request(["sink", "true"]))


def test_a_forced_attempt_goes_on_under_its_own_token_and_without_force(request_of, monkeypatch):
    def resumed(token=""):
        monkeypatch.setenv("PYDINO_FORCE", token)
        with Attempt(request_of()) as attempt:
            return attempt.resumed

    with Attempt(request_of()) as attempt:
        attempt.start()
    assert resumed() and not resumed("one")
    monkeypatch.setenv("PYDINO_FORCE", "one")
    with Attempt(request_of()) as attempt:
        attempt.start()
    assert resumed("one") and resumed() and not resumed("two") and not resumed("true")


def test_a_record_that_cannot_be_read_tells_nothing(request_of, tmp_path):
    with Attempt(request_of()) as attempt:
        attempt.start()
        attempt.path.write_text("")
    with Attempt(request_of()) as attempt:
        assert not attempt.resumed and attempt.jobs == []
