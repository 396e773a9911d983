"""Online positive sampling (OSPS): the target of an utterance is the teacher's output for another recording
of what is probably the same speaker, from a memory that does not grow with the corpus.

After OSPS of theolepage/sslsv, which is unpublished, and self-supervised positive sampling
(positive_sampling.py), which embeds and clusters the whole corpus again and again. Here each step adds the
teacher's embeddings of its utterances to K clusters and to a memory of the R latest utterances of each
(pydino/ssl/online_clusters.py). From ``start_epoch`` on the target of an utterance is of one of those

    of the cluster that is nearest to it                nearest_clusters: 0
    of one of the M clusters nearest to that one        nearest_clusters: M

and its own where these are of no other utterance. Departure: the memory holds embeddings of the teacher's
views, from which its head makes the outputs now; theirs holds outputs of the head, which are
output_dim / embedding_dim times as large and of the head of earlier steps. Their gates, filters and merging
of clusters are left out.

Clusters and memory are those of all earlier steps, for all micro-batches and processes alike, and are in the
checkpoint: a run that is killed resumes exactly. No label and no name takes part.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from pydino.base import keyed_integers, keyed_permutation, keyed_uniform, purpose
from pydino.data import Batch
from pydino.ssl import ClusterMemory, OnlineClusters

from .method import Setup


class OnlinePositives(nn.Module):
    """Clusters and memory of a run.

    Axes: G views of the teacher, b utterances of a micro-batch, D embedding.

    Args:
        setup: of the run.
        dim: D.
    """

    def __init__(self, setup: Setup, dim: int):
        super().__init__()
        self.config, self.seed, self.distributed = setup.config.osps, setup.seed, setup.distributed
        config, views = self.config, setup.config.crops.num_global
        self.first_step = config.start_epoch * setup.steps_per_epoch
        self.clusters = OnlineClusters(config.clusters, dim, config.momentum)
        self.memory = ClusterMemory(config.clusters, config.memory, (views, dim))
        self.to(self.distributed.device)
        self._rows: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._shares: list[torch.Tensor] = []

    def targets(self, embeddings: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Return what the head takes in place of the teacher's embeddings of a micro-batch, (G, b, D).

        To be called once for each micro-batch of a step, in their order.
        """
        hashes = self._on_device(batch.hashes.view(np.int64))
        entries = embeddings.float().transpose(0, 1)
        self._rows.append((entries, hashes))
        if batch.step < self.first_step:
            self._shares.append(embeddings.new_zeros((), dtype=torch.float32))
            return embeddings
        wanted = self.clusters.nearest(directions(entries))
        if self.config.nearest_clusters:
            others = self.clusters.nearest_others(wanted, self.config.nearest_clusters)
            key = purpose("cluster of the target")
            drawn = keyed_integers(0, others.shape[1], self.seed, batch.visits, batch.hashes, key)
            wanted = others.gather(1, self._on_device(drawn)[:, None])[:, 0]
        uniform = keyed_uniform(self.seed, batch.visits, batch.hashes, purpose("target of the memory"))
        found, there = self.memory.draw(wanted, hashes, self._on_device(uniform))
        self._shares.append(there.float().mean())
        return torch.where(there[:, None], found.transpose(0, 1).to(embeddings.dtype), embeddings)

    def share(self, micro_step: int) -> torch.Tensor:
        """Return the share of the utterances of a micro-batch whose target is of the memory."""
        return self._shares[micro_step]

    def end_step(self) -> None:
        """Add the utterances of a step to clusters and memory: those of the first micro-batch first,
        by process, which is the order of the batch however it is divided.
        """
        gather = self.distributed.gather_rows
        entries = torch.cat([gather(entries.contiguous()) for entries, _ in self._rows])
        hashes = torch.cat([gather(hashes) for _, hashes in self._rows])
        self.memory.push(self.clusters.update(directions(entries)), entries, hashes)
        self._rows, self._shares = [], []

    def end_epoch(self, epoch: int) -> dict[str, float]:
        """Revive the centroids that were nearest to no utterance of the epoch, and empty their memory.

        Returns:
            For the log: ``clusters_in_use``: share of the centroids that were nearest to one.
        """
        in_use = (self.clusters.wins > 0).float().mean().item()
        order = keyed_permutation(self.config.clusters, self.seed, epoch, purpose("revived centroids"))
        self.memory.forget(self.clusters.revive(self._on_device(order)))
        return {"clusters_in_use": round(in_use, 4)}

    def _on_device(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(x).to(self.distributed.device, non_blocking=True)


def directions(entries: torch.Tensor) -> torch.Tensor:
    """Return what is clustered of embeddings (B, G, D): the mean direction of the views of each utterance,
    (B, D).
    """
    return F.normalize(entries, dim=-1).mean(1)
