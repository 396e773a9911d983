"""DINO's loss, centre and teacher, and KoLeo, against float64 derivations written out pair by pair."""

import math

import pytest
import torch

from pydino.ssl import DinoLoss, DinoLossConfig, cosine_loss, koleo, make_teacher, update_teacher


def reference_loss(student, teacher, centre, student_temperature, teacher_temperature):
    """The definition, as in the docstring of pydino/ssl/dino.py: a double loop over pairs of views, in
    float64.
    """
    total, pairs = 0.0, 0
    for g in range(len(teacher)):
        for v in range(len(student)):
            if v == g:
                continue
            p = torch.softmax((teacher[g].double() - centre.double()) / teacher_temperature, dim=-1)
            q = torch.softmax(student[v].double() / student_temperature, dim=-1)
            total = total - (p * q.log()).sum(-1).mean()
            pairs += 1
    return total / pairs


@pytest.mark.parametrize("views, num_global, batch, outputs", [(6, 2, 5, 40), (2, 2, 3, 7), (7, 3, 2, 1000)])
def test_loss_and_gradient_equal_the_definition(views, num_global, batch, outputs):
    torch.manual_seed(0)
    student = (torch.rand(views, batch, outputs) * 2 - 1).requires_grad_()  # logits are cosines
    teacher = torch.rand(num_global, batch, outputs) * 2 - 1
    criterion = DinoLoss(DinoLossConfig(), outputs)
    criterion.centre.copy_(torch.randn(outputs) * 0.1)
    hotter = criterion(student, teacher, temperature=0.07)[0].item()
    assert hotter == pytest.approx(
        reference_loss(student, teacher, criterion.centre, 0.1, 0.07).item(), rel=1e-6
    )
    loss, _, _ = criterion(student, teacher)
    (gradient,) = torch.autograd.grad(loss, student)
    expected = reference_loss(student, teacher, criterion.centre, 0.1, 0.04)
    (expected_gradient,) = torch.autograd.grad(expected, student)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(gradient.double(), expected_gradient.double(), atol=1e-7)


def test_a_papers_batch_has_ten_pairs():
    """2 global and 4 local views: 2 x 6 - 2 = 10 pairs; with uniform outputs every pair costs ln K."""
    criterion = DinoLoss(DinoLossConfig(), 16)
    loss, metrics, means = criterion(torch.zeros(6, 3, 16), torch.zeros(2, 3, 16))
    metrics |= criterion.update_centre(means)
    assert loss.item() == pytest.approx(math.log(16), rel=1e-6)
    for name in ("teacher_entropy", "student_entropy", "mean_teacher_entropy"):
        assert metrics[name].item() == pytest.approx(math.log(16), rel=1e-5)
    assert metrics["kl"].item() == pytest.approx(0, abs=1e-5)


def test_mean_teacher_entropy_tells_one_answer_for_all_from_one_each():
    teacher = torch.full((2, 8, 8), -1.0)
    teacher[:, :, 3] = 1.0
    criterion = DinoLoss(DinoLossConfig(), 8)
    assert criterion.update_centre(criterion(torch.zeros(6, 8, 8), teacher)[2])["mean_teacher_entropy"] < 0.01
    each = 2 * torch.eye(8).expand(2, 8, 8) - 1
    _, metrics, means = DinoLoss(DinoLossConfig(), 8)(torch.zeros(6, 8, 8), each)
    metrics |= criterion.update_centre(means)
    assert (
        metrics["mean_teacher_entropy"].item() == pytest.approx(math.log(8), abs=1e-3)
        and metrics["teacher_entropy"] < 0.01
    )


def test_centre_is_a_running_mean_of_the_teachers_logits_used_before_it_is_updated():
    torch.manual_seed(1)
    criterion, expected = (
        DinoLoss(DinoLossConfig(centre_momentum=0.9), 5),
        torch.zeros(5, dtype=torch.float64),
    )
    for _ in range(4):
        teacher = torch.randn(2, 3, 5)
        student = torch.randn(6, 3, 5)
        wanted = reference_loss(student, teacher, expected, 0.1, 0.04).item()
        assert criterion(student, teacher)[0].item() == pytest.approx(wanted, rel=1e-5)
        criterion.update_centre(criterion(student, teacher)[2])
        expected = 0.9 * expected + 0.1 * teacher.double().reshape(-1, 5).mean(0)
    assert torch.allclose(criterion.centre.double(), expected, atol=1e-6)


def test_teacher_follows_parameters_but_not_batch_norm_buffers():
    torch.manual_seed(2)
    student = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5))
    teacher = make_teacher(student)
    assert student[2].p == 0.5 and teacher[2].p == 0
    assert teacher.training and not any(p.requires_grad for p in teacher.parameters())
    start = [p.double().clone() for p in teacher.parameters()]
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn_like(p))
    student(torch.randn(9, 4))
    update_teacher(teacher, student, 0.996)
    for before, t, s in zip(start, teacher.parameters(), student.parameters(), strict=True):
        assert torch.allclose(t.double(), 0.996 * before + 0.004 * s.double(), atol=1e-7)
    assert (teacher[1].running_mean == 0).all() and (student[1].running_mean != 0).any()


def test_koleo_by_hand_and_by_definition():
    # Unit vectors at 0, 60 and 180 degrees: nearest distances 1, 1 and sqrt(3).
    x = torch.tensor([[2.0, 0.0], [0.5, math.sqrt(3) / 2], [-3.0, 0.0]])
    assert koleo(x).item() == pytest.approx(-math.log(math.sqrt(3)) / 3, abs=1e-6)
    torch.manual_seed(3)
    y = torch.randn(20, 8, dtype=torch.float64, requires_grad=True)
    unit = y / y.norm(dim=1, keepdim=True)
    distances = (unit[:, None] - unit[None]).norm(dim=-1) + 10 * torch.eye(20, dtype=torch.float64)
    expected = -distances.min(1).values.log().mean()
    (wanted,) = torch.autograd.grad(expected, y, retain_graph=True)
    (got,) = torch.autograd.grad(koleo(y), y)
    assert koleo(y).item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(got, wanted, atol=1e-5)


def test_koleo_of_equal_embeddings_is_finite():
    x = torch.ones(4, 3, requires_grad=True)
    loss = koleo(x)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all()


def test_cosine_loss_and_gradient_equal_a_loop_over_pairs():
    torch.manual_seed(4)
    student, teacher = torch.randn(5, 3, 7, requires_grad=True), torch.randn(2, 3, 7)
    pairs = [(g, v) for g in range(2) for v in range(5) if v != g]
    expected = sum(
        1 - torch.cosine_similarity(teacher[g].double(), student[v].double()).mean() for g, v in pairs
    ) / len(pairs)
    loss = cosine_loss(student, teacher)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(*(torch.autograd.grad(x, student)[0] for x in (loss, expected)), atol=1e-7)
