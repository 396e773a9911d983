"""Measuring the models of a run, and the record of it in EXP/monitor.jsonl; on labelled trials, which
training itself never does: equal error rate and nearest neighbours.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from pydino.backend import cosine_features, equal_error_rate, knn_accuracy, score_pairs
from pydino.base import UserError, log, nearest, warn
from pydino.infer import Model, load, stored_inputs
from pydino.infer.model_folder import WEIGHTS

from .label_free import UNTRAINED
from .recorder import open_curves
from .snapshots import Snapshot, model_folders

NEIGHBOURS = 10
MODELS_AT_ONCE = 8  # in memory, for which inputs are made once


def measure(found: list[Snapshot], evaluation, journal: "Journal", skipped: set[Path]) -> int:
    """Measure the models of snapshots that have not been yet; return how many have, now or before.

    One that is incomplete or damaged is skipped, with a warning unless it is in ``skipped`` already.

    Args:
        found: the snapshots, earliest first.
        evaluation: :class:`Evaluation` or :class:`pydino.train.label_free.LabelFree`.
        journal: of the run.
        skipped: folders that there was a warning about.
    """
    models, lines, number = [], [], 0
    roles = 1 if evaluation.first_role_only else None
    for snapshot, folder in [(one, path) for one in found for path in model_folders(one.folder)[:roles]]:
        try:
            line = {
                "model": str(folder.relative_to(journal.exp)),
                "epoch": snapshot.epoch,
                "role": folder.name,
                **evaluation.about,
                "weights": journal.digest(folder / WEIGHTS),
            }
            if not journal.has(line):
                models.append(load(folder, evaluation.device))
                lines.append(line)
            number += 1
        except (UserError, OSError) as error:
            if folder not in skipped:
                warn(f"skipped: {error}")
            skipped.add(folder)
        if len(models) == MODELS_AT_ONCE:
            record(models, lines, evaluation, journal)
            models, lines = [], []
    if models:
        record(models, lines, evaluation, journal)
    return number


def measure_untrained(evaluation, journal: "Journal") -> None:
    """Measure the encoder of a run with random weights, unless it has been: what training starts from."""
    about = {"model": UNTRAINED, "epoch": 0, "role": UNTRAINED, **evaluation.about, "weights": UNTRAINED}
    if not journal.has(about):
        record([evaluation.untrained()], [about], evaluation, journal)


def record(models: list[Model], lines: list[dict], evaluation, journal: "Journal") -> None:
    """Measure models of one front end, and write the figures of each to the journal before those of the next
    are computed.

    Args:
        models: to measure.
        lines: what identifies each.
        evaluation, journal: as of :func:`measure`.
    """
    for line, figures in zip(lines, evaluation(models, lines, journal.lines), strict=True):
        if figures is None:
            model = journal.exp / line["model"]
            warn(f"{model}: its embeddings are not finite; look for a loss that is not in log.jsonl")
        journal.add(line | (figures or dict.fromkeys(evaluation.shown)), evaluation)


class Evaluation:
    """Labelled trials of a data directory, and figures of models on them.

    Args:
        data: data directory with the features of the trials' utterances.
        trials: a :class:`pydino.kaldi.trials.PairTable` with both kinds of trials.
        label_of: utterance -> label, which neighbours vote on; at least two utterances share one.
        device: where models run.
        about: what the figures depend on besides the model, for their lines in the journal.
    """

    first_role_only = False
    shown = ("eer", "knn")

    def __init__(self, data, trials, label_of: dict[str, str], device: str, about: dict[str, str]):
        self.data, self.trials, self.device, self.about = Path(data), trials, device, about
        self.keys = sorted({*trials.models, *trials.tests})
        self._place = {key: place for place, key in enumerate(self.keys)}
        self.labelled = [place for place, key in enumerate(self.keys) if key in label_of]
        self.labels = np.array([label_of[self.keys[place]] for place in self.labelled])

    def __call__(self, models: list[Model], lines: list[dict], earlier: list[dict]) -> list[dict | None]:
        """Return eer (percent), knn (percent), utterances and trials of each model, None where its embeddings
        are not finite. Features are read once for all the models; lines of the journal are not needed.

        Raises:
            UserError: an utterance without features.
        """
        stored = stored_inputs(self.data, models[0].front_end)
        missing = [key for key in self.keys if not stored.has(key)]
        if missing:
            raise UserError(
                f"{self.data}/feats.scp: {len(missing)} of {len(self.keys)} utterances of the trials have "
                f"no features, first: {missing[0]}{nearest(missing[0], stored.utterances[:5000])}; give the "
                "DATA that the trials are of"
            )
        frames = stored.num_frames()
        by_length = sorted(self.keys, key=lambda key: frames.get(key, 0))
        embeddings = [np.zeros((len(self.keys), model.embedding_dim), np.float32) for model in models]
        for keys, features, _ in stored.blocks(by_length):
            places = [self._place[key] for key in keys]
            for model, vectors in zip(models, embeddings, strict=True):
                vectors[places] = model.embed_features(features)
        return [self._figures(vectors) for vectors in embeddings]

    def _figures(self, vectors: np.ndarray) -> dict | None:
        if not np.isfinite(vectors).all():
            return None
        models, tests = (
            vectors[[self._place[name] for name in names]]
            for names in (self.trials.models, self.trials.tests)
        )
        scores = score_pairs(*cosine_features(models, tests), self.trials.rows, self.trials.columns)
        knn = knn_accuracy(vectors[self.labelled], self.labels, NEIGHBOURS)
        return {
            "eer": round(100 * equal_error_rate(scores, self.trials.values), 3),
            "knn": round(100 * knn, 2),
            "utterances": len(self.keys),
            "num_trials": len(self.trials),
        }

    def describe(self, line: dict) -> str:
        """Return the figures of a line as text."""
        return (
            f"EER {line['eer']:.2f} %, {NEIGHBOURS} nearest neighbours {line['knn']:.1f} % right "
            f"({line['utterances']} utterances, {line['num_trials']} trials)"
        )


class Journal:
    """EXP/monitor.jsonl, one line for each model of the run in ``exp`` and each evaluation, and the same in
    TensorBoard.

    Attributes:
        exp: folder of the run.
        lines: all that were written, now or before, in order.
    """

    IDENTITY = ("model", "weights", "data", "trials", "labels", "digest")

    def __init__(self, exp: Path):
        self.exp, self._path = exp, exp / "monitor.jsonl"
        self._measured: set[tuple] = set()
        self.lines: list[dict] = []
        self._digests: dict[tuple, str] = {}
        self._curves = None
        text = self._path.read_text(encoding="utf-8", errors="replace") if self._path.exists() else ""
        for line in text.splitlines():
            try:
                found = json.loads(line)
                self._measured.add(self._identity(found))
                self.lines.append(found)
            except (ValueError, KeyError, TypeError):
                warn(f"{self._path}: ignoring a truncated line")

    def _identity(self, line: dict) -> tuple:
        return tuple(line[key] for key in self.IDENTITY)

    def digest(self, path: Path) -> str:
        """Return the digest of a file, which is read again only after it was written."""
        status = path.stat()
        state = (path, status.st_mtime_ns, status.st_size)
        if state not in self._digests:
            self._digests[state] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        return self._digests[state]

    def has(self, line: dict) -> bool:
        """Whether this very model has been measured on these very trials and labels, or views."""
        return self._identity(line) in self._measured

    def add(self, line: dict, evaluation) -> None:
        """Record and log what was measured."""
        measured = line[evaluation.shown[0]] is not None
        if measured:
            self._draw(line, evaluation.shown)
        text = json.dumps(line) + "\n"
        try:
            with open(self._path, "ab+", buffering=0) as stream:
                if stream.seek(0, 2) and (stream.seek(-1, 2), stream.read(1))[1] != b"\n":
                    text = "\n" + text  # the line before was truncated
                stream.write(text.encode())
        except OSError as error:
            raise UserError(
                f"cannot write {self._path}: {error.strerror}; free some space and start pydino monitor again"
            ) from error
        self._measured.add(self._identity(line))
        self.lines.append(line)
        if measured:
            log(f"epoch {line['epoch']}, {line['role']}: {evaluation.describe(line)}")

    def _draw(self, line: dict, names: tuple[str, ...]) -> None:
        self._curves = self._curves or open_curves(self.exp / "tensorboard" / "monitor")
        if self._curves is not None:
            for name in names:
                if line[name] is not None:
                    self._curves.add_scalar(f"monitor/{name}_{line['role']}", line[name], line["epoch"])
            self._curves.flush()
