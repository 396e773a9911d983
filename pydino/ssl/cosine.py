"""Cosine regulariser of DINO: the student's embedding of a view should have the direction of the teacher's
embedding of another view.

The regulariser of the papers' successor (hyperion, recipe ssl.v1, configuration v1.2.2): over the pairs of
DINO's loss, C = 1/P sum_{g in globals} sum_{v in views, v != g} mean_b (1 - cos(t_gb, s_vb)).
"""

import torch
import torch.nn.functional as F


def cosine_loss(student: torch.Tensor, teacher: torch.Tensor, shared: bool = True) -> torch.Tensor:
    """Return C, a scalar in [0, 2], of student embeddings (V, B, D), globals first, and the teacher's (G, B,
    D), without gradient. Where the two do not share the global views (``shared``), all pairs count.
    """
    s, t = F.normalize(student.float(), dim=-1), F.normalize(teacher.float(), dim=-1)
    if not shared:
        return 1 - (t.sum(0) * s.sum(0)).sum(-1).mean() / (len(t) * len(s))
    same_view = (t * s[: len(t)]).sum((0, -1))
    cosines = (t.sum(0) * s.sum(0)).sum(-1) - same_view
    return 1 - cosines.mean() / (len(t) * (len(s) - 1))
