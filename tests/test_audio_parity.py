"""Filter banks, cepstra, voice activity and normalisation against numbers from the real Kaldi programs
(fixtures/audio/README.md).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pydino.audio import (
    Fbank,
    FbankConfig,
    Mfcc,
    MfccConfig,
    VadConfig,
    apply_cmvn,
    cmvn_stats,
    energy_vad,
    mean_normalise,
    read_audio,
    select_voiced,
    sliding_mean_normalise,
)

FIXTURES = Path(__file__).parent / "fixtures" / "audio"
KALDI = dict(np.load(FIXTURES / "kaldi.npz"))
TOLERANCES = json.loads((FIXTURES / "tolerances.json").read_text())
WIDE = ["d1_clean", "d2_noise", "d3_silence", "d4_quiet", "d5_dc"]
TINY = [f"tiny{n}" for n in (1, 79, 80, 200, 399, 400, 401, 559, 560, 561)]
STEP = 8  # of the frames that the fixtures keep

FBANK = {
    "fbank80": dict(num_mel_bins=80),
    "fbank80_20_7600": dict(num_mel_bins=80, low_freq=20.0, high_freq=7600.0),
    "fbank40": dict(num_mel_bins=40),
    "fbank80_nosnip": dict(num_mel_bins=80, snip_edges=False),
    "fbank40_energy": dict(num_mel_bins=40, use_energy=True),
    "fbank80_hamming": dict(num_mel_bins=80, window_type="hamming"),
    "fbank40_hanning": dict(num_mel_bins=40, window_type="hanning"),
    "fbank64_8k": dict(num_mel_bins=64, sample_frequency=8000.0),
    "fbank80_magnitude": dict(num_mel_bins=80, use_power=False),
    "fbank23_linear": dict(use_log_fbank=False),
    "fbank23_rect_nodc_nopre": dict(
        window_type="rectangular", remove_dc_offset=False, preemphasis_coefficient=0.0
    ),
    "fbank24_highneg": dict(num_mel_bins=24, low_freq=64.0, high_freq=-400.0),
    "fbank20_energy_windowed": dict(num_mel_bins=20, use_energy=True, raw_energy=False, energy_floor=1.0),
    "fbank23_tiny": {},
    "fbank23_tiny_nosnip": dict(snip_edges=False),
}
MFCC = {
    "mfcc30": dict(num_ceps=30, num_mel_bins=30, low_freq=20.0, high_freq=7600.0),
    "mfcc13": {},
    "mfcc13_c0": dict(use_energy=False),
    "mfcc23_8k": dict(num_ceps=23, sample_frequency=8000.0, high_freq=3700.0),
}


def keys_of(case):
    return TINY if "tiny" in case else ["d6_8k"] if "8k" in case else WIDE


def waveforms(case):
    return [read_audio(str(FIXTURES / "wav" / f"{key}.wav"))[0] for key in keys_of(case)]


def expected(case, key):
    """Kaldi's rows of an utterance, and its number of frames."""
    rows = KALDI[f"{case}/{key}"]
    return rows, int(KALDI.get(f"{case}/{key}#frames", len(rows)))


def almost_constant(waveform, config):
    """Frames whose digits are lost when the mean is subtracted: a deviation below 1e-3 of the mean
    (tolerances.json, trusted).
    """
    padded = np.concatenate([waveform, waveform[::-1]]) if not config.snip_edges else waveform
    begin = 0 if config.snip_edges else config.window_shift // 2 - config.window_size // 2
    count = 1 + (len(waveform) - config.window_size) // config.window_shift
    if not config.snip_edges:
        count = (len(waveform) + config.window_shift // 2) // config.window_shift
    index = begin + np.arange(count)[:, None] * config.window_shift + np.arange(config.window_size)
    frames = padded[np.where(index < 0, -1 - index, index)].astype(np.float64)
    return frames.std(axis=1) < 1e-3 * np.abs(frames.mean(axis=1))


def compare(case, config, features):
    """Hold features of all utterances of a case against Kaldi's, in every way that tolerances.json asks
    for.
    """
    tolerance, errors = TOLERANCES[case], []
    for key, waveform, computed in zip(keys_of(case), waveforms(case), features, strict=True):
        kaldi, frames = expected(case, key)
        assert len(computed) == frames, key
        if not frames:
            continue
        step = STEP if f"{case}/{key}#frames" in KALDI else 1
        error = np.abs(computed.numpy()[::step] - kaldi)
        errors.append(error.ravel())
        assert error.max() <= tolerance["tol_max_abs"], key
        top = kaldi.max(axis=1, keepdims=True)
        if "tol_max_rel_to_frame_max" in tolerance:
            assert (error <= tolerance["tol_max_rel_to_frame_max"] * top).all(), key
        if "tol_max_abs_trusted" in tolerance:
            if case.startswith("fbank"):
                trusted = kaldi > top - (15.0 if getattr(config, "use_power", True) else 7.5)
            else:  # a frame of cepstra is trusted if its log mel energies span less than 18; that needs them
                mel = Fbank(
                    FbankConfig(
                        dither=0.0,
                        num_mel_bins=config.num_mel_bins,
                        low_freq=config.low_freq,
                        high_freq=config.high_freq,
                        sample_frequency=config.sample_frequency,
                    )
                )([waveform])[0][::step]
                trusted = ((mel.amax(1) - mel.amin(1)) < 18).numpy()[:, None] & np.ones_like(
                    kaldi, dtype=bool
                )
            if config.remove_dc_offset and "tiny" not in case:
                trusted &= ~almost_constant(waveform, config)[::step, None]
            assert error[trusted].max() <= tolerance["tol_max_abs_trusted"], key
    if "tol_mean_abs" in tolerance:
        assert np.concatenate(errors).mean() <= tolerance["tol_mean_abs"]


@pytest.mark.parametrize("name", FBANK)
def test_fbank_equals_compute_fbank_feats(name):
    config = FbankConfig(dither=0.0, **FBANK[name])
    compare(f"fbank/{name}", config, Fbank(config)(waveforms(name)))


@pytest.mark.parametrize("name", MFCC)
def test_mfcc_equals_compute_mfcc_feats(name):
    config = MfccConfig(dither=0.0, **MFCC[name])
    compare(f"mfcc/{name}", config, Mfcc(config)(waveforms(name)))


@pytest.mark.parametrize("key", WIDE)
def test_log_energy_equals_the_energy_column(key):
    waveform = read_audio(str(FIXTURES / "wav" / f"{key}.wav"))[0]
    energy = Fbank(FbankConfig(dither=0.0)).with_energy([waveform])[1][0]
    np.testing.assert_allclose(energy, KALDI[f"energy/{key}"], rtol=2e-6)


VAD = {
    "default": {},
    "vox": dict(
        vad_energy_threshold=5.5,
        vad_energy_mean_scale=0.5,
        vad_frames_context=2,
        vad_proportion_threshold=0.12,
    ),
    # 3 of 5 votes: true in float32 only
    "ctx2_prop06": dict(vad_frames_context=2, vad_proportion_threshold=0.6),
    "high": dict(vad_energy_threshold=8.5),
    "absolute": dict(
        vad_energy_threshold=12.0,
        vad_energy_mean_scale=0.0,
        vad_frames_context=5,
        vad_proportion_threshold=0.3,
    ),
}


@pytest.mark.parametrize("name", VAD)
@pytest.mark.parametrize("key", WIDE)
def test_vad_equals_compute_vad_from_our_own_energy(name, key):
    waveform = read_audio(str(FIXTURES / "wav" / f"{key}.wav"))[0]
    for kind, extractor in (
        ("mfcc", Mfcc(MfccConfig(dither=0.0))),
        ("fbank", Fbank(FbankConfig(dither=0.0))),
    ):
        if f"vad/{kind}_{name}/{key}" in KALDI:
            energy = extractor.with_energy([waveform])[1][0]
            np.testing.assert_array_equal(
                energy_vad(energy, VadConfig(**VAD[name])), KALDI[f"vad/{kind}_{name}/{key}"]
            )


def mfcc(name, key):
    return torch.from_numpy(KALDI[f"mfcc/{name}/{key}"])


SLIDING = {
    "slide300c": ("mfcc30", dict(center=True, cmn_window=300)),
    "slide100": ("mfcc30", dict(cmn_window=100)),
    "slide100c": ("mfcc30", dict(cmn_window=100, center=True)),
    "slide60_min20": ("mfcc13", dict(cmn_window=60, min_cmn_window=20)),
    "slide51c_vars": ("mfcc13", dict(norm_vars=True, center=True, cmn_window=51)),
}


@pytest.mark.parametrize("key", WIDE)
@pytest.mark.parametrize("name", SLIDING)
def test_sliding_normalisation_equals_apply_cmvn_sliding(name, key):
    source, options = SLIDING[name]
    kaldi, frames = expected(f"cmvn/{name}", key)
    ours = sliding_mean_normalise(mfcc(source, key), **options)
    assert len(ours) == frames
    assert np.abs(ours.numpy()[::STEP] - kaldi).max() <= TOLERANCES[f"cmvn/{name}"]["tol_max_abs"]


@pytest.mark.parametrize("key", WIDE)
def test_normalisation_over_an_utterance_equals_apply_cmvn(key):
    for name, norm_vars in (("utt_mean", False), ("utt_meanvar", True)):
        ours = mean_normalise(mfcc("mfcc13", key), norm_vars).numpy()[::STEP]
        assert np.abs(ours - KALDI[f"cmvn/{name}/{key}"]).max() <= TOLERANCES[f"cmvn/{name}"]["tol_max_abs"]


def test_stored_statistics_equal_compute_and_apply_cmvn():
    for speaker, keys in {"sA": ["d1_clean", "d3_silence"], "sB": ["d2_noise", "d4_quiet", "d5_dc"]}.items():
        stats = cmvn_stats([mfcc("mfcc13", key) for key in keys])
        np.testing.assert_allclose(stats, KALDI[f"cmvn/stats_spk/{speaker}"], rtol=1e-6, atol=1e-3)
        for key in keys:
            ours = apply_cmvn(mfcc("mfcc13", key), stats, norm_vars=True).numpy()[::STEP]
            assert (
                np.abs(ours - KALDI[f"cmvn/spk_meanvar/{key}"]).max()
                <= TOLERANCES["cmvn/spk_meanvar"]["tol_max_abs"]
            )


@pytest.mark.parametrize("key", WIDE)
def test_voiced_frames_equal_select_voiced_frames(key):
    ours = select_voiced(mfcc("mfcc13", key), torch.from_numpy(KALDI[f"vad/mfcc_high/{key}"]))
    if key == "d4_quiet":  # no voiced frame: Kaldi writes no entry
        assert len(ours) == 0 and f"cmvn/sel_high/{key}" not in KALDI
    else:
        kaldi, frames = expected("cmvn/sel_high", key)
        assert len(ours) == frames
        np.testing.assert_array_equal(ours.numpy()[::STEP], kaldi)
