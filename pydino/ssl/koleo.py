"""The KoLeo regulariser, which pushes every embedding away from its nearest neighbour in the batch, so that
embeddings spread over the sphere.

Sablayrolles et al. 2019, "Spreading vectors for similarity search" (the Kozachenko-Leonenko estimate of
differential entropy), as used in DINOv2 (Oquab et al. 2023).
"""

import torch
import torch.nn.functional as F

SMALLEST_DISTANCE = 1e-8


def koleo(embeddings: torch.Tensor) -> torch.Tensor:
    """Return -mean_b log min_{a != b} |x_a - x_b| of L2-normalised embeddings (B, D), a scalar; B is at least
    2.
    """
    x = F.normalize(embeddings.float(), dim=-1)
    with torch.no_grad():
        cosines = x @ x.T
        cosines.fill_diagonal_(-2.0)
        nearest = cosines.argmax(1)
    # The distance is recomputed from the vectors: 2 - 2 cos loses all significant digits near zero.
    distance = (x - x[nearest]).square().sum(-1).add(SMALLEST_DISTANCE**2).sqrt()
    return -distance.log().mean()
