"""GPUs of this machine, lent to one job at a time. A file lock stands for each, so that separate runs share them without a daemon."""

import fcntl
import glob
import os
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
        number = {m[2]: m[1] for m in re.finditer(r"^GPU (\d+): .*?\(UUID: ([^)]+)\)", listing, flags=re.MULTILINE)}
    except (OSError, subprocess.TimeoutExpired):
        number = {m[0]: m[1] for path in glob.glob("/dev/nvidia*") if (m := re.fullmatch(r"/dev/nvidia(\d+)", path))}
    number |= {n: n for n in number.values()}
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return sorted(set(number.values()), key=int)
    chosen = []
    for name in filter(None, (w.strip() for w in wanted.split(","))):
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
                + "; look at nvidia-smi, or run without a GPU"
            )
        self.folder = lock_folder or os.path.join(tempfile.gettempdir(), "pydino-gpu-locks")

    @property
    def max_jobs(self) -> int:
        """How many jobs the GPUs here can hold at once."""
        return len(self.gpus) // self.per_job

    def take(self) -> dict[str, int] | None:
        """Return free GPUs with the descriptors of their locks, or None while too few are free.

        The descriptors are to be handed to the job: should this process be killed, a GPU stays taken as long as its job lives.
        """
        taken = {}
        for gpu in self.gpus:
            if len(taken) == self.per_job:
                break
            descriptor = self._open_lock(gpu)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken[gpu] = descriptor
            except BlockingIOError:
                os.close(descriptor)
        if len(taken) < self.per_job:
            self.give_back(taken)
            return None
        return taken

    @staticmethod
    def environment(taken: dict[str, int]) -> dict[str, str]:
        """Return the variables that show a job its GPUs and no other."""
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(taken)}

    def give_back(self, taken: dict[str, int]) -> None:
        """Let others have the GPUs."""
        for descriptor in taken.values():
            os.close(descriptor)

    def _open_lock(self, gpu: str) -> int:
        try:
            os.makedirs(self.folder, exist_ok=True)
            if os.stat(self.folder).st_uid == os.getuid():
                os.chmod(self.folder, 0o1777)  # shared by all users of the machine, like /tmp
            path = os.path.join(self.folder, f"{gpu.replace('/', '_')}.lock")
            # Another user's file in such a folder must not be opened with O_CREAT (fs.protected_regular, on as systemd sets it up).
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            if os.fstat(descriptor).st_uid == os.getuid():
                os.fchmod(descriptor, 0o666)
        except OSError as error:
            raise UserError(f"cannot lock GPU {gpu} in {self.folder}: {error.strerror}; set TMPDIR to a folder you may write") from error
        return descriptor
