"""Contrastive learning: an utterance's embedding has to find that of another crop of the same utterance
(SimCLR), or of another utterance of its cluster, among those of the batch. The loss is NT-Xent
(pydino/ssl/ntxent.py), on the embedding itself unless there is a projector.

With ``positives: own`` it is SimCLR (Chen et al. 2020, arXiv 2002.05709), and results call it simclr.

With ``positives: cluster`` it is a round on pseudo-labels: --clusters, and --init with the model whose
embeddings were clustered. The other utterance differs in what a crop of the same one never does (words,
emotion, session), and few wrong clusters do little harm, as no parameter belongs to one.

With ``positives: ssps`` the run finds the clusters itself (pydino/train/positive_sampling.py).
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from pydino.base import check_positive, check_sizes
from pydino.data import Batch, CropConfig, ViewGroup, Views, cluster_pairs
from pydino.ssl import ntxent
from pydino.train.method import Method, Metrics, Setup
from pydino.train.monitors import MOMENTS, collapse_to_a_point, moments
from pydino.train.positives_config import PositivesConfig

ROLES = ("model",)
READS_LABELS = False
READS_CLUSTERS = True  # with positives: cluster


@dataclass
class ContrastiveConfig(PositivesConfig):
    """A contrastive run: two crops of a pair, of one length."""

    method: Literal["contrastive"] = "contrastive"
    crops: CropConfig = field(default_factory=lambda: CropConfig(num_local=0, global_seconds=[2.0, 3.0]))
    temperature: float = 0.1
    mask_same_cluster: bool = False  # other utterances of the cluster are no negatives
    # a layer of as many units as the embedding, then one of this many, whose output the loss sees; 0: the
    # embedding itself
    projector_dim: int = 0

    def __post_init__(self):
        super().__post_init__()
        check_positive(self, "temperature")
        check_sizes(self, "projector_dim", least=0)
        self.check_no_teacher("contrastive learning")
        if (self.crops.num_global, self.crops.num_local) != (2, 0):
            raise ValueError("the loss takes two crops: set crops.num_global to 2 and crops.num_local to 0")

    @property
    def name(self) -> str:
        """Name of the method in results: without given clusters it is SimCLR, or SimCLR with SSPS."""
        if self.needs_clusters:
            return self.method
        return "simclr" if self.positives == "own" else f"simclr-{self.positives}"

    @property
    def needs_clusters(self) -> bool:
        return super().needs_clusters or (self.mask_same_cluster and self.positives == "own")

    @property
    def view_groups(self) -> list[ViewGroup]:
        groups = super().view_groups
        return cluster_pairs(groups) if self.of_others else groups


class Network(nn.Module):
    """Encoder and projector."""

    def __init__(self, encoder: nn.Module, projector_dim: int):
        super().__init__()
        self.encoder, dim = encoder, encoder.embedding_dim
        self.projector = nn.Identity()
        if projector_dim:
            self.projector = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, projector_dim))

    def forward(self, views: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings (N, D) and what the loss sees, (N, P), of tensors (n, T, F) of one length."""
        embeddings = self.encoder(torch.cat(views))
        return embeddings, self.projector(embeddings)


class Contrastive(Method):
    """Encoder and projector; negatives are the utterances of all processes."""

    Config = ContrastiveConfig
    roles, reads_labels, reads_clusters = ROLES, READS_LABELS, READS_CLUSTERS
    splits_batch = False

    def __init__(self, setup: Setup):
        super().__init__(setup)
        self.set_student(Network(self.new_encoder(), self.config.projector_dim))

    def loss(self, batch: Batch, views: Views, micro_step: int) -> tuple[torch.Tensor, Metrics]:
        """``accuracy`` is the share of the crops whose most similar crop is the other of the pair."""
        size = len(batch.hashes)
        with self.precision():
            embeddings, projected = self.network(views.student)
        own = projected.float().unflatten(0, (2, size))
        loss, found = ntxent(
            own,
            self.distributed.gather_pairs(own),
            self.distributed.rank * size,
            self.config.temperature,
            self._clusters_of(batch) if self.config.mask_same_cluster else None,
        )
        metrics = {"loss": loss.detach(), "accuracy": found}
        return loss, {**metrics, MOMENTS: moments(embeddings[:size].detach())}

    def collapse_reason(self, means: dict[str, float]) -> str | None:
        return collapse_to_a_point(means, "lower optimiser.lr, or raise optimiser.warmup_epochs")

    def describe(self, means: dict[str, float]) -> str:
        return (
            f"loss {means['loss']:.3f}, accuracy {100 * means['accuracy']:.1f} %, spread "
            f"{means['embedding_spread']:.3f}"
        )

    def _clusters_of(self, batch: Batch) -> torch.Tensor:
        """Return the clusters (B,) of the utterances of all processes, on the device."""
        known = self.positive_sampling or self.setup.labels
        clusters = torch.from_numpy(known.of(batch.hashes))
        return self.distributed.gather_rows(clusters.to(self.distributed.device, non_blocking=True))
