"""Encoders on padded batches: the valid frames of a row alone decide its embedding, its gradients, and in training the
statistics of batch norms.
"""

import copy

import pytest
import torch
import torch.distributed as dist
from test_models_encoders import built, every_encoder
from torch import nn

from pydino.models import resolve_encoder
from pydino.models.masks import frame_mask, normed
from pydino.models.pooling import AttentivePooling, mean_and_deviation
from pydino.train.synchronised_norm import SynchronisedNorm

BANDS, LENGTH = 20, 64
ODD_AND_EVEN = [23, 33, 40, 47, 63, 64]  # remainders of every stride


def trained_a_little(config):
    """An encoder whose norms have moved from zero: padded zeros would not stay zeros."""
    encoder = built(config, BANDS).train()
    for _ in range(3):
        encoder(torch.randn(6, 50, BANDS) * 2 + 1)
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return encoder


def without_dropout(config):
    return {**config, "dropout": 0.0} if "dropout" in resolve_encoder(config) else config


def padded(lengths, fill):
    rows = [torch.randn(length, BANDS) for length in lengths]
    x = torch.full((len(rows), LENGTH, BANDS), fill)
    for row, values in zip(x, rows, strict=True):
        row[: len(values)] = values
    return rows, x, torch.tensor(lengths)


@every_encoder
@pytest.mark.parametrize("fill", [float("nan"), 100.0])
def test_a_padded_row_has_the_embedding_of_its_valid_frames(config, fill):
    encoder = trained_a_little(config).eval()
    rows, x, frames = padded(ODD_AND_EVEN, fill)
    with torch.no_grad():
        alone = torch.cat([encoder(row.unsqueeze(0)) for row in rows])
        together = encoder(x, frames)
    assert torch.allclose(together, alone, atol=1e-5, rtol=1e-4)


def test_statistics_of_padded_rows():
    rows, x, frames = padded(ODD_AND_EVEN, float("nan"))
    encoder = built({"name": "statistics"}, BANDS)
    alone = torch.cat([encoder(row.unsqueeze(0)) for row in rows])
    assert torch.allclose(encoder(x, frames), alone, atol=1e-5)


@every_encoder
def test_in_training_what_rows_are_padded_with_changes_nothing(config):
    encoder = trained_a_little(without_dropout(config))
    _, x, frames = padded(ODD_AND_EVEN, 0.0)
    longer = torch.cat([x, torch.full((len(x), 24, BANDS), 7.0)], dim=1)
    results = []
    for batch in (x, longer):
        model = copy.deepcopy(encoder)
        y = model(batch, frames)
        (y * torch.linspace(0, 1, y.numel()).view_as(y)).sum().backward()
        statistics = [b for name, b in model.named_buffers() if "running" in name]
        results.append([y, *statistics, *(p.grad for p in model.parameters())])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=2e-4 * max(1.0, float(a.detach().abs().max())), rtol=1e-3)


@every_encoder
def test_a_mask_of_all_frames_trains_as_none(config):
    encoder = trained_a_little(without_dropout(config))
    x, other = torch.randn(5, 48, BANDS), copy.deepcopy(encoder)
    y, z = encoder(x), other(x, torch.full((5,), 48))
    assert torch.allclose(y, z, atol=1e-4, rtol=1e-4)
    for (name, a), b in zip(encoder.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-4), name


@every_encoder
def test_recomputed_activations_are_the_same_with_a_mask(config):
    encoder = trained_a_little(config)
    other = copy.deepcopy(encoder)
    other.checkpointed = True
    _, x, frames = padded(ODD_AND_EVEN, 3.0)
    gradients = []
    for model in (encoder, other):
        torch.manual_seed(1)
        model(x, frames).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()] + list(model.buffers()))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("shape", [(4, 3, 7), (4, 3, 2, 7)])
def test_masked_norm_is_the_norm_of_the_valid_frames(shape):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    frames = torch.tensor([7, 1, 4, 2])
    mask = frame_mask(frames, 7).view(4, *[1] * (len(shape) - 2), 7)
    kind = {3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    norm, plain = (kind(3).double() for _ in range(2))
    valid = torch.cat([row[..., :n].reshape(3, -1) for row, n in zip(x, frames.tolist(), strict=True)], dim=1)
    expected = plain(valid[None] if len(shape) == 3 else valid[None, :, None])
    y = normed(norm, x, mask)
    chosen = torch.cat(
        [row[..., :n].reshape(3, -1) for row, n in zip(y, frames.tolist(), strict=True)], dim=1
    )
    assert torch.allclose(chosen, expected.reshape(3, -1), atol=1e-10)
    assert torch.allclose(norm.running_mean, plain.running_mean)
    assert torch.allclose(norm.running_var, plain.running_var)
    assert norm.num_batches_tracked == 1
    probe = torch.randn_like(chosen)
    mine, theirs = (
        torch.autograd.grad((out.reshape(3, -1) * probe).sum(), x)[0] for out in (chosen, expected)
    )
    assert torch.allclose(mine, theirs, atol=1e-10)


def a_share(rank, folder):
    """Two of four rows with other numbers of valid frames, in one of two processes."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    x, mask, probe = torch.load(folder / "whole.pt", weights_only=True)
    rows = slice(2 * rank, 2 * rank + 2)
    norm, x = SynchronisedNorm(3).double(), x[rows].clone().requires_grad_()
    y = normed(norm, x, mask[rows])
    (y * probe[rows]).sum().backward()
    torch.save([y.detach(), x.grad, norm.running_mean, norm.running_var], folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_masked_norm_of_two_processes(tmp_path):
    torch.manual_seed(0)
    x, probe = torch.randn(2, 4, 3, 7, dtype=torch.float64)
    mask = frame_mask(torch.tensor([7, 1, 4, 2]), 7).unsqueeze(1)
    torch.save([x, mask, probe], tmp_path / "whole.pt")
    torch.multiprocessing.spawn(a_share, (tmp_path,), nprocs=2)
    norm, x = nn.BatchNorm1d(3).double(), x.requires_grad_()
    y = normed(norm, x, mask)
    (y * probe).sum().backward()
    shares = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert torch.allclose(torch.cat([share[0] for share in shares]), y)
    assert torch.allclose(torch.cat([share[1] for share in shares]), x.grad)
    for share in shares:
        assert torch.allclose(share[2], norm.running_mean) and torch.allclose(share[3], norm.running_var)


def test_pooling_weighs_valid_frames_alone():
    torch.manual_seed(0)
    x, frames = torch.randn(3, 4, 9), torch.tensor([9, 1, 5])
    mask = frame_mask(frames, 9).unsqueeze(1)
    pooling = AttentivePooling(4, 3).eval()
    for pool in (pooling, lambda x, mask: mean_and_deviation(x, mask=mask)):
        alone = torch.cat([pool(row[None, :, :n], None) for row, n in zip(x, frames.tolist(), strict=True)])
        assert torch.allclose(pool(x, mask), alone, atol=1e-6)
