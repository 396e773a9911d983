"""NT-Xent, the normalised temperature-scaled cross-entropy: two views of one utterance, or of two utterances
of one cluster, have to find each other among the views of the whole batch.

Chen et al. 2020, "A simple framework for contrastive learning of visual representations" (arXiv 2002.05709).
With 2 B views, z_i of length one, p(i) the other view of i's pair, and N(i) all views but i itself,

    L = 1/(2 B) sum_i -log( exp(z_i . z_p(i) / T) / sum_{k in N(i)} exp(z_i . z_k / T) ).

With clusters, views of i's cluster other than p(i) may be left out of N(i): most are no negatives.
"""

import torch
import torch.nn.functional as F


def ntxent(
    own: torch.Tensor,
    everything: torch.Tensor,
    place: int,
    temperature: float,
    classes: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean loss of this process's views, in nats, and the share of them whose most similar view is
    the other of the pair; both scalars. The mean of the losses of all processes is that of the batch.

    Args:
        own: (2, b, D) vectors of any length: the pairs of this process.
        everything: (2, B, D): those of all processes, of which ``own`` are [:, place : place + b].
        place: as above.
        temperature: T.
        classes: (B,) clusters of the pairs, whose members are no negatives of each other; None: they are.
    """
    size, batch = own.shape[1], everything.shape[1]
    with torch.autocast(own.device.type, enabled=False):
        z = F.normalize(everything.float().flatten(0, 1), dim=-1)
        similarity = F.normalize(own.float().flatten(0, 1), dim=-1) @ z.T / temperature  # (2 b, 2 B)
    pairs = torch.arange(place, place + size, device=own.device)
    itself, positive = torch.cat([pairs, pairs + batch]), torch.cat([pairs + batch, pairs])
    omitted = torch.zeros_like(similarity, dtype=torch.bool)
    if classes is not None:
        same = classes[pairs].unsqueeze(1) == classes
        omitted = same.repeat(2, 2).scatter(1, positive.unsqueeze(1), False)
    similarity = similarity.masked_fill(omitted.scatter(1, itself.unsqueeze(1), True), -torch.inf)
    found = (similarity.detach().argmax(1) == positive).float().mean()
    return F.cross_entropy(similarity, positive), found
