"""Additive angular margin softmax, the output layer of the supervised x-vector.

Deng et al. 2019, "ArcFace" (arXiv 1801.07698). With theta_k the angle between an embedding and the weights of
class k, the logit of every class is s cos(theta_k), but s cos(theta_y + m) for the target class y: its angle
must be smaller than the others' by the margin m.

Past theta_y = pi - m the cosine would rise again with the angle. There cos(theta_y) - m sin(m) replaces it,
which keeps decreasing: the paper does not mention this case, but the authors' code does this.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

# at angle 0 the derivative of the sine by the cosine is infinite; float32 resolves the square to about 1e-7
SMALLEST_SQUARED_SINE = 1e-6


class AamSoftmax(nn.Module):
    """(B, D) embeddings and labels -> (B, K) logits, float32, for a cross-entropy.

    Args:
        embedding_dim: D.
        num_classes: K.
        scale: s, the inverse of the temperature.
        margin: m in radians, the final one; :meth:`forward` takes a smaller one during warm-up.
    """

    def __init__(self, embedding_dim: int, num_classes: int, scale: float = 30.0, margin: float = 0.3):
        super().__init__()
        if num_classes < 2:
            raise ValueError(
                f"num_classes must be at least 2, got {num_classes}: one class cannot be classified"
            )
        if scale <= 0:
            raise ValueError(f"scale must be above 0, got {scale}")
        if not 0 <= margin < math.pi / 2:
            raise ValueError(f"margin must be in [0, pi/2) radians, got {margin}")
        self.scale, self.margin = scale, margin
        # only the directions of the rows matter
        self.weight = nn.Parameter(F.normalize(torch.randn(num_classes, embedding_dim), dim=-1))

    def forward(
        self, embeddings: torch.Tensor, labels: torch.Tensor, margin: float | None = None
    ) -> torch.Tensor:
        """Return the logits.

        Args:
            embeddings: (B, D), of any length.
            labels: (B,) int64 in [0, K).
            margin: of this step, in radians; default: the final one.
        """
        margin = self.margin if margin is None else margin
        cosines = self.cosines(embeddings)
        labels = labels.unsqueeze(1)
        return self.scale * cosines.scatter(1, labels, with_margin(cosines.gather(1, labels), margin))

    def cosines(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the cosines (B, K) between embeddings (B, D) and classes, float32 even under autocast, for
        classification without a margin.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.to(torch.promote_types(embeddings.dtype, self.weight.dtype))
            return F.normalize(embeddings, dim=-1) @ F.normalize(self.weight, dim=-1).T


def with_margin(cosine: torch.Tensor, margin: float) -> torch.Tensor:
    """Return cos(theta + margin) of cos(theta), elementwise; past pi - margin, cos(theta) - margin
    sin(margin).
    """
    sine = (1 - cosine.square()).clamp_min(SMALLEST_SQUARED_SINE).sqrt()
    moved = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), moved, cosine - margin * math.sin(margin))
