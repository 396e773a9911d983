"""Shared fixtures."""

import signal

import pytest
from smoke import run


def pytest_configure():
    """Let child processes receive signals that this process was started to ignore: SIGINT in the background
    of a shell, SIGHUP under nohup.

    An ignored signal is inherited by child processes, a handler is not.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A work folder, with a blank and an accent in its path, in which every stage of the smoke recipe has
    been run.
    """
    work = tmp_path_factory.mktemp("smoke é")
    done = run(work)
    assert done.returncode == 0, done.stderr[-6000:]
    return work
