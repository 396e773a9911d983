"""Additive angular margin: against the angles themselves in float64, its gradient, and where it must not
break.
"""

import math

import numpy as np
import pytest
import torch

from pydino.models import AamSoftmax
from pydino.models.margin import with_margin


def by_angles(x, weight, labels, scale, margin):
    """The definition, in angles and one utterance after the other."""
    logits = np.empty((len(x), len(weight)))
    for b, k in np.ndindex(*logits.shape):
        theta = math.acos(np.clip(x[b] @ weight[k] / np.linalg.norm(x[b]) / np.linalg.norm(weight[k]), -1, 1))
        logits[b, k] = math.cos(theta)
        if k == labels[b]:
            past = theta + margin >= math.pi
            logits[b, k] = math.cos(theta) - margin * math.sin(margin) if past else math.cos(theta + margin)
    return scale * logits


@pytest.mark.parametrize("margin", [0.0, 0.2, 0.5])
def test_logits_are_those_of_the_angles(margin):
    torch.manual_seed(0)
    layer = AamSoftmax(5, 7, scale=20, margin=margin).double()
    x, labels = torch.randn(9, 5).double() * 3, torch.arange(9) % 7
    x[0] = -2 * layer.weight[0].detach() + 0.05 * x[0]  # an angle close to pi: past pi - m
    expected = by_angles(x.numpy(), layer.weight.detach().numpy(), labels.tolist(), 20, margin)
    np.testing.assert_allclose(layer(x, labels).detach().numpy(), expected, atol=1e-9)
    np.testing.assert_allclose(layer(x, labels, 0.0).detach() / 20, layer.cosines(x).detach(), atol=1e-9)


def test_gradient_is_that_of_differences():
    torch.manual_seed(1)
    layer = AamSoftmax(4, 6).double()
    x, labels = torch.randn(5, 4, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 2, 3, 5])
    with torch.no_grad():
        x[1] = -layer.weight[1] + 0.1 * x[1]  # past pi - m too
        x[2] = layer.weight[2] + 0.1 * x[2]
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(layer, {"weight": w}, (x, labels)), (x, layer.weight)
    )


def test_the_right_class_only_gets_worse_with_the_angle():
    angles = torch.linspace(0, math.pi, 2001, dtype=torch.float64)
    for margin in (0.1, 0.3, 1.0):
        assert (with_margin(angles.cos(), margin).diff() < 1e-5).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_embeddings_along_a_class_have_finite_gradients(sign):
    torch.manual_seed(2)
    layer = AamSoftmax(6, 3)
    x = (sign * 7 * layer.weight.detach()).requires_grad_()
    loss = torch.nn.functional.cross_entropy(layer(x, torch.arange(3)), torch.arange(3))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all() and torch.isfinite(layer.weight.grad).all()


def test_bfloat16_embeddings_give_float32_logits():
    torch.manual_seed(3)
    layer = AamSoftmax(8, 5)
    x, labels = torch.randn(4, 8).bfloat16(), torch.tensor([0, 1, 2, 3])
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer(x, labels)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, layer(x.float(), labels))


@pytest.mark.parametrize("options", [{"num_classes": 1}, {"scale": 0}, {"margin": 2.0}, {"margin": -0.1}])
def test_impossible_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AamSoftmax(**{"embedding_dim": 4, "num_classes": 3, **options})


def test_sub_centres_and_hard_negatives_are_those_of_the_angles():
    """Of each class the nearer row counts; the two most similar other classes are nearer by hard_margin."""
    torch.manual_seed(4)
    layer = AamSoftmax(5, 6, 20, 0.2, sub_centres=3, hard_negatives=2, hard_margin=0.06).double()
    x, labels = torch.randn(8, 5).double(), torch.arange(8) % 6
    rows = layer.weight.detach().numpy().reshape(6, 3, 5)
    for margin in (0.2, 0.05):
        logits = layer(x, labels, margin).detach().numpy()
        for b in range(8):
            v = x[b].numpy() / np.linalg.norm(x[b])
            angles = np.arccos((rows @ v / np.linalg.norm(rows, axis=2)).max(1))
            others = np.delete(np.arange(6), labels[b])
            hard = others[np.argsort(angles[others])[:2]]
            angles[labels[b]] += margin
            angles[hard] -= 0.06 * margin / 0.2
            np.testing.assert_allclose(logits[b], 20 * np.cos(angles), atol=1e-9)


def test_classes_start_where_they_are_told_to():
    directions = torch.nn.functional.normalize(torch.randn(4, 8), dim=-1)
    one, two = AamSoftmax(8, 4), AamSoftmax(8, 4, sub_centres=2)
    one.start_at(directions)
    two.start_at(directions)
    assert torch.equal(one.weight, directions)
    rows = two.weight.detach().unflatten(0, (4, 2))
    assert ((rows * directions.unsqueeze(1)).sum(-1) > 0.9).all()
    assert ((rows[:, 0] * rows[:, 1]).sum(-1) < 0.99).all()
