"""Locks between processes, by ``flock`` on a file: the kernel releases them however their process ends."""

import fcntl
import os
import pwd
import socket
import time
import weakref
from contextlib import suppress
from pathlib import Path

from .messages import log, warn

_POLL_SECONDS = 0.5
_held: "weakref.WeakValueDictionary[Path, Lock]" = weakref.WeakValueDictionary()  # by this process


def lock_path(folder, kind: str = "") -> Path:
    """Return the lock file of an output folder: ``data/.train.features.lock`` for ``.features`` of
    ``data/train``. It lies beside the folder, which may be replaced as a whole.
    """
    folder = Path(os.path.realpath(folder))
    return folder.parent / f".{folder.name}{kind}.lock"


class Lock:
    """A lock on ``path``, held from :meth:`acquire` or :meth:`wait` until :meth:`release`, or until the
    object is no longer referred to, or the process ends.

    The file says who holds the lock, and is removed with it; after a kill it stays, and hinders nobody.

    Attributes:
        descriptor: of the locked file, for child processes that are to hold the lock too; None: not held.
    """

    def __init__(self, path):
        self.path = Path(os.path.abspath(path))
        self.descriptor: int | None = None
        self._outer: Lock | None = None

    def acquire(self) -> str:
        """Take the lock if it is free, and return an empty string; else return who has it.

        On a file system without locks it is always free; a file that another process left there is reported.

        Raises:
            OSError: the file cannot be opened.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for observed in (True, False):
            descriptor, free = self._open_current()
            if free is not False:
                break
            if observed:
                os.close(descriptor)
                time.sleep(0.1)  # it may be is_held, which releases it at once
        who = os.pread(descriptor, 500, 0).decode("utf-8", "replace").strip()
        if free is False:
            os.close(descriptor)
            return who or "another process"
        if free is None and who:
            warn(f"{self.path}: no locks on this file system; if {who} still runs, end it or this one")
        with suppress(OSError):  # another user's file, or a full disk
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{_this_process()}\n".encode(), 0)
        self.descriptor = descriptor
        _held[self.path] = self
        self._finalizer = weakref.finalize(self, _release, self.path, descriptor, os.getpid())
        return ""

    def wait(self, makes) -> "Lock":
        """Take the lock as soon as it is free; one line says who is waited for. What this process has locked
        already, by another object, is not waited for. Where the file cannot be opened there is no lock:
        writing the output there is what fails, with a message of its own.

        Args:
            makes: what the holder makes, for that line.
        """
        if self.path in _held:
            self._outer = _held[self.path] if self.descriptor is None else None
            return self
        told = False
        with suppress(OSError):
            while who := self.acquire():
                if not told:
                    log(f"{makes} is being made by {who}; waiting for it")
                told = True
                time.sleep(_POLL_SECONDS)
        return self

    def release(self) -> None:
        """Release the lock, if this object took it."""
        self._outer = None
        if self.descriptor is not None:
            self.descriptor = None
            del _held[self.path]
            self._finalizer()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()

    def _open_current(self) -> tuple[int, bool | None]:
        """Return the descriptor of the file that is at ``path`` now, and whether the lock was taken (None: no
        locks on this file system).
        """
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except PermissionError:  # the file of another user
                descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            free = _flock(descriptor, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if free is False or os.path.samestat(os.stat(self.path), os.fstat(descriptor)):
                    return descriptor, free
            os.close(descriptor)  # its former owner was just removing it


def _release(path: Path, descriptor: int, owner: int) -> None:
    if os.getpid() == owner:  # not a child that was forked meanwhile
        with suppress(OSError):  # another user's, or its folder has been removed
            path.unlink()
    os.close(descriptor)


def is_held(path) -> bool:
    """Return whether a process has locked a file; False where there is none.

    Raises:
        OSError: the file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def try_lock(descriptor: int, shared: bool = False) -> bool:
    """Lock an open file until it is closed everywhere; return False where another process has it locked.

    On a file system without locks every attempt succeeds.
    """
    return _flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX) is not False


def _flock(descriptor: int, kind: int) -> bool | None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _this_process() -> str:
    about = f"{user_name(os.getuid())}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    return f"process {os.getpid()} on {socket.gethostname()} ({about})"


def user_name(uid: int) -> str:
    """Return the name of a user, or the number where there is no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
