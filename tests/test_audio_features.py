"""Features: independence of batches, keyed dither, options that check themselves, the same values on a
GPU.
"""

import numpy as np
import pytest
import torch

from pydino.audio import (
    Fbank,
    FbankConfig,
    Mfcc,
    MfccConfig,
    NormalisationConfig,
    VadConfig,
    normalise,
    num_frames,
    select_voiced,
)
from pydino.audio.mel import hertz, mel, mel_weights
from pydino.base import ConfigError, config_from_dict, config_to_dict


def waveforms(*lengths):
    rng = np.random.default_rng(1)
    return [torch.from_numpy((rng.standard_normal(n) * 1000).astype(np.float32)) for n in lengths]


@pytest.mark.parametrize(
    "options", [{}, dict(snip_edges=False), dict(frame_shift=25.0, frame_length=10.0), dict(dither=1.0)]
)
def test_an_utterance_does_not_depend_on_its_batch(options):
    config = FbankConfig(**{"dither": 0.0, "num_mel_bins": 40, **options}, use_energy=True)
    batch, hashes = waveforms(16000, 399, 50001, 400, 8000, 561), [11, 12, 13, 14, 15, 16]
    together, energies = Fbank(config).with_energy(batch, hashes)
    for waveform, key, features, energy in zip(batch, hashes, together, energies, strict=True):
        alone, its_energy = Fbank(config).with_energy([waveform], [key])
        assert features.shape == (num_frames(len(waveform), config), 41)
        assert torch.equal(features, alone[0])  # bit for bit: archives do not depend on the number of jobs
        assert torch.equal(energy, its_energy[0])


def test_shorter_than_a_window_gives_no_frames():
    features, energies = Fbank(FbankConfig(dither=0.0)).with_energy(waveforms(399, 0))
    assert [x.shape for x in features] == [(0, 23), (0, 23)] and [len(e) for e in energies] == [0, 0]
    assert Fbank(FbankConfig(dither=0.0))([]) == []


def test_dither_is_keyed_by_the_utterance_hash_alone():
    long, short = waveforms(160000, 5000)
    fbank = Fbank(FbankConfig(dither=100.0))
    first = fbank([long, short], [7, 8])
    assert torch.equal(fbank([short, long], [8, 7])[1], first[0])
    assert (fbank([long], [9])[0] - first[0]).abs().max() > 0.1
    assert (Fbank(FbankConfig(dither=100.0), seed=1)([long], [7])[0] - first[0]).abs().max() > 0.1


def test_dither_has_its_deviation_and_differs_between_overlapping_windows():
    silence = torch.zeros(160000)
    config = FbankConfig(
        dither=2.0, remove_dc_offset=False, preemphasis_coefficient=0.0, window_type="rectangular"
    )
    energy = Fbank(config).with_energy([silence], [3])[1][0].exp() / 400
    assert abs(energy.mean().sqrt() - 2.0) < 0.02
    centred = energy - energy.mean()
    # shared samples would make it 0.6
    assert abs((centred[1:] * centred[:-1]).mean() / centred.square().mean()) < 0.15


def test_htk_compat_moves_the_first_column_to_the_end():
    waveform = waveforms(16000)
    for kind, options in ((Fbank, FbankConfig), (Mfcc, MfccConfig)):
        plain = kind(options(dither=0.0, use_energy=True))(waveform)[0]
        htk = kind(options(dither=0.0, use_energy=True, htk_compat=True))(waveform)[0]
        torch.testing.assert_close(htk, plain.roll(-1, dims=1))
    plain, htk = (
        Mfcc(MfccConfig(dither=0.0, use_energy=False, htk_compat=flag))(waveform)[0] for flag in (False, True)
    )
    torch.testing.assert_close(htk[:, -1], plain[:, 0] * 2**0.5)


def test_energy_is_that_of_the_windows_and_obeys_its_floor():
    waveform = torch.full((400,), 3.0)
    options = dict(dither=0.0, remove_dc_offset=False)
    assert Fbank(FbankConfig(**options)).with_energy([waveform])[1][0].item() == pytest.approx(
        np.log(9 * 400), rel=1e-6
    )
    silence = [torch.zeros(400)]
    assert Fbank(FbankConfig(**options)).with_energy(silence)[1][0].item() == pytest.approx(
        -15.9424, abs=1e-4
    )
    assert Fbank(FbankConfig(**options, energy_floor=1.0)).with_energy(silence)[1][0].item() == 0.0


def test_subtract_mean():
    features = Fbank(FbankConfig(dither=0.0, subtract_mean=True))(waveforms(16000))[0]
    assert features.mean(dim=0).abs().max() < 1e-4


def test_vtln_moves_the_filters_and_factor_one_does_not():
    def centre(config):
        return (np.arange(256)[:, None] * mel_weights(config)).sum(0) / mel_weights(config).sum(0)

    plain = centre(FbankConfig())
    assert (centre(FbankConfig(vtln_warp=1.1))[5:15] < plain[5:15]).all()
    assert (centre(FbankConfig(vtln_warp=0.9))[5:15] > plain[5:15]).all()
    assert hertz(mel(1234.5)) == pytest.approx(1234.5)


@pytest.mark.parametrize(
    "cls, options, words",
    [
        (FbankConfig, dict(num_mel_bin=80), ["num_mel_bin", "num_mel_bins"]),
        (FbankConfig, dict(num_mel_bins=200), ["num_mel_bins", "too many"]),
        (FbankConfig, dict(high_freq=9000), ["9000", "8000"]),
        (FbankConfig, dict(window_type="blackmann"), ["window_type", "blackman"]),
        (FbankConfig, dict(frame_shift=0.01), ["frame_shift", "milliseconds"]),
        (FbankConfig, dict(frame_length=25.0625, round_to_power_of_two=False), ["frame_length", "odd"]),
        (FbankConfig, dict(vtln_warp=1.2, vtln_low=5), ["vtln_low"]),
        (MfccConfig, dict(num_ceps=30), ["num_ceps", "23"]),
        (VadConfig, dict(vad_proportion_threshold=1.5), ["vad_proportion_threshold"]),
        (NormalisationConfig, dict(cmn_window=0), ["cmn_window"]),
        (NormalisationConfig, dict(kind="slide"), ["sliding"]),
    ],
)
def test_impossible_options_are_refused_by_name(cls, options, words):
    with pytest.raises(ConfigError) as caught:
        config_from_dict(cls, options, "conf/x.yaml")
    for word in ["conf/x.yaml", *words]:
        assert word in str(caught.value)


def test_options_survive_the_way_through_a_file():
    config = MfccConfig(num_ceps=20, snip_edges=False)
    assert config_from_dict(MfccConfig, config_to_dict(config)) == config


def test_normalisation_kinds():
    x = torch.randn(50, 4) + 3
    assert normalise(x, NormalisationConfig()) is x
    assert normalise(x, NormalisationConfig(kind="mean", norm_vars=True)).std(
        dim=0, unbiased=False
    ) == pytest.approx(1.0, abs=1e-5)
    # A centred window longer than the utterance sees all of it.
    whole = normalise(x, NormalisationConfig(kind="sliding", center=True, cmn_window=300))
    torch.testing.assert_close(whole, normalise(x, NormalisationConfig(kind="mean")), rtol=0, atol=1e-6)
    for kind in ("mean", "sliding"):
        assert normalise(x[:0], NormalisationConfig(kind=kind)).shape == (0, 4)


def test_voice_activity_of_another_length_is_refused():
    with pytest.raises(ValueError, match="50 frames.*49"):
        select_voiced(torch.zeros(50, 3), np.ones(49, dtype=np.float32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize(
    "kind, config",
    [
        (Fbank, FbankConfig(dither=1.0, num_mel_bins=80, snip_edges=False)),
        (Mfcc, MfccConfig(dither=0.0)),
        (Fbank, FbankConfig(dither=0.0, use_power=False, use_energy=True, raw_energy=False)),
    ],
)
def test_gpu_gives_the_same_values_whatever_precision_networks_use(kind, config):
    batch, hashes = waveforms(16000, 390, 300001), [1, 2, 3]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        gpu, gpu_energy = kind(config, "cuda").with_energy(batch, hashes)
    finally:
        torch.set_float32_matmul_precision(before)
    cpu, cpu_energy = kind(config).with_energy(batch, hashes)
    for a, b, c, d in zip(gpu, cpu, gpu_energy, cpu_energy, strict=True):
        assert a.device.type == "cuda"
        torch.testing.assert_close(a.cpu(), b, rtol=1e-4, atol=2e-3)
        torch.testing.assert_close(c.cpu(), d, rtol=2e-6, atol=0)
