"""GPUs of this machine, each used by one job at a time, under a file lock, so that separate runs share them
without a daemon.
"""

import fcntl
import os
import tempfile
from contextlib import suppress

from pydino.base import UserError, try_lock, user_name

from ..machine import visible_gpus


class GpuSlots:
    """The locks of the GPUs, ``per_job`` at a time. Raises UserError where the machine has fewer."""

    def __init__(self, per_job: int, lock_folder: str | None = None):
        self.per_job = per_job
        self.gpus = visible_gpus() if per_job else []
        if per_job > len(self.gpus):
            here = f"{len(self.gpus)} of them" if self.gpus else "none"
            if (wanted := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
                here += f" (CUDA_VISIBLE_DEVICES is '{wanted}')"
            raise UserError(
                f"--gpu {per_job} was asked for, but this machine has {here}; look at nvidia-smi, or ask for "
                "fewer: --gpu N, for run.sh --ngpu N (0: none)"
            )
        self.folder = lock_folder or os.path.join(tempfile.gettempdir(), "pydino-gpu-locks")

    @property
    def max_jobs(self) -> int:
        """How many jobs the GPUs here can hold at once."""
        return len(self.gpus) // self.per_job

    def take(self) -> dict[str, int] | None:
        """Return free GPUs with the descriptors of their locks, or None while too few are free. The job is to
        inherit the descriptors: if this process is killed, a GPU stays taken as long as its job lives.
        """
        taken = {}
        for gpu in self.gpus:
            if len(taken) == self.per_job:
                break
            descriptor = self._open_lock(gpu)
            if not try_lock(descriptor):
                os.close(descriptor)
                continue
            taken[gpu] = descriptor
            with suppress(OSError):  # a full disk: those who wait do not see who has it
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"pid {os.getpid()} of {user_name(os.getuid())}\n".encode(), 0)
        if len(taken) < self.per_job:
            self.give_back(taken)
            return None
        return taken

    @staticmethod
    def environment(taken: dict[str, int]) -> dict[str, str]:
        """Return the variables that restrict a job to its GPUs."""
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(taken)}

    def give_back(self, taken: dict[str, int]) -> None:
        """Unlock the GPUs, also where a process that the job left behind still holds the descriptors."""
        for descriptor in taken.values():
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def held(self) -> str:
        """Return which GPUs others use, and who: ``0 and 1 are in use (pid 12 of anna, pid 34 of bert)``."""
        held = {}
        for gpu in self.gpus:
            descriptor = self._open_lock(gpu)
            if not try_lock(descriptor, shared=True):
                who = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
                held[gpu] = who or "of another program"
            os.close(descriptor)
        if not held:
            return "none is in use any more"
        verb = "are" if len(held) > 1 else "is"
        return f"{' and '.join(held)} {verb} in use ({', '.join(dict.fromkeys(held.values()))})"

    def _open_lock(self, gpu: str) -> int:
        path = os.path.join(self.folder, f"{gpu.replace('/', '_')}.lock")
        # Folder and files are for all users of the machine, and created with these permissions, so that a
        # process killed in between leaves none that others cannot open.
        umask = os.umask(0)
        try:
            with suppress(FileExistsError):
                os.mkdir(self.folder, 0o1777)
            # Another user's file in such a folder must not be opened with O_CREAT (fs.protected_regular, on
            # by default with systemd).
            flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                return os.open(path, flags)
            except FileNotFoundError:
                return os.open(path, flags | os.O_CREAT, 0o666)
        except OSError as error:
            advice = self._advice(path) if isinstance(error, PermissionError) else ""
            raise UserError(f"cannot lock GPU {gpu}: {path}: {error.strerror}{advice}") from error
        finally:
            os.umask(umask)

    def _advice(self, path: str) -> str:
        closed, mode = (path, "666") if os.path.exists(path) else (self.folder, "1777")
        return (
            f"; its owner, {user_name(os.stat(closed).st_uid)}, or root can open it to all: chmod "
            f"{mode} {closed} (do not set another TMPDIR: GPUs with separate locks are used twice)"
        )
