"""DINO's head: its options, and that its large softmax is exact whatever the precision of the rest."""

import pytest
import torch
import torch.nn.functional as F

from pydino.base import ConfigError, config_from_dict
from pydino.models import DinoHead, HeadConfig


def dino_loss(student, teacher):
    p = F.softmax(teacher.detach() / 0.04, dim=-1)
    return -(p * F.log_softmax(student / 0.1, dim=-1)).sum(-1).mean()


def test_bfloat16_leaves_the_large_softmax_exact():
    """Against float64 from the bottleneck on, with the papers' number of prototypes, some of which fit
    well.
    """
    torch.manual_seed(0)
    head = DinoHead(HeadConfig(hidden_dim=32, bottleneck_dim=256), 16)
    head.mlp = torch.nn.Identity()
    directions = F.normalize(head.prototypes.detach()[:12], dim=-1)
    student, teacher = (
        F.normalize(directions + 0.05 * torch.randn(12, 256), dim=-1).requires_grad_() for _ in range(2)
    )
    with torch.autocast("cpu", torch.bfloat16):
        logits = [head(x) for x in (student, teacher)]
        products = head.prototypes @ student.T  # what autocast makes of a product
    assert products.dtype == torch.bfloat16 and logits[0].dtype == torch.float32
    loss = dino_loss(*logits)
    gradients = torch.autograd.grad(loss, [student, head.prototypes])

    double = head.double()
    expected = dino_loss(double(student.double()), double(teacher.double()))
    # float32 sums of many small exponentials
    assert abs(loss.item() - expected.item()) < 1e-4 * expected.item()
    for mine, reference in zip(
        gradients, torch.autograd.grad(expected, [student, head.prototypes]), strict=True
    ):
        assert (mine - reference).norm() < 1e-4 * reference.norm()


def test_the_successors_head():
    head = DinoHead(
        HeadConfig(
            hidden_dim=768,
            bottleneck_dim=192,
            output_dim=11,
            activation="swish",
            batch_norm=True,
            dropout=0.1,
        ),
        192,
    )
    kinds = [type(module).__name__ for module in head.mlp]
    assert kinds == ["Linear", "SiLU", "BatchNorm1d", "Dropout"] * 2 + ["Linear"]
    assert head.mlp[4].weight.shape == (768, 768) and head.mlp[8].weight.shape == (192, 768)
    x = torch.randn(6, 192, requires_grad=True)
    head(x).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in [x, *head.parameters()])


def test_names_of_the_papers_head_stay():
    """Checkpoints hold them."""
    names = [f"mlp.{layer}.{name}" for layer in (0, 2, 4) for name in ("weight", "bias")]
    assert sorted(DinoHead(HeadConfig(8, 4, 5), 3).state_dict()) == sorted([*names, "prototypes"])


@pytest.mark.parametrize("options", [{"output_dim": 1}, {"dropout": 1.0}, {"activation": "tanh"}])
def test_impossible_options(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        config_from_dict(HeadConfig, options)
