"""Measuring a run's models without a label: scores of views of some training utterances, the same views for
all snapshots.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from pydino.audio.augment import AugmentConfig
from pydino.backend.clustering import agreement, kmeans
from pydino.backend.label_free import label_free_scores
from pydino.backend.vectors import normalise_length
from pydino.base import UserError, atomic_open, config_from_dict, log, read_yaml
from pydino.data import CropConfig, ViewGroup
from pydino.data.training_dir import read_hashes
from pydino.data.view_list import VIEWS, ViewList, choose_views, list_path, listed_views, stale_list
from pydino.infer import FrontEnd, Model, read_front_end
from pydino.models import build_encoder

from .config import NOT_AUGMENTED, TrainingConfig
from .distributed import DistributedContext
from .pipeline import Pipeline, open_pipeline

UNTRAINED = "untrained"  # the encoder with random weights, at epoch 0
MOST_CLUSTERS = 100
UTTERANCES_OF_A_CLUSTER = 10  # on average, where there are few utterances
CPU_BATCH_FRAMES = 3000  # short views of one length: batches of some 15 take 0.6 of the time of each alone


@dataclass
class MonitorConfig(TrainingConfig):
    """The views of the list: one group, nothing masked. Their length is that of the list."""

    method: Literal["monitor"] = "monitor"
    crops: CropConfig = field(default_factory=lambda: CropConfig(num_global=VIEWS, num_local=0))

    @property
    def view_groups(self) -> list[ViewGroup]:
        unmasked = replace(self.augment, time_mask_frames=0, frequency_mask_bands=0)
        return [ViewGroup("monitor", VIEWS, (1.0, 1.0), unmasked, self.waveform)]


class LabelFree:
    """Scores of the models of a run's first role, on a list of views that is made once and kept in EXP.

    Recordings (``input: audio``) are augmented with the noises and rooms of the run; filter banks by the
    defaults of :class:`AugmentConfig` whatever the run has, so that runs on the same features are compared
    under the same augmentation.

    Args:
        exp: folder of the run.
        data: pre-training directory; None: that of the list in EXP.
        device: where models run.
        allow_pipes: run the commands in wav.scp.

    Raises:
        UserError: neither a list nor a directory, or a directory that cannot be trained on.
    """

    first_role_only = True
    shown = ("self_eer", "lidar", "rankme", "alignment", "uniformity", "stability")

    def __init__(self, exp: Path, data: str | None, device: str = "cpu", allow_pipes: bool = False):
        self.exp, self.device = Path(exp), device
        path = list_path(exp)
        self.views = ViewList.read(path) if path.exists() else None
        if self.views is None and data is None:
            raise UserError(
                f"no {path}: give --data DATA, the directory that the run was trained on, such as "
                "data/train_ssl"
            )
        self._data = Path(data or self.views.data)
        self._allow_pipes = allow_pipes
        self._config, self._seed = _config_of(self.exp, self._data)
        self._front_end = read_front_end(self._data, self._config.normalisation)
        if self.views is None:
            self._make_list(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        self.about = {"data": self.views.data, "trials": None, "labels": None, "digest": digest}

    @cached_property
    def _pipeline(self) -> Pipeline:
        """The utterances of the list, or all where there is none yet; opened when something is measured."""
        distributed = DistributedContext(int(self.device != "cpu"))
        only = None if self.views is None else self.views.hashes
        if only is not None and not np.isin(only, read_hashes(self._data)[0]).any():
            raise stale_list(self.views, len(only))
        return open_pipeline(
            self._config, self._data, self._front_end, 0, distributed, self._allow_pipes, only
        )

    def _make_list(self, path: Path) -> None:
        source = self._pipeline.source
        shift = self._front_end.feature_options().frame_shift / 1000
        self.views = choose_views(str(self._data), source.hashes, source.lengths, shift)
        path.parent.mkdir(exist_ok=True)
        self.views.write(path)
        log(
            f"{path}: {len(self.views.hashes)} of {len(source)} utterances of {self._data}, {VIEWS} views of "
            f"{self.views.frames * shift:g} s of each"
        )

    def untrained(self) -> Model:
        """Return the encoder of the run with random weights."""
        front_end = FrontEnd(self._front_end, self.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            encoder = build_encoder(self._config.encoder, front_end.dim)
        return Model(encoder, front_end, None, self.device)

    def __call__(self, models: list[Model], lines: list[dict], earlier: list[dict]) -> Iterator[dict | None]:
        """Yield the scores of each model, None where its embeddings are not finite. All embed the views
        before the first is scored, so that views are made once.

        ``stability`` is the NMI of k-means with that of the model's former snapshot: None at the first.

        Args:
            models: of one front end.
            lines: of the journal, what identifies each.
            earlier: all lines of the journal so far, with those of the models before the one that is next.
        """
        shape = self.views.starts.shape
        embedded = [np.zeros((*shape, model.embedding_dim), np.float32) for model in models]
        for rows, views in listed_views(self.views, self._pipeline.source, self._pipeline.views):
            crops = list(views.flatten(0, 1))
            for model, found in zip(models, embedded, strict=True):
                found[rows] = model.embed_features(crops, CPU_BATCH_FRAMES).reshape(found[rows].shape)
        for found, line in zip(embedded, lines, strict=True):
            yield self._figures(found, line, earlier)

    def _figures(self, embedded: np.ndarray, line: dict, earlier: list[dict]) -> dict | None:
        if not np.isfinite(embedded).all():
            return None
        scores = {name: round(value, 4) for name, value in label_free_scores(embedded).items()}
        labels = self._clusters(embedded)
        path = self._clusters_path(line)
        with atomic_open(path, "wb") as stream:
            np.save(stream, labels)
        return {
            **scores,
            "stability": self._stability(labels, line, earlier),
            "utterances": len(embedded),
            "embedding_dim": embedded.shape[-1],
        }

    def _clusters(self, embedded: np.ndarray) -> np.ndarray:
        """Return the cluster of each utterance, by the mean of its unit views: (N,) int16."""
        count = min(MOST_CLUSTERS, max(2, len(embedded) // UTTERANCES_OF_A_CLUSTER))
        unit = normalise_length(embedded.reshape(-1, embedded.shape[-1]), scale_up=False)
        means = unit.reshape(embedded.shape).mean(axis=1).astype(np.float32)
        return kmeans(means, count, 0, self.views.hashes).labels.astype(np.int16)

    def _stability(self, labels: np.ndarray, line: dict, earlier: list[dict]) -> float | None:
        before = [
            one
            for one in earlier
            if one["digest"] == line["digest"]
            and one["role"] == line["role"]
            and one["epoch"] < line["epoch"]
        ]
        if not before:
            return None
        path = self._clusters_path(max(before, key=lambda one: one["epoch"]))
        if not path.is_file():
            return None
        return round(agreement(np.load(path), labels)["nmi"], 4)

    def _clusters_path(self, line: dict) -> Path:
        """Where the clusters of a model are kept, for its next snapshot."""
        return list_path(self.exp).with_name(f"clusters-{line['weights']}.npy")

    def describe(self, line: dict) -> str:
        """Return the scores of a line as text."""
        same = (
            "" if line["stability"] is None else f", clusters {100 * line['stability']:.0f} % as before (NMI)"
        )
        return (
            f"self-EER {line['self_eer']:.2f} %, LiDAR {line['lidar']:.1f}, RankMe {line['rankme']:.1f}{same}"
        )


def _config_of(exp: Path, data: Path) -> tuple[MonitorConfig, int]:
    """Return the configuration of the views of a run, and its seed."""
    path = exp / "config.yaml"
    if not path.is_file():
        raise UserError(f"no {path}: {exp} is not the folder of a training run, or it has not begun yet")
    run = read_yaml(path)
    shared = ("input", "encoder", "normalisation", "waveform", "augmentation_data")
    config = config_from_dict(
        MonitorConfig, {key: run[key] for key in shared if key in run} | {"batch_size": 2}, str(path)
    )
    if config.input == "audio":
        config.augment = config_from_dict(AugmentConfig, run.get("augment", {}), str(path))
    elif not (data / "conf" / "fbank.yaml").is_file():
        config.augment = NOT_AUGMENTED  # it is for filter banks
    return config, int(run.get("seed", 0))
