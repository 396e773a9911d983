"""Additive angular margin softmax, the output layer of the supervised x-vector.

Deng et al. 2019, "ArcFace" (arXiv 1801.07698). With theta_k the angle between an embedding and the weights of
class k, the logit of every class is s cos(theta_k), but s cos(theta_y + m) for the target class y: its angle
must be smaller than the others' by the margin m.

Past theta_y = pi - m the cosine would rise again with the angle. There cos(theta_y) - m sin(m) replaces it,
which keeps decreasing: the paper does not mention this case, but the authors' code does this.

Two additions for labels that are not all right, or classes that are not all of a piece:

* Sub-centres (Deng et al. 2020, "Sub-center ArcFace"): a class has C rows of weights, and its cosine is the
  largest of theirs, so that wrong or unusual utterances may gather at a row of their own.
* Inter-top-k (Zhao et al. 2021, arXiv 2110.05042): of the other classes, the k with the largest cosines get
  s cos(theta_k - m'): they have to be farther away by m' than they are. As in wespeaker, m' rises with m.
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
        sub_centres: C, rows of weights of each class, (K C, D) in all, those of a class one after the other.
        hard_negatives: k; at most K - 1 count.
        hard_margin: m' in radians, where m is the final one.
    """

    def __init__(
        self,
        embedding_dim: int,
        num_classes: int,
        scale: float = 30.0,
        margin: float = 0.3,
        sub_centres: int = 1,
        hard_negatives: int = 0,
        hard_margin: float = 0.0,
    ):
        super().__init__()
        if num_classes < 2:
            raise ValueError(
                f"num_classes must be at least 2, got {num_classes}: one class cannot be classified"
            )
        if scale <= 0:
            raise ValueError(f"scale must be above 0, got {scale}")
        if not 0 <= margin < math.pi / 2:
            raise ValueError(f"margin must be in [0, pi/2) radians, got {margin}")
        if sub_centres < 1 or hard_negatives < 0:
            raise ValueError(
                "sub_centres must be at least 1 and hard_negatives at least 0, got "
                f"{sub_centres} and {hard_negatives}"
            )
        self.scale, self.margin, self.sub_centres = scale, margin, sub_centres
        self.hard_negatives, self.hard_margin = min(hard_negatives, num_classes - 1), hard_margin
        # only the directions of the rows matter
        self.weight = nn.Parameter(F.normalize(torch.randn(num_classes * sub_centres, embedding_dim), dim=-1))

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
        moved = cosines.scatter(1, labels, with_margin(cosines.gather(1, labels), margin))
        hard = self.hard_margin * (margin / self.margin if self.margin else 1.0)
        if self.hard_negatives and hard:
            others = cosines.detach().scatter(1, labels, -torch.inf)
            nearest = others.topk(self.hard_negatives, dim=1).indices
            moved = moved.scatter(1, nearest, nearer(cosines.gather(1, nearest), hard))
        return self.scale * moved

    @torch.no_grad()
    def start_at(self, directions: torch.Tensor) -> None:
        """Let the classes start at ``directions`` (K, D), of length one. Of several rows of a class, each
        gets a random vector of length 0.3 added, or they would stay alike.
        """
        rows = directions.to(self.weight).repeat_interleave(self.sub_centres, dim=0)
        if self.sub_centres > 1:
            generator = torch.Generator().manual_seed(0)
            noise = F.normalize(torch.randn(rows.shape, generator=generator), dim=-1)
            rows = F.normalize(rows + 0.3 * noise.to(rows), dim=-1)
        self.weight.copy_(rows)

    def cosines(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the cosines (B, K) between embeddings (B, D) and classes, float32 even under autocast, for
        classification without a margin.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            embeddings = embeddings.to(torch.promote_types(embeddings.dtype, self.weight.dtype))
            cosines = F.normalize(embeddings, dim=-1) @ F.normalize(self.weight, dim=-1).T
        return cosines if self.sub_centres == 1 else cosines.unflatten(1, (-1, self.sub_centres)).amax(2)


def nearer(cosine: torch.Tensor, margin: float) -> torch.Tensor:
    """Return cos(theta - margin) of cos(theta), elementwise; for angles below the margin too, where it
    falls again: such a class and an embedding are one.
    """
    sine = (1 - cosine.square()).clamp_min(SMALLEST_SQUARED_SINE).sqrt()
    return cosine * math.cos(margin) + sine * math.sin(margin)


def with_margin(cosine: torch.Tensor, margin: float) -> torch.Tensor:
    """Return cos(theta + margin) of cos(theta), elementwise; past pi - margin, cos(theta) - margin
    sin(margin).
    """
    sine = (1 - cosine.square()).clamp_min(SMALLEST_SQUARED_SINE).sqrt()
    moved = cosine * math.cos(margin) - sine * math.sin(margin)
    return torch.where(cosine > -math.cos(margin), moved, cosine - margin * math.sin(margin))
