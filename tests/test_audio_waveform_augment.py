"""Augmentation of waveforms, against what it claims: convolution, energy, ratios, keys; and the change of
speed against closed forms.
"""

import numpy as np
import pytest
import scipy.signal
import torch

from pydino.audio.speed import SpeedChanger, rational
from pydino.audio.waveform_augment import WaveformAugmentConfig, WaveformAugmenter
from pydino.base import UserError

BATCH, VIEWS, CONTEXT, LENGTH, ROOM = 300, 2, 300, 1500, 250
VISITS, HASHES = np.zeros(BATCH, dtype=np.int64), np.arange(BATCH, dtype=np.uint64) * np.uint64(10**15 + 7)


class WaveformPool:
    """Recordings (R, S), from which runs are taken at the drawn position; records the requests."""

    def __init__(self, recordings):
        self.recordings = recordings

    def take(self, which, where, length):
        rows = np.floor(which * len(self.recordings)).astype(int)
        first = np.floor(where * (self.recordings.shape[1] - length + 1)).astype(int)
        return torch.stack([self.recordings[r, f : f + length] for r, f in zip(rows, first, strict=True)])


class AugmentationData:
    rir_length = ROOM

    def __init__(self, *kinds, rirs=("small", "large")):
        generator = torch.Generator().manual_seed(0)
        self.noises = {
            k: WaveformPool((torch.randn(3, 4000, generator=generator) * 500).to(torch.int16)) for k in kinds
        }
        decay = torch.exp(-torch.arange(ROOM) / 40)
        self.rirs = {
            name: WaveformPool((torch.randn(4, ROOM, generator=generator) * decay).half()) for name in rirs
        }


def augment(augmentation_data, context=CONTEXT, seed=0, **options):
    """Crops before (N, C + L) and after (N, L), float64, and the draws."""
    made = WaveformAugmenter(WaveformAugmentConfig(**options), augmentation_data, 16000, seed, "cpu")
    draws = made.draws(VISITS, HASHES, np.arange(VIEWS))
    torch.manual_seed(0)
    waves = torch.randn(VIEWS * BATCH, context + LENGTH) * 1000
    return waves.double(), made(waves.clone(), draws, context).double(), draws


def energy(x):
    return (x**2).sum(1)


def test_with_everything_off_nothing_happens():
    before, after, _ = augment(AugmentationData())
    assert torch.equal(before[:, CONTEXT:], after)


@pytest.mark.parametrize("context", [CONTEXT, 0, 100])
def test_reverberation_is_the_convolution_and_keeps_the_energy(context):
    augmentation_data = AugmentationData()
    before, after, draws = augment(augmentation_data, context, reverberation_probability=0.5)
    done = draws[:, 0] < 0.5
    assert torch.equal(after[~done], before[~done, context:])
    used = set()
    for row in np.flatnonzero(done)[:80]:
        name = ("small", "large")[int(draws[row, 1] * 2)]
        response = augmentation_data.rirs[name].recordings[int(draws[row, 2] * 4)].double().numpy()
        wet = np.convolve(before[row].numpy(), response)[context : context + LENGTH]
        wet *= np.sqrt(energy(before[[row], context:]).item() / np.sum(wet**2))
        assert np.abs(after[row].numpy() - wet).max() < 0.02
        used.add((name, int(draws[row, 2] * 4)))
    assert len(used) == 8


def test_rooms_are_drawn_list_by_list():
    config = WaveformAugmentConfig(reverberation_probability=1.0, rirs=["large"])
    augmentation_data = AugmentationData()
    augmentation_data.rirs["small"].take = None  # would fail
    WaveformAugmenter(config, augmentation_data, 16000, 0, "cpu")(
        torch.randn(4, 400), np.random.default_rng(0).random((4, 30)), 100
    )


@pytest.mark.parametrize("kind", ["noise", "music", "babble"])
def test_noise_comes_at_the_drawn_ratio_to_the_reverberated_crop(kind):
    options = {"reverberation_probability": 1.0}
    _, wet, _ = augment(AugmentationData(kind), **options)
    before, after, draws = augment(
        AugmentationData(kind), **options, noise_probability=1.0, **{f"{kind}_snr_db": [-3.0, 12.0]}
    )
    ratio = 10 * torch.log10(energy(wet) / energy(after - wet))
    expected = -3 + 15 * torch.from_numpy(draws[:, 5])
    assert (ratio - expected).abs().max() < 0.01
    assert energy(wet).sub(energy(before[:, CONTEXT:])).abs().max() < 1e-3 * energy(wet).min()


def test_kinds_come_equally_often_and_only_to_the_chosen():
    augmentation_data = AugmentationData("noise", "music", "babble")
    asked = dict.fromkeys(augmentation_data.noises, 0)
    for name, pool in augmentation_data.noises.items():

        def take(which, where, length, name=name, whole=pool.take):
            # of a babble the first speaker is asked for every crop
            asked[name] = max(asked[name], len(which))
            return whole(which, where, length)

        pool.take = take
    before, after, _ = augment(augmentation_data, noise_probability=0.7)
    changed = (before[:, CONTEXT:] != after).any(1).sum().item()
    assert abs(changed / len(after) - 0.7) < 0.06 and sum(asked.values()) == changed
    assert all(abs(number / changed - 1 / 3) < 0.08 for number in asked.values())


def test_babble_is_the_sum_of_so_many_pieces_of_one_level():
    augmentation_data = AugmentationData("babble")
    augmentation_data.noises["babble"].recordings[1] //= 50  # a faint voice is as loud as the others
    before, after, draws = augment(augmentation_data, noise_probability=1.0, babble_speakers=[2, 4])
    added = (after - before[:, CONTEXT:]).numpy()
    seen = set()
    for row in range(60):
        speakers = 2 + int(draws[row, 8] * 3)
        which, where = draws[row, 10 : 10 + 2 * speakers].reshape(-1, 2).T
        pieces = augmentation_data.noises["babble"].take(which, where, LENGTH).double().numpy()
        babble = sum(piece / np.linalg.norm(piece) for piece in pieces)
        cosine = added[row] @ babble / np.linalg.norm(added[row]) / np.linalg.norm(babble)
        assert cosine > 1 - 1e-6
        seen.add(speakers)
    assert seen == {2, 3, 4}


def test_silent_noise_and_silent_crops_stay_finite():
    augmentation_data = AugmentationData("noise", "babble")
    for pool in augmentation_data.noises.values():
        pool.recordings.zero_()
    before, after, _ = augment(augmentation_data, noise_probability=1.0)
    assert torch.equal(before[:, CONTEXT:], after)
    made = WaveformAugmenter(
        WaveformAugmentConfig(1.0, [], 1.0), AugmentationData("noise", "babble"), 16000, 0, "cpu"
    )
    silent = made(
        torch.zeros(VIEWS * BATCH, CONTEXT + LENGTH), made.draws(VISITS, HASHES, np.arange(VIEWS)), CONTEXT
    )
    assert not silent.any()


def test_gain_is_within_its_bounds():
    before, after, _ = augment(AugmentationData(), gain_db=6.0)
    gain = 10 * torch.log10(energy(after) / energy(before[:, CONTEXT:]))
    assert gain.abs().max() < 6.001 and gain.max() > 5.8 and gain.min() < -5.8 and gain.mean().abs() < 0.5


def test_draws_hang_on_seed_visit_utterance_and_view_alone():
    made = WaveformAugmenter(WaveformAugmentConfig(), AugmentationData(), 16000, 0, "cpu")
    draws = made.draws(VISITS, HASHES, np.arange(6)).reshape(6, BATCH, -1)
    some = made.draws(VISITS[:3], HASHES[[9, 4, 200]], np.array([5, 2])).reshape(2, 3, -1)
    assert np.array_equal(some, draws[[5, 2]][:, [9, 4, 200]])
    assert not (made.draws(VISITS + 1, HASHES, np.arange(6)).reshape(draws.shape) == draws).any()
    flat = draws.reshape(6 * BATCH, -1)
    assert np.abs(np.corrcoef(flat.T) - np.eye(flat.shape[1])).max() < 0.12


def test_a_crop_is_the_same_alone_and_among_others():
    augmentation_data = AugmentationData("noise", "music", "babble")
    options = {"reverberation_probability": 0.5, "noise_probability": 0.7, "gain_db": 3.0}
    before, after, draws = augment(augmentation_data, **options)
    made = WaveformAugmenter(WaveformAugmentConfig(**options), augmentation_data, 16000, 0, "cpu")
    for row in (3, 100, 555, 17):
        alone = made(before[[row]].float(), draws[[row]], CONTEXT)
        assert torch.allclose(alone[0].double(), after[row], atol=0.05)


def test_what_is_asked_for_must_be_there():
    with pytest.raises(UserError, match="noise_probability is above 0.*augmentation_data.noise"):
        WaveformAugmenter(WaveformAugmentConfig(noise_probability=0.5), AugmentationData(), 16000, 0, "cpu")
    with pytest.raises(UserError, match="reverberation_probability is above 0.*augmentation_data.rirs"):
        WaveformAugmenter(
            WaveformAugmentConfig(reverberation_probability=0.5), AugmentationData(rirs=()), 16000, 0, "cpu"
        )
    with pytest.raises(UserError, match="'smal'.*did you mean 'small'"):
        WaveformAugmenter(WaveformAugmentConfig(rirs=["smal"]), AugmentationData(), 16000, 0, "cpu")


@pytest.mark.parametrize(
    "name, value",
    [
        ("noise_probability", 1.5),
        ("music_snr_db", [5.0, 3.0]),
        ("babble_speakers", [0, 3]),
        ("gain_db", -1.0),
    ],
)
def test_impossible_values_are_refused(name, value):
    with pytest.raises(ValueError, match=name):
        WaveformAugmentConfig(**{name: value})


# Change of speed.


@pytest.mark.parametrize("factor", [0.9, 0.95, 1.1, 1.25])
@pytest.mark.parametrize("first", [-37, 0, 123])
def test_speed_is_the_tone_read_faster(factor, first):
    changer, count = SpeedChanger(factor), 6000
    span = changer.span(first, count)
    time, wanted = np.arange(span.first, span.first + span.count), (first + np.arange(count)) * factor
    for frequency in (0.005, 0.06, 0.3, 0.42 / max(factor, 1)):  # of the sample rate
        source = torch.from_numpy(np.sin(2 * np.pi * frequency * time)).float()[None]
        made = changer(source, span, count)[0].double().numpy()
        tolerance = 0.01 if frequency > 0.35 else 5e-4
        assert np.abs(made - np.sin(2 * np.pi * frequency * wanted)).max() < tolerance


def test_speeding_up_folds_nothing_back():
    changer = SpeedChanger(1.25)
    span = changer.span(0, 4000)
    # 0.5625 of the rate afterwards: must vanish
    source = np.sin(2 * np.pi * 0.45 * np.arange(span.first, span.first + span.count))
    assert changer(torch.from_numpy(source).float()[None], span, 4000).abs().max() < 2e-3


def test_speed_agrees_with_scipy_on_noise_below_the_cut_off():
    noise = scipy.signal.sosfiltfilt(
        scipy.signal.butter(10, 0.6, output="sos"), np.random.default_rng(0).standard_normal(8000)
    ).copy()
    changer = SpeedChanger(0.9)
    span = changer.span(500, 6000)
    made = (
        changer(torch.from_numpy(noise[span.first : span.first + span.count]).float()[None], span, 6000)[0]
        .double()
        .numpy()
    )
    expected = scipy.signal.resample_poly(noise, 10, 9, window=("kaiser", 12.0))[500:6500]
    assert np.abs(made - expected).max() < 0.01 * np.abs(expected).max()


def test_factors_are_fractions():
    assert (rational(0.9).numerator, rational(0.9).denominator) == (9, 10) and rational(1.0) == 1
    for factor in (0.3, 2.5, 0.90001):
        with pytest.raises(ValueError, match="speed factor"):
            rational(factor)
