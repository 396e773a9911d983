"""Measure the snapshots of a training run, while it goes on or afterwards: verification and nearest
neighbours.

pydino monitor exp/dino_mini/seed0 --data data/test --trials data/test/trials --watch true

Each snapshot's teacher and student (EXP/snapshots/epochNNNN, and the final models) embed every utterance of
the trials once. A line says the equal error rate (cosine) and how often the ten nearest neighbours elect the
right label; EXP/monitor.jsonl and TensorBoard (EXP/tensorboard/monitor) get the same. What is in
monitor.jsonl is not measured again.

This reads labels, and may: training never reads what is written here. Choose no snapshot by the trials that
you report on.
"""

import hashlib
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pydino.backend import cosine_features, equal_error_rate, knn_accuracy, score_pairs
from pydino.base import UserError, log, nearest, read_yaml, warn
from pydino.cli import boolean
from pydino.cli._embeddings import read_grouping
from pydino.infer import Model, StoredFeatures, load
from pydino.infer.model_folder import WEIGHTS
from pydino.kaldi.trials import PairTable, read_trials
from pydino.train import find_method, method_names
from pydino.train.exp_dir import is_at_work
from pydino.train.recorder import open_curves

BLOCK_FRAMES = 200_000  # features held in memory at a time
NEIGHBOURS = 10


def add_arguments(parser):
    parser.add_argument("exp", metavar="EXP", help="folder of a training run")
    parser.add_argument(
        "--data",
        required=True,
        metavar="DATA",
        help="data directory with feats.scp, and vad.scp where the model needs it",
    )
    parser.add_argument(
        "--trials",
        required=True,
        metavar="TRIALS",
        help="lines `enroll test target|nontarget` of utterances of DATA",
    )
    parser.add_argument(
        "--labels", metavar="UTT2LABEL", help="what neighbours vote on (default: DATA/utt2spk)"
    )
    parser.add_argument(
        "--watch",
        type=boolean,
        default=False,
        metavar="true|false",
        help="wait for more until the run is finished",
    )
    parser.add_argument(
        "--interval",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="between looks, when watching (default: 30)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=1, help="CPU threads (default: 1, to leave the others to the training)"
    )


def run(args):
    torch.set_num_threads(args.threads)
    exp = Path(args.exp)
    if not exp.is_dir():
        raise UserError(f"no such folder {exp}; it is made by steps/train.sh, a moment after it starts")
    probe = Probe(args.data, args.trials, args.labels, args.device)
    journal = Journal(exp)
    found, idle = 0, False
    passed_over: set[Path] = set()
    while True:
        # looked at before the snapshots: what is written in between is for the next round
        finished = (exp / ".done.train").exists()
        for snapshot in snapshots(exp, finished or not args.watch):
            found += measure(snapshot, probe, journal, passed_over)
        if finished or not args.watch:
            break
        idle, was_idle = not is_at_work(exp), idle
        if idle and not was_idle:
            log(
                f"no training is at work in {exp} just now; waiting for one to go on there (Ctrl-C ends this)"
            )
        time.sleep(args.interval)
    if not found:
        raise UserError(
            f"{exp} has nothing to measure: no model in {exp}/snapshots and no final model; "
            "train with snapshot_epochs: 5, "
            "or wait for the end"
        )


@dataclass(frozen=True)
class Snapshot:
    """The models of one moment, a folder each."""

    folder: Path
    epoch: int


def snapshots(exp: Path, final: bool) -> list[Snapshot]:
    """Return the snapshots of a run, earliest first; with ``final`` also the models that it ended with,
    unless a snapshot is of then.
    """
    found = []
    for folder in (exp / "snapshots").glob("epoch*"):
        number = re.fullmatch(r"epoch(\d+)", folder.name)
        if number:
            found.append(Snapshot(folder, int(number[1])))
    if final and model_folders(exp):
        config = exp / "config.yaml"
        end = round(read_yaml(config).get("epochs", 0)) if config.exists() else 0
        if all(snapshot.epoch < end for snapshot in found):
            found.append(Snapshot(exp, end))
    return sorted(found, key=lambda snapshot: snapshot.epoch)


def model_folders(folder: Path) -> list[Path]:
    """Return the model folders of one moment, whole or not, the model itself first; means of several are left
    out.
    """
    config = (
        folder / "config.yaml" if folder.parent.name != "snapshots" else folder.parents[1] / "config.yaml"
    )
    method = str(read_yaml(config).get("method", "")) if config.exists() else ""
    roles = find_method(method).roles if method in method_names() else ("teacher", "student", "model")
    return [folder / role for role in roles if (folder / role).is_dir()]


def measure(snapshot: Snapshot, probe: "Probe", journal: "Journal", passed_over: set) -> int:
    """Measure the models of a snapshot that have not been; return how many it has, measured now or before.

    One that is half written or damaged is named, once, and passed over.
    """
    models, lines = [], []
    for folder in model_folders(snapshot.folder):
        try:
            line = {
                "model": str(folder.relative_to(journal.exp)),
                "epoch": snapshot.epoch,
                "role": folder.name,
                **probe.about,
                "weights": journal.digest(folder / WEIGHTS),
            }
            if journal.has(line):
                lines.append(None)
                continue
            models.append(load(folder, probe.device))
            lines.append(line)
        except (UserError, OSError) as error:
            if folder not in passed_over:
                warn(f"passed over: {error}")
            passed_over.add(folder)
    todo = [line for line in lines if line]
    for line, figures in zip(todo, probe(models) if models else (), strict=True):
        if figures is None:
            warn(
                f"{journal.exp / line['model']}: its embeddings are not finite; look for a loss that is not "
                "a number in log.jsonl"
            )
        journal.add(line | (figures or {"eer": None, "knn": None}))
    return len(lines)


class Probe:
    """Trials and labels, and the measuring of models by them.

    Args:
        data, trials, labels, device: as on the command line.

    Raises:
        UserError: trials without labels, or something that does not fit.
    """

    def __init__(self, data: str, trials: str, labels: str | None, device: str):
        self.data, self.device = Path(data), device
        self.trials: PairTable = read_trials(trials)
        if self.trials.values is None or self.trials.values.all() or not self.trials.values.any():
            raise UserError(
                f"{trials}: an equal error rate needs target and nontarget trials, with the word in the "
                "third field"
            )
        self.keys = sorted({*self.trials.models, *self.trials.tests})
        labels = labels or str(self.data / "utt2spk")
        grouping = read_grouping(labels)
        self.labelled = [place for place, key in enumerate(self.keys) if key in grouping]
        self.labels = np.array([grouping[self.keys[place]] for place in self.labelled])
        if len(set(self.labels)) == len(self.labels):
            raise UserError(
                f"{labels}: no two utterances of {trials} have the same label; give --labels UTT2LABEL"
            )
        # What a figure depends on besides the model; the contents, so that files that were mended are
        # measured anew.
        digests = [hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] for path in (trials, labels)]
        self.about = {"data": str(data), "trials": trials, "labels": labels, "digest": "-".join(digests)}

    def __call__(self, models: list[Model]) -> list[dict | None]:
        """Return eer (percent), knn (percent), utterances and trials of each model, None where its embeddings
        are not finite.

        Features are read once for all the models.
        """
        embeddings = [np.zeros((len(self.keys), model.embedding_dim), np.float32) for model in models]
        for places, features in self._blocks(models[0]):
            for model, vectors in zip(models, embeddings, strict=True):
                vectors[places] = model.embed_features(features)
        return [self._figures(vectors) for vectors in embeddings]

    def _blocks(self, model: Model):
        """Yield places in ``keys`` and encoder inputs, some BLOCK_FRAMES frames at a time, those of like
        length together.
        """
        stored = StoredFeatures(self.data, model.front_end)
        missing = [key for key in self.keys if not stored.has(key)]
        if missing:
            raise UserError(
                f"{self.data}/feats.scp: {len(missing)} of {len(self.keys)} utterances of the trials have "
                f"no features, first: {missing[0]}"
                f"{nearest(missing[0], stored.utterances[:5000])}; give the DATA that the trials are of"
            )
        lengths = self.data / "utt2num_frames"
        frames = (
            {key: int(value) for key, value in read_grouping(lengths).items()} if lengths.exists() else {}
        )
        places, block, held = [], [], 0
        for place in sorted(
            range(len(self.keys)), key=lambda place: (frames.get(self.keys[place], 0), place)
        ):
            features, _ = stored.read(self.keys[place])
            places.append(place)
            block.append(features)
            held += len(features)
            if held >= BLOCK_FRAMES:
                yield places, block
                places, block, held = [], [], 0
        if places:
            yield places, block

    def _figures(self, vectors: np.ndarray) -> dict | None:
        if not np.isfinite(vectors).all():
            return None
        place = {key: number for number, key in enumerate(self.keys)}
        rows, columns = (
            np.array([place[name] for name in names]) for names in (self.trials.models, self.trials.tests)
        )
        left, right = cosine_features(vectors[rows], vectors[columns])
        scores = score_pairs(left, right, self.trials.rows, self.trials.columns)
        knn = knn_accuracy(vectors[self.labelled], self.labels, NEIGHBOURS)
        return {
            "eer": round(100 * equal_error_rate(scores, self.trials.values), 3),
            "knn": round(100 * knn, 2),
            "utterances": len(self.keys),
            "num_trials": len(self.trials),
        }


class Journal:
    """EXP/monitor.jsonl, a line a model, and the same in TensorBoard.

    Args:
        exp: folder of the run.
    """

    IDENTITY = ("model", "weights", "data", "trials", "labels", "digest")

    def __init__(self, exp: Path):
        self.exp, self._path = exp, exp / "monitor.jsonl"
        self._measured: set[tuple] = set()
        self._digests: dict[tuple, str] = {}
        self._curves = None
        for line in (
            self._path.read_text(encoding="utf-8", errors="replace").splitlines()
            if self._path.exists()
            else ()
        ):
            try:
                self._measured.add(self._identity(json.loads(line)))
            except (ValueError, KeyError, TypeError):
                warn(f"{self._path}: a line that was cut short is passed over")

    def _identity(self, line: dict) -> tuple:
        return tuple(line[key] for key in self.IDENTITY)

    def digest(self, path: Path) -> str:
        """Return the digest of a file, which is read once as long as it is not written anew."""
        status = path.stat()
        state = (path, status.st_mtime_ns, status.st_size)
        if state not in self._digests:
            self._digests[state] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return self._digests[state]

    def has(self, line: dict) -> bool:
        """Whether this very model has been measured on these very trials and labels."""
        return self._identity(line) in self._measured

    def add(self, line: dict) -> None:
        """Draw, append and say what was measured."""
        if line["eer"] is not None:
            self._draw(line)
        text = json.dumps(line) + "\n"
        try:
            with open(self._path, "ab+", buffering=0) as stream:
                if stream.seek(0, 2) and (stream.seek(-1, 2), stream.read(1))[1] != b"\n":
                    text = "\n" + text  # the line before was cut short
                stream.write(text.encode())
        except OSError as error:
            raise UserError(
                f"cannot write {self._path}: {error.strerror}; free some space and start pydino monitor again"
            ) from error
        self._measured.add(self._identity(line))
        if line["eer"] is not None:
            log(
                f"epoch {line['epoch']}, {line['role']}: EER {line['eer']:.2f} %, {NEIGHBOURS} neighbours "
                f"right for {line['knn']:.1f} % "
                f"({line['utterances']} utterances, {line['num_trials']} trials)"
            )

    def _draw(self, line: dict) -> None:
        self._curves = self._curves or open_curves(self.exp / "tensorboard" / "monitor")
        if self._curves is not None:
            for name in ("eer", "knn"):
                self._curves.add_scalar(f"monitor/{name}_{line['role']}", line[name], line["epoch"])
            self._curves.flush()
