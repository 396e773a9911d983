"""What is made once for all processes that share the tests."""

import fcntl
import os
from pathlib import Path


def once(tmp_path_factory, name: str, make) -> Path:
    """Return a folder that ``make(folder)`` has filled: in the first process that asks for it, while others
    wait. Where it failed, the next one tries again, in a folder of its own.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(shared / f"{name}.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if made := lock.read():
            return Path(made)
        folder = tmp_path_factory.mktemp(name)
        make(folder)
        lock.write(str(folder))
    return folder
