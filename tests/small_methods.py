"""The smallest configuration of every method that ``pydino train`` trains: a line for each, and for each use of it
that computes otherwise. What every method promises is tested on these (test_train_every_method.py).
"""

from dataclasses import dataclass

import torch

from pydino.base import config_from_dict
from pydino.data import read_clusters, read_labels
from pydino.infer import read_front_end
from pydino.train import DistributedContext, Setup, find_method
from pydino.train.loop import completes, make_optimiser, parameters_of, update
from pydino.train.pipeline import open_pipeline

SMALL = {
    "epochs": 2,
    "batch_size": 8,
    "on_collapse": "warn",
    "checkpoint_steps": 1,
    "tensorboard": False,
    "crops": {"global_seconds": [0.5, 0.6]},
    "encoder": {"name": "tdnn", "channels": 8, "pooled_channels": 8, "embedding_dim": 8},
    "optimiser": {"name": "sgd", "lr": 0.01, "warmup_epochs": 1},  # a rate at which rounding does not grow
    "augment": {"babble_probability": 0.0},  # it mixes the utterances of a process
}


@dataclass
class Row:
    """A configuration, and the option that it is trained with: ``--labels``, ``--clusters``, or none."""

    config: dict
    option: str = ""

    @property
    def method(self):
        return find_method(self.config["method"])


def row(method: str, option: str = "", **changes) -> Row:
    return Row({**SMALL, "method": method, **changes}, option)


HEAD = {"hidden_dim": 16, "bottleneck_dim": 8, "output_dim": 32}
CROPS = {"num_local": 2, "global_seconds": [0.6, 0.8], "local_seconds": [0.3, 0.5]}
DINO = {"head": HEAD, "crops": CROPS}
HOTTER = {"teacher_temperature": 0.07, "teacher_temperature_start": 0.03, "teacher_temperature_epochs": 1.5}
SDPN = {
    "head": {**HEAD, "shared_prototypes": True},
    "crops": {**CROPS, "num_global": 1},
    "teacher_sees": "clean",
    "student_sees": "locals",
    "loss": {"target": "sinkhorn", **HOTTER},
    "mean_entropy_weight": 1.0,
    "koleo_weight": 0.1,
    "koleo_views": "all",
}
SSPS = {
    "start_epoch": 1,
    "every_epochs": 1,
    "crops": 0,
    "statistics": False,
    "cluster": {"method": "kmeans", "num_clusters": 4},
}
OSPS = {"start_epoch": 1, "clusters": 6, "memory": 2}
CORRECTED = {"epochs": 3, "margin_warmup_epochs": 2, "clean_seconds": [0.7, 0.8]}

ROWS = {
    "dino": row("dino", **DINO, koleo_weight=0.1, cosine_weight=0.1, cosine_ramp_epochs=1),
    "sdpn": row("dino", **SDPN, dimension_weight=0.3),
    "rdino": row(
        "dino", **DINO, loss=HOTTER, variance_weight=1.0, covariance_weight=0.2, variance_ramp_epochs=1
    ),
    "dino on clusters": row("dino", "--clusters", **DINO, positives="cluster"),
    "dino with ssps": row("dino", **DINO, koleo_weight=0.1, positives="ssps", ssps=SSPS),
    "dino with osps": row("dino", **DINO, koleo_weight=0.1, positives="osps", osps=OSPS),
    "sdpn with osps": row("dino", **SDPN, positives="osps", osps={**OSPS, "nearest_clusters": 2}),
    "simclr": row("contrastive", projector_dim=6),
    "contrastive on clusters": row("contrastive", "--clusters", positives="cluster", mask_same_cluster=True),
    "contrastive with ssps": row("contrastive", positives="ssps", ssps=SSPS),
    "moco": row("moco", queue=20, momentum=0.9, projector_dim=6),
    "ssrl": row("ssrl", "--clusters", **CORRECTED, fixed_epochs=1, queue=3, copies=1),
    "dlg-lc": row(
        "dlg-lc", "--clusters", **CORRECTED, ungated_epochs=1, uncorrected_epochs=2, confidence=0.0
    ),
    "xvector": row("xvector", "--labels", margin_warmup_epochs=2),
    "xvector on clusters": row("xvector", "--clusters", start_from_centroids=True, sub_centres=2),
}


class Training:
    """A row that is trained in this process, step by step.

    Args:
        name: of the row.
        world: folder with train/, labels and clusters/.
        micro_batches: of a step.
    """

    def __init__(self, name: str, world, micro_batches: int = 1):
        row, data = ROWS[name], world / "train"
        config = {**row.config, "compute": {"accumulation": micro_batches}}
        config = config_from_dict(row.method.Config, config)
        read = {"--labels": lambda: read_labels(data, [world / "labels"])}
        read["--clusters"] = lambda: read_clusters(data, world / "clusters")
        labels, distributed = read[row.option]() if row.option else None, DistributedContext()
        torch.manual_seed(0)
        front_end = read_front_end(data, config.normalisation)
        self.pipeline = open_pipeline(config, data, front_end, 0, distributed, labels=labels)
        self.steps_per_epoch = self.pipeline.steps_per_epoch
        numbers = (self.pipeline.feature_dim, self.pipeline.total_steps, self.steps_per_epoch)
        hashes = self.pipeline.source.hashes
        self.method = row.method(Setup(config, *numbers, distributed, labels, hashes=hashes))
        groups = self.method.parameter_groups()
        self.optimiser, self.parameters = make_optimiser(groups, config.optimiser), parameters_of(groups)

    def update(self, step: int, batches=None):
        """Make one update, as the loop does; return the metrics."""
        batches = self.pipeline.sampler[step] if batches is None else batches
        watched = update(
            self.method, self.pipeline.views, self.optimiser, self.parameters, batches, step, 0.01, 3.0
        )
        if completes(step + 1, self.steps_per_epoch):
            self.method.evaluate((step + 1) / self.steps_per_epoch, False)
        return watched
