"""Sinkhorn targets and the regularisers of DINO's loss, against their definitions in float64."""

import math

import numpy as np
import pytest
import torch

from pydino.ssl import (
    DinoLoss,
    DinoLossConfig,
    active_dimensions,
    covariance_regulariser,
    dimension_regulariser,
    mean_entropy_gap,
    sinkhorn,
    variance_regulariser,
)


def check_value_and_gradient(term, definition, x):
    """The term in float32 and its definition in float64 have the same value and gradient."""
    mine, reference = x.float().requires_grad_(), x.double().requires_grad_()
    value, expected = term(mine), definition(reference)
    assert value.dtype == torch.float32 and value.item() == pytest.approx(expected.item(), rel=1e-5)
    (gradient,) = torch.autograd.grad(value, mine)
    (wanted,) = torch.autograd.grad(expected, reference)
    assert torch.allclose(gradient.double(), wanted, rtol=1e-3, atol=1e-5 * wanted.abs().max().item())


def test_sinkhorn_equals_a_loop_over_rows_and_columns():
    torch.manual_seed(0)
    p = torch.softmax(torch.randn(2, 6, 5) / 0.3, dim=-1)
    expected = p.double().flatten(0, 1).numpy().copy()
    for _ in range(3):
        for k in range(5):
            expected[:, k] /= 5 * expected[:, k].sum()
        for n in range(12):
            expected[n] /= expected[n].sum()
    assert np.allclose(sinkhorn(p).flatten(0, 1), expected, atol=1e-6)


def test_sinkhorn_uses_all_prototypes_equally_and_keeps_what_tells_views_apart():
    torch.manual_seed(1)
    scores = torch.randn(40, 8) + torch.tensor([6.0] + 7 * [0.0])  # nearly all views prefer the first
    p = torch.softmax(scores, dim=-1)
    q = sinkhorn(p, iterations=200)
    assert p.sum(0)[0] > 30 and torch.allclose(q.sum(0), torch.full((8,), 5.0), atol=1e-3)
    assert torch.allclose(q.sum(1), torch.ones(40), atol=1e-6)
    # rows and columns are scaled, and nothing else: ratios of ratios stay
    ratios = [(x[3, 2] * x[7, 5] / (x[3, 5] * x[7, 2])).item() for x in (p, q)]
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-3)


def test_sinkhorn_is_of_all_processes():
    """Two processes that add up their sums of columns have the rows of one."""
    torch.manual_seed(2)
    p = torch.softmax(3 * torch.randn(12, 6), dim=-1)
    together = sinkhorn(p)
    # what the other process would send in each iteration
    sums, q = [], p
    for _ in range(3):
        sums.append(q[7:].sum(0))
        q = q / q.sum(0)
        q = q / q.sum(1, keepdim=True)
    sent = iter(sums)
    assert torch.allclose(sinkhorn(p[:7], add_up=lambda own: own + next(sent)), together[:7], atol=1e-6)


def test_sinkhorn_of_a_prototype_that_nobody_uses_is_finite():
    p = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    q = sinkhorn(p)
    assert torch.isfinite(q).all() and torch.allclose(q.sum(1), torch.ones(2)) and (q[:, 2] == 0).all()


def test_loss_with_targets_is_their_cross_entropy_and_needs_no_centre():
    """SDPN: one global view, which the student does not see: every local view is a pair."""
    torch.manual_seed(3)
    student, teacher = torch.rand(4, 6, 9) * 2 - 1, torch.rand(1, 6, 9) * 2 - 1
    criterion = DinoLoss(DinoLossConfig(teacher_temperature=0.025, target="sinkhorn"), 9)
    targets = criterion.sinkhorn_targets(teacher, lambda sums: sums)
    expected = sinkhorn(torch.softmax(teacher.double() / 0.025, dim=-1))
    assert torch.allclose(targets, expected.float(), atol=1e-5)
    hotter = criterion.sinkhorn_targets(teacher, lambda sums: sums, 0.05)
    assert torch.allclose(hotter, sinkhorn(torch.softmax(teacher.double() / 0.05, dim=-1)).float(), atol=1e-5)
    loss, metrics, means = criterion(student, teacher, shared=False, targets=targets)
    log_q = torch.log_softmax(student.double() / 0.1, dim=-1)
    pairs = [-(targets[0].double() * log_q[view]).sum(-1).mean() for view in range(4)]
    assert loss.item() == pytest.approx(sum(pairs).item() / 4, rel=1e-5)
    assert metrics["teacher_entropy"].item() == pytest.approx(
        torch.special.entr(targets.double()).sum(-1).mean().item(), rel=1e-5
    )
    assert "centre_norm" not in criterion.update_centre(means) and (criterion.centre == 0).all()


def test_mean_entropy_gap():
    assert mean_entropy_gap(torch.full((8,), 1 / 8)).item() == pytest.approx(0, abs=1e-6)
    assert mean_entropy_gap(torch.eye(8)[2]).item() == pytest.approx(math.log(8))
    torch.manual_seed(4)
    check_value_and_gradient(
        mean_entropy_gap, lambda p: math.log(7) + (p * p.log()).sum(), torch.softmax(torch.randn(7), 0)
    )


def correlations(x):
    """The definition: a double loop over dimensions."""
    total = 0.0
    for i in range(x.shape[1]):
        for j in range(x.shape[1]):
            if i != j:
                total = total + ((x[:, i] @ x[:, j]) / (x[:, i].norm() * x[:, j].norm())) ** 2
    return 0.5 * (x.shape[1] + total).log()


def test_dimension_regulariser_equals_a_loop_over_dimensions():
    torch.manual_seed(5)
    check_value_and_gradient(dimension_regulariser, correlations, torch.randn(9, 5) + 0.3)


def test_dimension_regulariser_has_the_bounds_of_its_docstring_and_no_scale():
    torch.manual_seed(6)
    orthogonal = torch.linalg.qr(torch.randn(20, 6))[0]
    assert dimension_regulariser(orthogonal).item() == pytest.approx(0.5 * math.log(6), abs=1e-5)
    assert dimension_regulariser(torch.ones(20, 6)).item() == pytest.approx(math.log(6), abs=1e-5)
    scaled = dimension_regulariser(orthogonal * torch.logspace(-2, 2, 6))
    assert scaled.item() == pytest.approx(0.5 * math.log(6), abs=1e-5)
    dead = torch.cat([torch.randn(20, 3), torch.full((20, 1), 0.7)], dim=1)
    assert active_dimensions(dead).item() == 0.75


def test_dimension_regulariser_of_a_dead_dimension_is_finite():
    x = torch.cat([torch.randn(6, 2), torch.zeros(6, 1)], dim=1).requires_grad_()
    value = dimension_regulariser(x)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(x.grad).all()


def test_variance_and_covariance_regularisers_equal_their_definitions():
    torch.manual_seed(7)
    x = torch.randn(12, 4) @ torch.randn(4, 4) * torch.tensor([0.2, 0.5, 1.0, 3.0]) + 2

    def variance(x):
        return sum(torch.clamp(1 - (x[:, i].var() + 1e-4).sqrt(), min=0) for i in range(4)) / 4

    def covariance(x):
        c = torch.cov(x.T)
        return sum(c[i, j] ** 2 for i in range(4) for j in range(4) if i != j) / 4

    check_value_and_gradient(variance_regulariser, variance, x)
    check_value_and_gradient(covariance_regulariser, covariance, x)
    assert variance_regulariser(torch.ones(5, 3)).item() == pytest.approx(0.99)  # no infinite gradient at 0
