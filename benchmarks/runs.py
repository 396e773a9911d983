"""Common to benchmarks that train: shipped configurations, generated data, and the command that users run."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from made_data import make_augmentation_data, make_training_dir
from report import ROOT

from pydino.base import config_to_dict, dump_config
from pydino.train import load_training_config

UTTERANCES = 512
SPEAKERS = 64


@dataclass
class Prepared:
    """A configuration and its training data.

    Attributes:
        path: of the YAML file it came from.
        config: resolved, with generated recordings for every list of augmentation data.
        data: pre-training directory.
        labels: of its utterances, for a supervised configuration.
    """

    path: Path
    config: object
    data: Path
    labels: Path | None


def shipped(pattern: str) -> list[Path]:
    """Return the configurations egs/*/conf/PATTERN except those for smoke tests, those of voxceleb first."""
    found = [path for path in ROOT.glob(f"egs/*/conf/{pattern}") if "smoke" not in path.name]
    return sorted(found, key=lambda path: (path.parts[-3] != "voxceleb", path))


def prepare(path, folder: Path, overrides=(), data=None) -> Prepared:
    """Load a configuration and make its data in ``folder``, unless ``data`` names a pre-training directory.

    Data of an earlier call for a configuration of the same kind are reused.
    """
    path, labels = Path(path), None
    method, config = load_training_config(path, overrides)
    if data is None:
        utterances = max(UTTERANCES, config.batch_size)
        seconds = 4.4 if config.longest_seconds < 4 else 8.0  # as in egs/mini, and as in VoxCeleb
        place = folder / f"{config.input}-{seconds:g}-{utterances}"
        if not (place / "complete").exists():
            make_training_dir(place, utterances, seconds, "wav" if config.input == "audio" else "")
            (place / "complete").touch()
        data = place / "train"
        if method.reads_labels:
            labels = place / "utt2label"
            keys = (place / "source/utt2spk").read_text().split()[::2]
            labels.write_text("".join(f"{key} s{i % SPEAKERS:02d}\n" for i, key in enumerate(keys)))
        lists = Path(tempfile.mkdtemp(prefix="augmentation-data-", dir=folder))
        config.augmentation_data = make_augmentation_data(lists, config.augmentation_data)
    return Prepared(path, config, Path(data), labels)


def set_steps(run: Prepared, steps: int, log_steps: int, checkpoint_steps: int = 10**9) -> None:
    """Set the length of a run, in steps, and the steps between lines of its log and between checkpoints."""
    config, utterances = run.config, len((run.data / "utt2spk").read_text().splitlines())
    config.epochs = steps * config.batch_size / utterances
    config.log_steps, config.checkpoint_steps = log_steps, checkpoint_steps
    config.snapshot_epochs = config.average_snapshots = 0
    config.on_collapse = "warn"


def command(
    run: Prepared, exp: Path, *options: str, processes: int = 1, program=("-m", "pydino")
) -> list[str]:
    """Write the configuration beside ``exp`` and return the command that trains it into ``exp``.

    Args:
        run: what is trained.
        exp: folder of the run.
        options: of the training verb.
        processes: above 1: that many, started by torchrun.
        program: arguments of Python that take the place of ``-m pydino``.
    """
    config = exp.parent / f"{exp.name}.yaml"
    dump_config(config_to_dict(run.config), config)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    labels = ["--labels", str(run.labels)] if run.labels else []
    return [
        *(sys.executable, *(launch if processes > 1 else []), *program),
        *("train", "--config", str(config), *options, *labels, str(run.data), str(exp)),
    ]


def environment() -> dict[str, str]:
    """Return the environment for :func:`command`."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def train(arguments: list[str]) -> None:
    """Run a command of :func:`command` to its end.

    Raises:
        RuntimeError: it failed; with its output.
    """
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}\nfailed ({done.returncode}):\n{done.stdout}{done.stderr}")


def log_of(exp: Path) -> list[dict]:
    """Return the complete lines of a run's log."""
    path = exp / "log.jsonl"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
