"""InfoNCE with a queue: a query has to find its key, another view of the same utterance, among the keys of
earlier batches.

He et al. 2020, "Momentum contrast for unsupervised visual representation learning" (arXiv 1911.05722), after
van den Oord et al. 2018 (arXiv 1807.03748). With q_i, k_i and the Q keys n_j of the queue of length one,

    L = 1/B sum_i -log( exp(q_i . k_i / T) / (exp(q_i . k_i / T) + sum_j exp(q_i . n_j / T)) ).

The keys of the batch itself are no negatives; keys and queue have no gradient.
"""

import torch
import torch.nn.functional as F


def infonce(
    queries: torch.Tensor, keys: torch.Tensor, queue: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean loss of the queries, in nats, and the share of them that are more similar to their key
    than to any of the queue; both scalars. The mean of the losses of the parts of a batch is that of the
    batch.

    Args:
        queries, keys: (B, D) vectors of any length: the pairs.
        queue: (Q, D) vectors of length one: the negatives.
        temperature: T.
    """
    with torch.autocast(queries.device.type, enabled=False):
        q, k = (F.normalize(x.float(), dim=-1) for x in (queries, keys.detach()))
        similarity = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], dim=1) / temperature
    positive = torch.zeros(len(q), dtype=torch.int64, device=q.device)
    found = similarity[:, 0] > similarity[:, 1:].amax(1)  # not where all are equal, as after a collapse
    return F.cross_entropy(similarity, positive), found.float().mean()


def random_queue(size: int, dim: int) -> torch.Tensor:
    """Return a queue (size, dim) to begin with: random directions, which the first batches replace."""
    return F.normalize(torch.randn(size, dim), dim=-1)


@torch.no_grad()
def enqueue(queue: torch.Tensor, keys: torch.Tensor) -> None:
    """Put keys (B, D) of any length, B <= Q, in front of a queue (Q, D), in place; the oldest B leave it."""
    fresh = F.normalize(keys.float(), dim=-1)
    queue.copy_(torch.cat([fresh, queue[: len(queue) - len(fresh)]]))
