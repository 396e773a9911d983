"""Augmentation in the power-mel domain, against what it claims: decay, levels, masks, keys."""

import numpy as np
import pytest
import torch

from pydino.audio import NormalisationConfig, normalise
from pydino.audio.augment import AugmentConfig, PowerMelAugmenter
from pydino.data.view_maker import normalise_batch

QUIET = {
    "reverberation_probability": 0.0,
    "gain_db": 0.0,
    "equaliser_db": 0.0,
    "noise_probability": 0.0,
    "babble_probability": 0.0,
    "time_mask_frames": 0,
    "frequency_mask_bands": 0,
}
BATCH, VIEWS, FRAMES, BANDS = 6, 2, 90, 20
EPOCHS, HASHES = np.zeros(BATCH, dtype=np.int64), np.arange(BATCH, dtype=np.uint64) * np.uint64(10**15 + 7)


def augmenter(seed=0, **options):
    return PowerMelAugmenter(AugmentConfig(**{**QUIET, **options}), BANDS, 0.01, seed, "cpu")


def log_mel():
    torch.manual_seed(0)
    return torch.randn(VIEWS * BATCH, FRAMES, BANDS) * 2 + 10


def augment(seed=0, **options):
    """Power before and after, (N, T, F), and the draws."""
    made = augmenter(seed, **options)
    draws = made.draws(EPOCHS, HASHES, np.arange(VIEWS))
    return log_mel().exp(), made(log_mel(), draws, VIEWS).exp(), draws


def decibel(ratio):
    return 10 * torch.log10(ratio)


def test_with_everything_off_nothing_happens():
    before, after, _ = augment()
    assert torch.allclose(before, after, rtol=1e-5)


def test_reverberation_is_the_exponential_recursion():
    before, after, _ = augment(
        reverberation_probability=1.0, reverberation_seconds=[0.3, 0.3], direct_to_reverberant_db=[5.0, 5.0]
    )
    decay, ratio = 10 ** (-6 * 0.01 / 0.3), 10**-0.5
    x, tail, expected = before.double(), torch.zeros(len(before), BANDS, dtype=torch.float64), []
    for t in range(FRAMES):
        expected.append(x[:, t] + ratio * (1 - decay) / decay * tail)
        tail = decay * (tail + x[:, t])  # sum_{k >= 1} d^k x[t + 1 - k]
    assert torch.allclose(after.double(), torch.stack(expected, 1), rtol=1e-4)
    # The tail of an impulse has r times its energy.
    assert ratio * (1 - decay) / decay * sum(decay**k for k in range(1, 2000)) == pytest.approx(ratio)


@pytest.mark.parametrize("kind, tolerance", [("noise", 0.5), ("babble", 0.01)])
def test_noise_and_babble_come_at_the_level_that_was_asked_for(kind, tolerance):
    before, after, _ = augment(**{f"{kind}_probability": 1.0, f"{kind}_snr_db": [7.0, 7.0]})
    added = (after.double() - before.double()).mean((1, 2))
    assert (decibel(before.double().mean((1, 2)) / added) - 7).abs().max() < tolerance


def test_babble_is_others_of_the_same_view_and_noise_reaches_only_the_chosen():
    before, after, draws = augment(babble_probability=1.0, babble_snr_db=[0.0, 0.0], babble_speakers=1)
    added = (after - before).unflatten(0, (VIEWS, BATCH))
    other = before.unflatten(0, (VIEWS, BATCH)).roll(-1, 1)
    shape = added / added.mean((2, 3), keepdim=True) - other / other.mean((2, 3), keepdim=True)
    assert shape.abs().mean() < 1e-3
    before, after, _ = augment(noise_probability=0.5)
    changed = ~torch.isclose(before, after, rtol=1e-4).all(2).all(1)
    assert 0 < changed.sum() < len(before)


def test_equaliser_and_gain_are_undone_by_mean_normalisation():
    made = augmenter(equaliser_db=4.0, gain_db=6.0)
    changed = made(log_mel(), made.draws(EPOCHS, HASHES, np.arange(VIEWS)), VIEWS)
    assert not torch.allclose(changed, log_mel(), atol=0.5)
    mean = NormalisationConfig(kind="mean")
    assert torch.allclose(normalise_batch(changed, mean), normalise_batch(log_mel(), mean), atol=1e-3)


def test_masks_blank_one_stretch_of_each_axis():
    made = augmenter(time_mask_frames=10, frequency_mask_bands=4)
    draws = made.draws(EPOCHS, HASHES, np.arange(VIEWS))
    blank = made.mask(torch.ones(VIEWS * BATCH, FRAMES, BANDS), draws) == 0
    frames, bands = blank.all(2), blank.all(1)
    assert torch.equal(blank, frames[:, :, None] | bands[:, None, :])
    for mask, longest in ((frames, 10), (bands, 4)):
        assert mask.sum(1).max() <= longest and mask.any()
        assert (mask.int().diff(dim=1) == 1).sum(1).max() <= 1  # begins once at most


def test_draws_hang_on_seed_epoch_hash_and_view_alone():
    made = augmenter()
    draws = made.draws(EPOCHS, HASHES, np.arange(VIEWS)).reshape(VIEWS, BATCH, -1)
    order = np.array([3, 0, 5, 1, 4, 2])
    assert (
        made.draws(EPOCHS, HASHES[order], np.arange(VIEWS)).reshape(VIEWS, BATCH, -1) == draws[:, order]
    ).all()
    assert (made.draws(EPOCHS[:2], HASHES[:2], np.arange(1, 2)) == draws[1, :2]).all()
    for other in (
        augmenter(seed=1).draws(EPOCHS, HASHES, np.arange(VIEWS)),
        made.draws(EPOCHS + 1, HASHES, np.arange(VIEWS)),
    ):
        assert (other.reshape(draws.shape) != draws).mean() > 0.99
    assert abs(draws.mean() - 0.5) < 0.05 and (0 <= draws).all() and (draws < 1).all()


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "mean"},
        {"kind": "mean", "norm_vars": True},
        {"kind": "sliding", "cmn_window": 30, "center": True},
    ],
)
def test_crops_are_normalised_as_utterances_are(options):
    config = NormalisationConfig(**options)
    expected = torch.stack([normalise(x, config) for x in log_mel()])
    assert torch.allclose(normalise_batch(log_mel(), config), expected, atol=1e-4)
