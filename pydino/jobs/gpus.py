"""GPUs of this machine, lent to one job at a time. A file lock stands for each, so that separate runs share
them without a daemon.
"""

import fcntl
import glob
import os
import pwd
import re
import subprocess
import tempfile

from pydino.base import UserError


def visible_gpus() -> list[str]:
    """Return the GPUs that jobs may use: what the machine has, narrowed by ``CUDA_VISIBLE_DEVICES``.

    A GPU goes by its number in ``nvidia-smi`` (``CUDA_DEVICE_ORDER=PCI_BUS_ID``), a MIG slice by its UUID.
    """
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60).stdout
        number = {
            m[2]: m[1] for m in re.finditer(r"^GPU (\d+): .*?\(UUID: ([^)]+)\)", listing, flags=re.MULTILINE)
        }
    except (OSError, subprocess.TimeoutExpired):
        number = {
            m[0]: m[1] for path in glob.glob("/dev/nvidia*") if (m := re.fullmatch(r"/dev/nvidia(\d+)", path))
        }
    number |= {n: n for n in number.values()}
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return sorted(set(number.values()), key=int)
    chosen = []
    for name in filter(None, (w.strip() for w in wanted.split(","))):
        longer = [uuid for uuid in number if name.startswith("GPU-") and uuid.startswith(name)]
        name = longer[0] if len(longer) == 1 else name  # as CUDA does, a UUID may be cut short
        if name not in number and not (number and name.startswith("MIG-")):
            break  # CUDA itself stops at the first name it does not know
        chosen.append(number.get(name, name))
    return list(dict.fromkeys(chosen))


class GpuSlots:
    """Lend ``per_job`` GPUs at a time.

    Raises:
        UserError: the machine has fewer than one job asks for.
    """

    def __init__(self, per_job: int, lock_folder: str | None = None):
        self.per_job = per_job
        self.gpus = visible_gpus() if per_job else []
        if per_job > len(self.gpus):
            here = f"{len(self.gpus)} of them" if self.gpus else "none"
            wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
            raise UserError(
                f"--gpu {per_job} was asked for, but this machine has {here}"
                + (f" (CUDA_VISIBLE_DEVICES is '{wanted}')" if wanted is not None else "")
                + "; look at nvidia-smi, or ask for fewer: --gpu N, for run.sh --ngpu N (0: none)"
            )
        self.folder = lock_folder or os.path.join(tempfile.gettempdir(), "pydino-gpu-locks")

    @property
    def max_jobs(self) -> int:
        """How many jobs the GPUs here can hold at once."""
        return len(self.gpus) // self.per_job

    def take(self) -> dict[str, int] | None:
        """Return free GPUs with the descriptors of their locks, or None while too few are free.

        The descriptors are to be handed to the job: should this process be killed, a GPU stays taken as long
            as its job lives.
        """
        taken = {}
        for gpu in self.gpus:
            if len(taken) == self.per_job:
                break
            descriptor = self._open_lock(gpu)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            taken[gpu] = descriptor
            try:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"pid {os.getpid()} of {_name_of(os.getuid())}\n".encode(), 0)
            except OSError:
                pass  # a full disk: those who wait are not told who has it
        if len(taken) < self.per_job:
            self.give_back(taken)
            return None
        return taken

    @staticmethod
    def environment(taken: dict[str, int]) -> dict[str, str]:
        """Return the variables that show a job its GPUs and no other."""
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(taken)}

    def give_back(self, taken: dict[str, int]) -> None:
        """Let others have the GPUs, also where a process that the job left behind still holds the
        descriptors.
        """
        for descriptor in taken.values():
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def lent(self) -> str:
        """Return which GPUs others have and who, in words: ``0 and 1 are lent (pid 12 of anna, pid 34 of
        bert)``.
        """
        lent = {}
        for gpu in self.gpus:
            descriptor = self._open_lock(gpu)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                lent[gpu] = (
                    os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "of another program"
                )
            finally:
                os.close(descriptor)
        *others, last = lent or ["none any more"]
        holders = f" ({', '.join(dict.fromkeys(lent.values()))})" if lent else ""
        return (
            f"{', '.join(others)}{' and ' if others else ''}{last} {'are' if others else 'is'} lent{holders}"
        )

    def _open_lock(self, gpu: str) -> int:
        path = os.path.join(self.folder, f"{gpu.replace('/', '_')}.lock")
        # Folder and files are for all users of the machine. They come with these rights, so that one who is
        # killed in between leaves none that others cannot open.
        umask = os.umask(0)
        try:
            try:
                os.mkdir(self.folder, 0o1777)
            except FileExistsError:
                _open_to_all(self.folder, 0o1777)
            # Another user's file in such a folder must not be opened with O_CREAT (fs.protected_regular, on
            # as systemd sets it up).
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                _open_to_all(descriptor, 0o666)
                return descriptor
            except FileNotFoundError:
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UserError(
                f"cannot lock GPU {gpu}: {path}: {error.strerror}{self._advice(error, path)}"
            ) from error
        finally:
            os.umask(umask)

    def _advice(self, error: OSError, path: str) -> str:
        if not isinstance(error, PermissionError):
            return ""
        closed, mode = (path, "666") if os.path.exists(path) else (self.folder, "1777")
        return (
            f"; its owner, {_name_of(os.stat(closed).st_uid)}, or root can open it to all: chmod {mode} "
            f"{closed} (do not set another "
            "TMPDIR: locks of your own would have you use GPUs that others were lent)"
        )


def _open_to_all(place: str | int, mode: int) -> None:
    """Give a folder or file of our own the rights that it should have: an older version, or a strict ACL,
    left others.
    """
    found = os.stat(place)
    if found.st_uid == os.getuid() and found.st_mode & mode != mode:
        os.chmod(place, mode)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
