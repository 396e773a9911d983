"""Shared fixtures, and which tests stay together where several processes share the tests (pytest-xdist)."""

import os
import signal

import pytest
from once import once
from smoke import run

FIRST = ("slurm", "test_end_to_end", "test_recipes", "test_study")  # what takes longest begins first
MADE_ONCE = ("finish", "finished")  # by tests/once.py, for all processes


def pytest_configure():
    """Let child processes receive signals that this process was started to ignore: SIGINT in the background
    of a shell, SIGHUP under nohup.

    An ignored signal is inherited by child processes, a handler is not.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Give tests that share something costly to one process, and begin with the longest."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    for item in items:
        if group := group_of(item):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=rank_of)


def group_of(item) -> str | None:
    """The cluster, the smoke recipe, or a file with fixtures of its own that outlive a test."""
    if item.get_closest_marker("slurm"):
        return "slurm"
    here = item.nodeid.split("::")[0]
    lasting = {
        name: one.baseid
        for name, found in item._fixtureinfo.name2fixturedefs.items()
        for one in found[-1:]
        if one.scope != "function" and name not in MADE_ONCE
    }
    return here if here in lasting.values() else item.path.name if item.path.stem == "test_end_to_end" else None


def rank_of(item) -> int:
    """The place among the longest, which begin first."""
    names = [item.get_closest_marker("slurm") and "slurm", item.path.stem]
    return next((FIRST.index(name) for name in names if name in FIRST), len(FIRST))


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A work folder, with a blank and an accent in its path, in which every stage of the smoke recipe has
    been run; for reading alone.
    """

    def make(work):
        done = run(work)
        assert done.returncode == 0, done.stderr[-6000:]

    return once(tmp_path_factory, "smoke é", make)
