"""Views from audio: the values of the features of the whole utterance, whatever the batch; speed; what
augmentation does to them.
"""

import numpy as np
import pytest
import soundfile
import torch

from pydino.audio import Fbank, FbankConfig, Mfcc, MfccConfig
from pydino.audio.speed import drawn_factors
from pydino.audio.waveform_augment import WaveformAugmentConfig
from pydino.base import UserError
from pydino.data import Batch
from pydino.data.audio_set import AudioSet
from pydino.data.waveform_views import WaveformViews
from pydino.data.waveforms import Waveforms
from pydino.kaldi import ArchiveWriter, write_table

RATE, SHIFT = 16000, 160
PLAIN = WaveformAugmentConfig()
FBANK = {"dither": 0.0, "num_mel_bins": 40, "snip_edges": False}


class NoBank:
    """A bank of nothing."""

    noises, rirs, rir_length = {}, {}, 0

    def advance(self, step):
        pass


class WaveformPool:
    """White noise, or one room impulse response for every draw."""

    def __init__(self, samples):
        self.samples = samples

    def take(self, which, where, length):
        first = np.floor(where * (len(self.samples) - length + 1)).astype(int)
        return torch.stack([self.samples[f : f + length] for f in first.tolist()])


class FullBank(NoBank):
    """Noise, and a room."""

    rir_length = 4000

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        noise = (torch.randn(200000, generator=generator) * 1000).to(torch.int16)
        response = torch.randn(self.rir_length, generator=generator) * torch.exp(
            -torch.arange(self.rir_length) / 800
        )
        self.noises, self.rirs = (
            {"noise": WaveformPool(noise), "babble": WaveformPool(noise)},
            {"small": WaveformPool(response.half())},
        )


EVERYTHING = WaveformAugmentConfig(reverberation_probability=0.6, noise_probability=0.7, gain_db=3.0)


def utterance(samples, seed):
    """Coloured noise whose level changes, so that no frame is like another."""
    noise = np.random.default_rng(seed).standard_normal(samples).cumsum() % 37 - 18
    return (noise * (50 + 40 * np.sin(np.arange(samples) / 3000))).astype(np.int16)


def waveforms(pieces, starts, sizes, dtype=torch.int16):
    lengths = np.array([len(piece) for piece in pieces])
    flat = torch.from_numpy(np.concatenate(pieces)).to(dtype)
    return Waveforms(flat, np.cumsum(lengths) - lengths, lengths, np.array(starts) * SHIFT, np.array(sizes))


def batch(content, hashes=None, step=0):
    hashes = np.arange(len(content.offsets)) + 11 if hashes is None else hashes
    return Batch(step, np.zeros(len(hashes), dtype=np.int64), hashes.astype(np.uint64), content, 0.0)


def views(groups, content, options=None, augmentation_data=None, factors=(1.0,), hashes=None, seed=0):
    made = WaveformViews(
        groups, options or FbankConfig(**FBANK), augmentation_data or NoBank(), list(factors), seed, "cpu"
    )
    return made(batch(content, hashes))


def groups(augment=PLAIN, num_global=2, num_local=1):
    numbers = np.arange(num_global + num_local)
    return [(numbers[:num_global], augment), (numbers[num_global:], augment)]


OPTIONS = [
    FbankConfig(**FBANK),
    FbankConfig(**{**FBANK, "snip_edges": True}),
    FbankConfig(dither=0.0, snip_edges=False, frame_length=20.0, frame_shift=12.5, num_mel_bins=30),
    MfccConfig(dither=0.0, snip_edges=False),
    FbankConfig(dither=0.0, frame_length=10.0, frame_shift=20.0, snip_edges=False),
]


@pytest.mark.parametrize(
    "options",
    OPTIONS,
    ids=lambda o: f"{type(o).__name__}-{o.frame_length:g}-{o.frame_shift:g}-{o.snip_edges}",
)
def test_views_are_the_frames_of_the_whole_utterance(options):
    shift = options.window_shift
    pieces = [
        utterance(n * shift + extra, n) for n, extra in ((200, 0), (161, shift // 3), (200, -shift // 3))
    ]
    # Inner crops, the first frame, the last frame.
    frames = 100 if not options.snip_edges else 90
    starts = np.array([[0, 37, 150], [61, 1, 0], [100, 13, 120]])
    content = waveforms(pieces, starts, [frames, frames, 40])
    content.starts = starts * shift
    extractor = (Mfcc if isinstance(options, MfccConfig) else Fbank)(options)
    whole = extractor([torch.from_numpy(piece.astype(np.float32)) for piece in pieces])
    found = views(groups(), content, options)
    assert [x.shape[1] for x in found] == [frames, 40]
    for view in range(3):
        x = found[view // 2].unflatten(0, (-1, 3))[view % 2]
        for row in range(3):
            expected = whole[row][starts[row, view] :][: x.shape[1]]
            if not options.snip_edges:
                assert len(expected) == x.shape[1]
            assert torch.allclose(x[row, : len(expected)], expected, atol=1e-4), (view, row)


def test_short_utterances_repeat_from_their_beginning_in_whole_frames():
    pieces = [
        utterance(63 * SHIFT + 50, 1),
        utterance(63 * SHIFT - 50, 2),
        utterance(9 * SHIFT, 3),
        utterance(300 * SHIFT, 4),
    ]
    starts = np.array([[0], [40], [8], [0]])
    found = views([(np.arange(1), PLAIN)], waveforms(pieces, starts, [150]))[0]
    whole = Fbank(FbankConfig(**FBANK))([torch.from_numpy(piece.astype(np.float32)) for piece in pieces])
    for row, (features, start) in enumerate(zip(whole, starts[:, 0].tolist(), strict=True)):
        places = (start + np.arange(150)) % len(features)
        seam = (places == len(features) - 1) | (places == 0)
        # where a crop begins at the beginning it is mirrored, as the whole is
        seam[0] = seam[0] and start > 0
        assert seam.mean() < 0.25
        assert torch.allclose(found[row][~seam], features[places[~seam]], atol=1e-4), row


def test_float_samples_and_a_single_short_piece():
    piece = utterance(30 * SHIFT, 5)
    by_type = [
        views([(np.arange(1), PLAIN)], waveforms([piece], [[3]], [100], dtype))[0]
        for dtype in (torch.int16, torch.float32)
    ]
    assert torch.equal(*by_type)
    with torch.autocast("cpu", torch.bfloat16):  # the precision of the network does not reach the features
        assert torch.equal(views([(np.arange(1), PLAIN)], waveforms([piece], [[3]], [100]))[0], by_type[0])


@pytest.mark.parametrize("factors", [(1.0,), (0.9, 1.0, 1.1)])
def test_a_view_does_not_depend_on_its_batch(factors):
    pieces = [utterance(n, n) for n in (40000, 9000, 64000, 20000, 33333, 52000)]
    starts = np.array([[0, 100, 30], [20, 0, 9], [200, 150, 111], [0, 3, 60], [60, 66, 99], [0, 7, 200]])
    hashes = np.array([3, 1, 4, 15, 9, 26])
    together = views(
        groups(EVERYTHING),
        waveforms(pieces, starts, [150, 150, 60]),
        augmentation_data=FullBank(),
        factors=factors,
        hashes=hashes,
    )
    for row in (5, 1, 2):
        content = waveforms([pieces[row]], starts[[row]], [150, 150, 60])
        alone = views(
            groups(EVERYTHING), content, augmentation_data=FullBank(), factors=factors, hashes=hashes[[row]]
        )
        for a, b in zip(alone, together, strict=True):
            assert torch.allclose(a, b.unflatten(0, (-1, 6))[:, row], atol=2e-3)
    plain = views(groups(), waveforms(pieces, starts, [150, 150, 60]), factors=factors, hashes=hashes)
    changed = [(a - b).abs().amax((1, 2)) > 0.5 for a, b in zip(together, plain, strict=True)]
    assert 0 < torch.cat(changed).sum() < 18  # the same draws, so something was done, and not to all


def test_context_sounds_on_in_the_crop():
    """A reverberated crop is what the reverberated utterance has there, as far as the context reaches; before
    the beginning is silence.
    """
    augmentation_data = FullBank()
    piece = utterance(80000, 3)
    augment = WaveformAugmentConfig(reverberation_probability=1.0)
    starts = np.array([[0, 200]])
    found = views(
        [(np.arange(2), augment)], waveforms([piece], starts, [150, 150]), augmentation_data=augmentation_data
    )[0]
    response = augmentation_data.rirs["small"].samples.double().numpy()
    wet = np.convolve(piece, response)[: len(piece)]
    whole = Fbank(FbankConfig(**FBANK))([torch.from_numpy(wet.astype(np.float32))])[0]
    # The level differs: the energy of the crop is kept. What is mirrored at the beginning sounds on for the
    # length of the response.
    for row, start, first in ((0, 0, 28), (1, 200, 0)):
        difference = found[row][first:] - whole[start + first : start + 150]
        assert difference.std() < 1e-3, row


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_moves_a_tone_and_all_views_share_it(factor):
    time = np.arange(5 * RATE) / RATE
    tone = (8000 * np.sin(2 * np.pi * 1500 * time)).astype(np.int16)
    moved = (8000 * np.sin(2 * np.pi * 1500 * factor * time)).astype(np.int16)
    content = waveforms([tone], [[20, 150, 260]], [150, 150, 100])
    found = views(groups(), content, factors=[factor])
    expected = Fbank(FbankConfig(**FBANK))([torch.from_numpy(moved.astype(np.float32))])[0][100]
    for x in found:
        assert (x - expected).exp().sub(1).abs().amax((0, 1))[expected > expected.max() - 8].max() < 0.05


def test_speed_of_a_crop_is_the_source_at_that_time():
    """A click at frame f of the source comes at (f - start) / factor of the crop."""
    factor, start, click = 1.1, 50, 160
    piece = np.zeros(300 * SHIFT, dtype=np.int16)
    piece[click * SHIFT + 80] = 20000
    found = views([(np.arange(1), PLAIN)], waveforms([piece], [[start]], [150]), factors=[factor])[0][0]
    loud = found.mean(1).argmax().item()
    assert abs(loud - (click - start) / factor) <= 1


def test_speeds_are_drawn_by_visit_and_utterance():
    hashes = np.arange(3000, dtype=np.uint64)
    visits = np.zeros(3000, dtype=np.int64)
    drawn = drawn_factors([0.9, 1.0, 1.1], 0, visits, hashes)
    assert all(abs(np.mean(drawn == factor) - 1 / 3) < 0.04 for factor in (0.9, 1.0, 1.1))
    assert np.array_equal(drawn[100:200], drawn_factors([0.9, 1.0, 1.1], 0, visits[:100], hashes[100:200]))
    assert not np.array_equal(drawn, drawn_factors([0.9, 1.0, 1.1], 0, visits + 1, hashes))


@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_from_recordings_with_silence_to_views(tmp_path, factor):
    """AudioSet reads no more than crops need; the views are those of the whole utterance without silence all
    the same.
    """
    rng, options = np.random.default_rng(0), FbankConfig(**FBANK)
    whole, names = [], [f"u{i}" for i in range(4)]
    with ArchiveWriter(tmp_path / "vad.ark", tmp_path / "vad.scp") as vad:
        for i, name in enumerate(names):
            piece = utterance(180000, i)
            soundfile.write(tmp_path / f"{name}.wav", piece, RATE)
            voiced = np.repeat(rng.random(75) < 0.8, 15)
            vad.write(name, voiced.astype(np.float32))
            whole.append(torch.from_numpy(piece.reshape(-1, SHIFT)[voiced].reshape(-1).astype(np.float32)))
    tables = {
        "wav.scp": lambda n: tmp_path / f"{n}.wav",
        "utt2spk": str,
        "utt2hash": lambda n: int(n[1]),
        "utt2num_frames": lambda n: 1125,
    }
    for name, value in tables.items():
        write_table(tmp_path / name, {n: value(n) for n in names})
    dataset = AudioSet(tmp_path, options)
    starts, sizes = rng.integers(0, dataset.lengths.min() - 250, (4, 3)), np.array([200, 200, 90])
    content = dataset.collect(np.arange(4), starts, sizes, np.full(4, factor))
    assert len(content.samples) < sum(map(len, whole))
    everything = Waveforms(
        torch.cat(whole),
        np.cumsum([0, *map(len, whole)])[:-1],
        np.array([*map(len, whole)]),
        starts * SHIFT,
        sizes,
    )
    for augment in (PLAIN, WaveformAugmentConfig(reverberation_probability=1.0)):
        found, expected = (
            views(groups(augment), c, options, FullBank(), [factor]) for c in (content, everything)
        )
        for a, b in zip(found, expected, strict=True):
            assert torch.allclose(a, b, atol=1e-3)


def test_dither_is_refused():
    with pytest.raises(UserError, match="dither: 0"):
        views(groups(), waveforms([utterance(32000, 1)], [[0, 0, 0]], [90, 90, 40]), FbankConfig())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_gpu_gives_the_same_views_and_waits_for_nothing():
    pieces = [utterance(n, n) for n in (40000, 9000, 64000, 20000)]
    content = waveforms(
        pieces, np.array([[0, 100, 30], [20, 0, 9], [200, 150, 111], [0, 3, 60]]), [150, 150, 60]
    )
    factors, options = [0.9, 1.0, 1.1], FbankConfig(**FBANK)
    expected = views(groups(EVERYTHING), content, options, FullBank(), factors)
    augmentation_data = FullBank()
    for pool in (*augmentation_data.noises.values(), *augmentation_data.rirs.values()):
        pool.samples = pool.samples.cuda()
    made = WaveformViews(groups(EVERYTHING), options, augmentation_data, factors, 0, "cuda")
    made(batch(content))  # tables of the Fourier transforms are made at their first use
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.autocast("cuda", torch.bfloat16):
            found = made(batch(content))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a.cpu(), b, atol=5e-3)
