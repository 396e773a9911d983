"""Shared fixtures, and how processes share the tests (pytest-xdist)."""

import os
import signal

import pytest
from once import once
from smoke import run

# What takes longest begins first; most tests of Slurm wait, some for the recipe of test_end_to_end.py.
FIRST = (
    "slurm/test_slurm_jobs.py",
    "test_end_to_end.py",
    "test_recipes.py",
    "slurm/",
    "test_study.py",
    "test_train_",
)
# Files whose tests share no fixture of their own, or one that is made once for all processes.
SPREAD = ("test_recipes.py", "test_run.py", "test_study.py", "test_steps_transfer.py", "test_train_nodes.py")


def pytest_configure():
    """Let child processes receive signals that this process was started to ignore: SIGINT in the background
    of a shell, SIGHUP under nohup.

    An ignored signal is inherited by child processes, a handler is not.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items):
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: rank_of(item.nodeid))


def rank_of(test: str) -> int:
    name = test.removeprefix("tests/")
    return next((place for place, first in enumerate(FIRST) if name.startswith(first)), len(FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give a process whole files, or all tests of one recipe.

    (A scheduler of our own, because --dist loadgroup of pytest-xdist 3.8 finds no groups with pytest 9.2.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file, _, test = nodeid.removeprefix("tests/").partition("::")
            if file == "test_recipes.py" and "[" in test:
                return f"{file}[{test.partition('[')[2]}"  # no process waits for what another runs
            return nodeid if file in SPREAD else file

    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A work folder, with a blank and an accent in its path, in which every stage of the smoke recipe has
    been run; for reading alone.
    """

    def make(work):
        done = run(work)
        assert done.returncode == 0, done.stderr[-6000:]

    return once(tmp_path_factory, "smoke é", make)
