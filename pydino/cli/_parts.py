"""The parts of a data directory that parallel jobs work on, and the report that each leaves.

A step runs N jobs; job I of N takes the I-th run of utterances in sorted order, writes its archives, and
leaves a small report of what came in, went out and was dropped. The step then puts the parts together and
counts.
"""

from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

from pydino.base import UserError, log, read_json, warn, write_json, write_text


def take(items: list, which: tuple[int, int]) -> list:
    """Return run I of N of a list: contiguous, so that the parts one after another are in order."""
    index, count = which
    return items[len(items) * (index - 1) // count : len(items) * index // count]


def file_stem(kind: str, data) -> str:
    """Return the name of a set's archives, Kaldi's: raw_fbank_train, vad_train."""
    name = Path(data).resolve().name
    return f"vad_{name}" if kind == "vad" else f"raw_{kind}_{name}"


def report_path(log_dir, kind: str, data, index: int) -> Path:
    """Return where part ``index`` leaves its report."""
    return Path(log_dir) / f"{file_stem(kind, data)}.{index}.json"


@contextmanager
def saying_what_is_done(where, marks: dict[str, Path], seconds: float = 1.0):
    """Log a line for each of these files that is written meanwhile, in the order in which that is seen.

    Args:
        where: what the lines begin with.
        marks: what is done, in words -> the file that a job writes at its end.
        seconds: between two looks.
    """

    def written() -> dict[str, int]:
        times = {}
        for name, path in marks.items():
            with suppress(OSError):
                times[name] = path.stat().st_mtime_ns
        return times

    before, seen, over = written(), [], Event()

    def look() -> None:
        for name, time in written().items():
            if name not in seen and before.get(name) != time:
                seen.append(name)
                log(f"{where}: {name} is done, {len(seen)} of {len(marks)}")

    def keep_looking() -> None:
        while not over.wait(seconds):
            look()

    thread = Thread(target=keep_looking, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()


def check_left(paths, cmd: str) -> None:
    """Raise UserError for the first file that a job should have left and did not."""
    for number, path in enumerate(paths, 1):
        if not Path(path).is_file():
            raise UserError(
                f"job {number} of {len(paths)} left no output ({path}), though its wrapper, --cmd '{cmd}', "
                "reported success: check that this wrapper runs the command that follows the log file, then "
                "run the step again"
            )


def check_drops(dropped: dict[str, str], total: int, data, path, max_drop: float) -> None:
    """Write the dropped utterances and the reasons to ``path``, or remove it if there are none; warn.

    Raises:
        UserError: they are all, or more than ``max_drop`` of ``total``.
    """
    if not dropped:
        Path(path).unlink(missing_ok=True)
        return
    write_text(path, "".join(f"{key} {reason}\n" for key, reason in dropped.items()))
    first = "".join(f"\n  {key} {reason}" for key, reason in list(dropped.items())[:3])
    if len(dropped) == total:
        raise UserError(
            f"none of the {total} utterances of {data} could be used; {path} has the reasons, beginning "
            f"with{first}"
        )
    count = f"{len(dropped)} of {total} utterances"
    remedy = f"utils/fix_data_dir.sh {data} removes them everywhere"
    if len(dropped) > max_drop * total:
        enough = min(1.0, int(1000 * len(dropped) / total + 1) / 1000)
        raise UserError(
            f"{count} of {data} dropped, more than --max-drop {max_drop:g} allows; {path} names all, "
            f"beginning with{first}\nRepair them, remove them ({remedy}), or rerun with --max-drop {enough}"
        )
    warn(f"{count} dropped, named in {path}; {remedy}")


@dataclass
class Report:
    """What one part did; frames, seconds and hashes of samples by utterance, reasons by dropped utterance."""

    utterances: int = 0
    frames: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    audio_hashes: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    resampled: dict[str, int] = field(default_factory=dict)  # utterances by original rate
    voiced: int = 0  # frames
    unvoiced: list[str] = field(default_factory=list)  # utterances with no voiced frame
    config: dict = field(default_factory=dict)  # every option as it was used
    frame_shift: float = 0.0  # seconds

    def write(self, path) -> None:
        """Write as JSON."""
        write_json(path, vars(self))

    @classmethod
    def read(cls, path) -> "Report":
        """Read what :meth:`write` wrote."""
        return cls(**read_json(path))
