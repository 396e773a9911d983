"""Encoders and head: the papers' parameter counts, shapes, minimum lengths, and messages for a wrong name."""

import pytest
import torch

from pydino.base import UserError
from pydino.models import DinoHead, HeadConfig, build_encoder, mean_and_deviation


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_lresnet34_is_the_papers():
    encoder = build_encoder({"name": "lresnet34"}, 80)
    assert parameters(encoder) == 1_988_912
    assert parameters(encoder.stem) + parameters(encoder.blocks) == 1_333_040
    # stage by stage: strides 1, 2, 2, 2 take 80 bins to 10 and T to T/8, with 128 channels
    x = encoder.blocks(encoder.stem(torch.randn(2, 1, 80, 64)))
    assert x.shape == (2, 128, 10, 8)


def test_papers_head():
    # The papers' 22.09 M count the 65,536 gains too, which are fixed at one and not stored here.
    assert parameters(DinoHead(HeadConfig(), 256)) == 5_247_232 + 16_777_216


def test_head_gives_cosines_and_only_directions_of_prototypes_matter():
    torch.manual_seed(0)
    head = DinoHead(HeadConfig(hidden_dim=16, bottleneck_dim=8, output_dim=12), 4)
    x = torch.randn(5, 4)
    before = head(x)
    assert before.shape == (5, 12) and before.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        head.prototypes.mul_(3)
    assert torch.allclose(head(x), before, atol=1e-6)


@pytest.mark.parametrize("name", ["tdnn", "lresnet34", "statistics"])
def test_shapes_and_least_length(name):
    encoder = build_encoder({"name": name}, 40).eval()
    for frames in (encoder.min_input, 57):
        y = encoder(torch.randn(3, frames, 40))
        assert y.shape == (3, encoder.embedding_dim) and torch.isfinite(y).all()


def test_tdnn_needs_its_least_length():
    encoder = build_encoder({"name": "tdnn"}, 40).eval()
    with pytest.raises(ValueError, match="23 frames"):
        encoder(torch.randn(3, encoder.min_input - 1, 40))


@pytest.mark.parametrize("frames", [23, 24, 25, 60])
def test_tdnn_is_a_chain_of_convolutions(frames):
    torch.manual_seed(0)
    encoder = build_encoder(
        {"name": "tdnn", "channels": 12, "pooled_channels": 20, "embedding_dim": 7}, 9
    ).double()
    x = torch.randn(6, frames, 9, dtype=torch.float64, requires_grad=True)
    y = x.transpose(1, 2)
    for layer in encoder.frames:
        y = torch.nn.functional.batch_norm(
            layer[0](y), None, None, layer[1].weight, layer[1].bias, training=True
        ).relu()
    y = torch.cat([y.mean(-1), (y.var(-1, correction=0) + 1e-5).sqrt()], dim=1)
    expected = encoder.embedding_norm(encoder.embedding(y))
    probe = torch.randn_like(expected)
    inputs = [x, *(p for name, p in encoder.named_parameters() if name != "embedding_norm.bias")]
    gradients = [torch.autograd.grad((output * probe).sum(), inputs) for output in (expected, encoder(x))]
    assert torch.allclose(encoder(x), expected, atol=1e-10)
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-10)


def test_tdnn_is_small():
    assert 300_000 < parameters(build_encoder({"name": "tdnn"}, 80)) < 330_000


def test_pooling_by_hand():
    pooled = mean_and_deviation(torch.tensor([[[1.0, 3.0], [2.0, 2.0]]]))
    assert torch.allclose(pooled, torch.tensor([[2.0, 2.0, 1.0, 0.0]]), atol=4e-3)


@pytest.mark.parametrize("dim", [1, 2])
def test_gradient_of_pooling(dim):
    x = torch.randn(3, 6, 5, requires_grad=True)
    pooled = mean_and_deviation(x, dim)
    expected = torch.cat([x.mean(dim), (x.var(dim, correction=0) + 1e-5).sqrt()], dim=1)
    probe = torch.randn_like(pooled)
    assert torch.allclose(pooled, expected, atol=1e-6)
    mine, autograd = (torch.autograd.grad((y * probe).sum(), x)[0] for y in (pooled, expected))
    assert torch.allclose(mine, autograd, atol=1e-5)


def test_statistics():
    x = torch.randn(2, 50, 3)
    both = build_encoder({"name": "statistics"}, 3)(x)
    assert torch.allclose(both[:, :3], x.mean(1)) and torch.allclose(
        both[:, 3:], x.std(1, correction=0), atol=1e-4
    )
    assert torch.equal(build_encoder({"name": "statistics", "mean": False}, 3)(x), both[:, 3:])


def test_unknown_names_are_named():
    with pytest.raises(UserError, match="did you mean 'lresnet34'"):
        build_encoder({"name": "lresnet43"}, 80)
    with pytest.raises(UserError, match="unknown key 'chanels' .did you mean 'channels'"):
        build_encoder({"name": "tdnn", "chanels": 3}, 80)
