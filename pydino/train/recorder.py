"""The log of a run: a JSON line an interval in EXP/log.jsonl, and the same numbers as TensorBoard
curves in EXP/tensorboard.
"""

import errno
import json
import math
import os
from pathlib import Path

from pydino.base import log, warn, write_text

LOG, CURVES = "log.jsonl", "tensorboard"
# Which page of TensorBoard a number is on; the others are on the first.
PAGES = {
    "entropy": ("teacher_entropy", "student_entropy", "mean_teacher_entropy", "kl"),
    "embedding": ("embedding_spread", "effective_rank", "centre_norm"),
    "labels": ("classes", "relabelled", "off_cluster", "trusted", "clusters", "with_partner", "self_eer"),
    "schedule": ("lr", "momentum", "margin"),
    "speed": ("utterances_per_second", "hours_per_second", "data_wait", "memory_gb"),
}
COORDINATES = ("epoch", "step", "embeddings")


class Recorder:
    """Writes what an interval measured; training goes on if it cannot.

    Args:
        exp: folder of the run.
        resume_step: number of steps done. What an earlier attempt wrote of later ones is removed.
        curves: write TensorBoard's too.
    """

    def __init__(self, exp, resume_step: int, curves: bool = True):
        self._path = Path(exp) / LOG
        self._failed = False
        self._try(self._remove_later, resume_step)
        self._curves = open_curves(Path(exp) / CURVES, resume_step + 1) if curves else None

    def write(self, line: dict[str, float]) -> None:
        """Append one line.

        Args:
            line: ``epoch``, ``step`` (steps done) and any numbers: loss and its parts, entropies and ``kl``
                in nats, ``centre_norm``, ``embedding_spread``, ``effective_rank``, ``gradient_norm``, ``lr``,
                ``momentum``, ``utterances_per_second``, ``hours_per_second`` (hours of audio a second),
                ``data_wait`` (share of the time, 0 to 1), ``memory_gb``.
        """
        self._try(self._append, line)
        if self._curves is not None:
            self._try(write_curves, self._curves, PAGES, line)

    def close(self) -> None:
        """Flush the curves of TensorBoard."""
        if self._curves is not None:
            self._try(self._curves.close)

    def _remove_later(self, resume_step: int) -> None:
        if not self._path.exists():
            return
        text = self._path.read_text(encoding="utf-8", errors="replace")
        kept = "".join(f"{line}\n" for line in text.splitlines() if 0 < logged_step(line) <= resume_step)
        if kept != text:
            write_text(self._path, kept)

    def _append(self, line: dict[str, float]) -> None:
        text = json.dumps({name: value if is_finite(value) else None for name, value in line.items()}) + "\n"
        # One unbuffered write of the whole line, so that concurrent readers find no part of one.
        with open(self._path, "ab", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            if stream.write(text.encode()) < len(text.encode()):  # the disk took a part
                stream.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _try(self, action, *arguments) -> None:
        """A failing log does not end the run: warn once."""
        try:
            action(*arguments)
        except Exception as error:  # TensorBoard's writer raises its own errors, from its own thread
            if not self._failed:
                warn(
                    f"cannot write the log of the run ({error}); training goes on, and what cannot be "
                    "written is missing there"
                )
            self._failed = True


def open_curves(folder: Path, purge_step: int | None = None):
    """Return a writer of TensorBoard's curves; None, with a line that says so, where TensorBoard is not
    installed.

    Args:
        folder: for its files.
        purge_step: hide what an earlier attempt wrote of this step and later ones.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log(
            "no TensorBoard curves: the package is not installed (pip install tensorboard); "
            f"{folder.parent} has the same numbers as JSON"
        )
        return None
    try:
        return SummaryWriter(str(folder), purge_step=purge_step)
    except OSError as error:
        warn(f"no TensorBoard curves: cannot write {folder} ({error.strerror or error})")
        return None


def write_curves(writer, pages: dict, line: dict) -> None:
    """Add the numbers of a line to TensorBoard's curves, by ``line["step"]``, each on its page or on that of
    the loss.
    """
    for name, value in line.items():
        if name not in COORDINATES and isinstance(value, (int, float)) and is_finite(value):
            page = next((page for page, names in pages.items() if name in names), "loss")
            writer.add_scalar(f"{page}/{name}", value, line["step"])
    writer.flush()


def is_finite(value) -> bool:
    """Whether it is no float, or a finite one: JSON cannot represent the others."""
    return not isinstance(value, float) or math.isfinite(value)


def logged_step(line: str) -> int:
    """Return the step that a line of the log was written after; 0 if a kill or a full disk truncated the
    line.
    """
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return 0
    return step if isinstance(step, int) else 0
