"""Self-supervised positive sampling (SSPS): the positive of an utterance is another recording of what is
probably the same speaker, found by the model that is being trained.

Lepage and Dehak 2025, "Self-Supervised Frameworks for Speaker Verification via Bootstrapped Positive
Sampling" (arXiv 2501.17772). Until ``start_epoch`` the positive is another crop of the utterance itself. At
the end of that epoch, and of every ``every_epochs``-th after it, all utterances are embedded and clustered;
until the next time, the positive is a crop of another utterance, drawn again at each visit

    of the utterance's own cluster                          nearest_clusters: 0
    of one of the M clusters that are nearest to its own    nearest_clusters: M

where nearest is by the cosine between centroids. Departures: the network sees a new, augmented crop of the
other utterance, where theirs takes the output for its latest crop from a queue; whole utterances are
clustered by the weights of this moment, where theirs are crops by those of the steps of the epoch before; and
any method of clustering may be used, also those that need no number of clusters.

Clusters decide what is learnt, so they are buffers, frozen until the next are found: a batch is a pure
function of the step and of these, and a run that is killed resumes exactly. No label and no name takes part.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from pydino.backend.clustering import (
    Embedded,
    cluster,
    kmeans,
    nearest_centroids,
    number_clusters,
    treatments,
)
from pydino.backend.vectors import normalise_length
from pydino.base import UserError, keyed_integers, purpose
from pydino.data import Partners

from .distributed import DistributedContext
from .positives_config import PositiveSamplingConfig

EmbedWithCrops = Callable[[nn.Module, int, bool], tuple[Embedded, Embedded | None]]


class PositiveSampling(nn.Module):
    """The clusters of the N utterances of a run, in the order of their hashes.

    Args:
        config: when and how.
        hashes: (N,) uint64, ascending.
        steps_per_epoch: of the run.
        distributed: this process among others.

    Attributes:
        classes: (N,) int64, cluster of each utterance, from 0; each its own, before clusters are found.
        wanted: (N, max(M, 1)) int64, the clusters that its positives are of.
    """

    def __init__(
        self,
        config: PositiveSamplingConfig,
        hashes: np.ndarray,
        steps_per_epoch: float,
        distributed: DistributedContext,
    ):
        super().__init__()
        self.config, self.hashes, self.distributed = config, hashes, distributed
        self.steps_per_epoch = steps_per_epoch
        alone = torch.arange(len(hashes))
        self.register_buffer("classes", alone)
        self.register_buffer("wanted", alone[:, None].repeat(1, max(1, config.nearest_clusters)))

    def is_due(self, epoch: int) -> bool:
        """Whether positives are found after so many epochs."""
        since = epoch - self.config.start_epoch
        return since >= 0 and since % self.config.every_epochs == 0

    def next_due(self, step: int) -> int:
        """Return the number of the first step after ``step`` at whose end an epoch is complete after which
        positives are found (steps are counted from 1).
        """
        epoch = int(step / self.steps_per_epoch) + 1
        while not self.is_due(epoch):
            epoch += 1
        step = math.floor(epoch * self.steps_per_epoch)
        return step if int(step / self.steps_per_epoch) >= epoch else step + 1

    def of(self, hashes: np.ndarray) -> np.ndarray:
        """Return the clusters (B,) of utterances (B,)."""
        return self.classes.numpy()[np.searchsorted(self.hashes, hashes)]

    def partners(self, seed: int) -> "SampledPartners":
        """Return what draws positives by these clusters, for a sampler of batches."""
        return SampledPartners(self.hashes, self.classes.numpy().copy(), self.wanted.numpy().copy(), seed)

    def find(self, encoder: nn.Module, embed: EmbedWithCrops) -> dict[str, float]:
        """Cluster the utterances, in all processes alike.

        Args:
            encoder: whose embeddings are clustered.
            embed: function of it, the number of augmented crops and whether statistics are wanted
                (:meth:`pydino.train.embedding_pass.EmbeddingPass.with_crops`).

        Returns:
            For the log: ``clusters``: those of two utterances or more; ``with_partner``: share of the
            utterances that have another one as positive; ``self_eer``: split self-EER in percent, where the
            method of clustering measures it.
        """
        embedding, beside = embed(encoder, self.config.crops, self.config.statistics)
        name, settings = self.config.clustering
        try:
            if name == "kmeans":
                labels, error = self._kmeans(embedding, beside, settings), {}
            else:
                labels, error = self._clusters(embedding, beside, name, settings)
        except ValueError as reason:
            raise UserError(
                f"ssps.cluster, {len(self.hashes)} utterances: {reason}; change the configuration, and start "
                "the run again with --force true"
            ) from reason
        self.classes.copy_(torch.from_numpy(labels))
        wanted = labels[:, None]
        if self.config.nearest_clusters:
            wanted = nearest_clusters(embedding.vectors, labels, self.config.nearest_clusters)[labels]
        self.wanted.copy_(torch.from_numpy(wanted))
        sizes = np.bincount(labels)
        alone = (wanted == labels[:, None]).all(1) & (sizes[labels] == 1)
        return {
            "clusters": float((sizes > 1).sum()),
            "with_partner": float(1 - alone.mean()),
            **error,
        }

    def _kmeans(self, embedding: Embedded, beside: Embedded | None, settings) -> np.ndarray:
        """Return the clusters of k-means, which all processes compute together, on their devices."""
        starts = treatments(embedding, beside, settings.shrinkage)
        if settings.treatment not in starts:
            raise ValueError(f"treatment '{settings.treatment}' is none of {', '.join(starts)}")
        shard = slice(self.distributed.rank, None, self.distributed.size)
        found = kmeans(
            starts[settings.treatment][shard],
            settings.num_clusters,
            settings.seed,
            self.hashes[shard],
            num_iterations=settings.num_iterations,
            device=str(self.distributed.device),
        )
        labels = np.empty(len(self.hashes), dtype=np.int64)
        for rank, part in enumerate(self.distributed.gather_objects(found.labels)):
            labels[rank :: self.distributed.size] = part
        return number_clusters(labels)

    def _clusters(self, embedding, beside, name: str, settings) -> tuple[np.ndarray, dict[str, float]]:
        """Return the clusters that the first process computes."""
        found: tuple | ValueError | None = None
        if self.distributed.first:
            try:
                best = cluster(embedding, beside, self.hashes, name, settings)
                error = best.candidates[best.chosen].self_eer
                found = best.labels, {"self_eer": round(100 * error, 4)}
            except ValueError as reason:
                found = reason
        found = self.distributed.gather_objects(found)[0]
        if isinstance(found, ValueError):
            raise found
        return found


class SampledPartners:
    """Positives of utterances, as a function of the seed, the visit and the hash.

    Args:
        hashes: (N,) uint64, ascending.
        classes: (N,) int64, clusters from 0.
        wanted: (N, M) int64, the clusters that positives of each are of, all equally likely.
        seed: of every draw.
    """

    def __init__(self, hashes: np.ndarray, classes: np.ndarray, wanted: np.ndarray, seed: int):
        self._hashes, self._wanted, self._seed = hashes, wanted, seed
        number = int(classes.max()) + 1
        self._partners = Partners(hashes, classes, number, seed, "partner of the cluster")

    def partners(self, indices: np.ndarray, visits: np.ndarray) -> np.ndarray:
        """Return the partners (B,) of utterances ``indices`` (B,) at these visits (B,)."""
        key = purpose("cluster of the partner")
        number = self._wanted.shape[1]
        drawn = keyed_integers(0, number, self._seed, visits, self._hashes[indices], key)
        return self._partners.partners(indices, visits, self._wanted[indices, drawn])


def nearest_clusters(vectors: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return of each of K clusters the ``count`` other ones whose centroids are nearest by the cosine, (K,
    count) int64. Where there are fewer, they are repeated; the only cluster is its own neighbour.

    Args:
        vectors: (N, D); a centroid is the direction of the sum of its unit vectors, centred.
        labels: (N,) int64 in [0, K), none empty.
    """
    unit = normalise_length(vectors - vectors.mean(axis=0, dtype=np.float64), scale_up=False)
    order = np.argsort(labels, kind="stable")
    sums = np.add.reduceat(unit[order], np.searchsorted(labels[order], np.arange(labels.max() + 1)))
    centroids = normalise_length(sums, scale_up=False).astype(np.float32)
    number = len(centroids)
    if number == 1:
        return np.zeros((1, count), dtype=np.int64)
    near, _ = nearest_centroids(centroids, centroids, min(count + 1, number))
    others = np.empty((number, near.shape[1] - 1), dtype=np.int64)
    for row, found in enumerate(near):  # itself is nearest, but for rounding
        others[row] = found[found != row][: others.shape[1]]
    return others[:, np.arange(count) % others.shape[1]]
