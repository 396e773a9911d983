"""What all tests need."""

import signal

import pytest
from smoke import run


def pytest_configure():
    """Let children hear what the tests were started deaf to: in the background of a shell SIGINT is ignored,
    under nohup SIGHUP.

    A handler, unlike that a signal is ignored, does not pass to programs that are started.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A work folder, with a blank and an accent in its path, in which every stage of the smoke recipe has run
    on this machine.
    """
    work = tmp_path_factory.mktemp("smoke é")
    done = run(work)
    assert done.returncode == 0, done.stderr[-6000:]
    return work
