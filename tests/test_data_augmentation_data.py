"""The augmentation data: its content, which is a function of the step, and its error messages."""

import numpy as np
import pytest
import soundfile
import torch

from pydino.audio import FbankConfig
from pydino.base import UserError
from pydino.data import augmentation_data as bank_module
from pydino.data.augmentation_data import AugmentationData, AugmentationDataConfig, _share
from pydino.data.waveform_pool import WaveformPool, runs

RATE = 16000
OPTIONS = FbankConfig(dither=0.0, allow_downsample=True)


def write_list(folder, name, recordings, rate=RATE, channels=1):
    """A wav.scp of recordings (S,) in -1 to 1 and the path of it."""
    lines = []
    for number, samples in enumerate(recordings):
        path = folder / f"{name}{number}.wav"
        soundfile.write(
            path, np.stack([samples] * channels, 1) * np.linspace(1, 0.5, channels), rate, subtype="PCM_16"
        )
        lines.append(f"{name}-{number} {path}\n")
    (folder / f"{name}.scp").write_text("".join(lines))
    return str(folder / f"{name}.scp")


def ramp(first, samples):
    """Integers from ``first`` on, as fractions of full scale: the value of a sample is its index."""
    return (first + np.arange(samples)) / 32768


def make(config, longest=0.05, seed=0, options=OPTIONS):
    return AugmentationData(config, options, longest, seed, "cpu")


def uniform(n, seed=0):
    return np.random.default_rng(seed).random(n)


def test_all_is_held_where_it_fits_and_runs_are_of_one_recording(tmp_path):
    lengths = (5000, 300, 2400)
    config = AugmentationDataConfig(
        noise=write_list(tmp_path, "n", [ramp(10000 * i, n) for i, n in enumerate(lengths)])
    )
    augmentation_data = make(config)
    augmentation_data.advance(0)
    taken = augmentation_data.noises["noise"].take(uniform(600), uniform(600, 1), 800)
    assert taken.dtype == torch.int16 and taken.shape == (600, 800)
    which = (taken[:, 0] // 10000).long()
    assert (which.bincount() - 200).abs().max() < 50  # each recording as often as the others
    for number, length in enumerate(lengths):
        mine = taken[which == number].long() - 10000 * number
        place = mine[:, :1]
        if length >= 800:
            assert torch.equal(mine, place + torch.arange(800)) and place.min() < 0.02 * length
            assert 0.97 * (length - 800) < place.max() <= length - 800
        else:
            assert torch.equal(mine, (place + torch.arange(800)) % length) and place.max() > 0.9 * length


def test_responses_begin_with_the_direct_path_at_one_and_end_with_the_longest(tmp_path):
    response = np.concatenate([np.zeros(37), [-0.4], 0.2 * 0.999 ** np.arange(20000)])
    short = np.concatenate([np.zeros(5), [0.3, 0.1]])
    config = AugmentationDataConfig(
        rirs={"small": write_list(tmp_path, "r", [response, short], channels=3)}, rir_seconds=0.25
    )
    augmentation_data = make(config)
    assert augmentation_data.rir_length == 4000
    taken = augmentation_data.rirs["small"].take(np.array([0.0, 0.6]), np.zeros(2), 4000).float()
    assert taken[0, 0] == 1 and taken[1, 0] == 1
    assert torch.allclose(
        taken[0, 1:], torch.from_numpy(-0.5 * 0.999 ** np.arange(3999)).float(), rtol=2e-3, atol=1e-4
    )
    assert taken[1, 1].item() == pytest.approx(1 / 3, abs=1e-3) and not taken[1, 2:].any()


def test_other_rates_are_resampled_where_that_is_allowed(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
    config = AugmentationDataConfig(music=write_list(tmp_path, "m", [tone], rate=48000))
    taken = make(config).noises["music"].take(np.zeros(1), np.zeros(1), 1000)[0].double() / 32768
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(1000) / RATE)
    assert np.abs(taken.numpy() - expected)[100:].max() < 1e-3
    with pytest.raises(UserError, match="48000 Hz, but.*16000.*allow_downsample"):
        make(config, options=FbankConfig(dither=0.0))


@pytest.fixture
def large(tmp_path):
    """Lists that do not fit: noise of 10 recordings, 800 kB, and 60 responses, 240 kB, into 400 kB."""
    rng = np.random.default_rng(0)
    noise = write_list(tmp_path, "n", [rng.uniform(-0.5, 0.5, 40000) for _ in range(10)])
    speech = write_list(tmp_path, "s", [rng.uniform(-0.5, 0.5, 3000)])
    rirs = write_list(tmp_path, "r", [np.array([1.0, 0.01 * i]) for i in range(60)])
    return AugmentationDataConfig(
        noise=noise,
        speech=speech,
        rirs={"small": rirs},
        gigabytes=4e-4,
        refresh_steps=10,
        rir_seconds=0.125,
    )


def content(augmentation_data):
    """What could be taken at this moment."""
    noise = augmentation_data.noises["noise"].take(uniform(40), uniform(40, 1), 700)
    rirs = augmentation_data.rirs["small"].take(uniform(40), uniform(40), augmentation_data.rir_length)[:, 1]
    return noise, rirs


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_what_is_held_is_a_function_of_the_step(large, monkeypatch):
    monkeypatch.setattr(bank_module, "PIECE_SECONDS", 0.5)
    walking, seen = make(large), []
    for step in range(0, 40, 5):
        walking.advance(step)
        seen.append(content(walking))
    for one, other in ((0, 1), (2, 3), (6, 7)):
        assert same(seen[one], seen[other])  # nothing changes within a generation
    for one, other in ((1, 2), (3, 4), (5, 6)):
        assert not any(torch.equal(a, b) for a, b in zip(seen[one], seen[other], strict=True))
    jumping = make(large)
    for index in (6, 0, 4):
        jumping.advance(5 * index)
        assert same(content(jumping), seen[index])
    other_seed = make(large, seed=1)
    other_seed.advance(0)
    assert not same(content(other_seed), seen[0])
    assert not walking.noises["babble"].rotates  # it is small, and fits


def test_a_choice_fits_into_half_its_share_and_takes_every_recording_before_any_again(large, monkeypatch):
    monkeypatch.setattr(bank_module, "PIECE_SECONDS", 0.5)
    pool = make(large).noises["noise"]
    assert pool.rotates
    for generation in range(4):
        chosen = pool.chosen(generation)
        times = np.unique([piece.path for piece in chosen], return_counts=True)[1]
        assert times.max() - (times.min() if len(times) == 10 else 0) <= 1
        assert all(0 <= piece.first <= 40000 - piece.length for piece in chosen)
        # half a second each, and half of a quarter of the budget or so
        assert 4 < len(chosen) <= 1e5 / (8000 * 2)
    starts = {piece.first for generation in range(4) for piece in pool.chosen(generation)}
    assert len(starts) > 10


def test_the_next_generation_is_read_while_this_one_is_in_use(large, monkeypatch):
    monkeypatch.setattr(bank_module, "PIECE_SECONDS", 0.5)
    load, loaded = WaveformPool.load, []
    monkeypatch.setattr(
        WaveformPool,
        "load",
        lambda self, generation, *a, **k: (loaded.append(generation), load(self, generation, *a, **k)),
    )
    augmentation_data = make(large)
    loaded.clear()
    augmentation_data.advance(0)
    before = content(augmentation_data)
    augmentation_data._next.wait()
    # two pools; the next generation is there, and this one untouched
    assert loaded == [0, 0, 1, 1] and same(content(augmentation_data), before)
    augmentation_data.advance(10)
    augmentation_data._next.wait()
    assert loaded == [0, 0, 1, 1, 2, 2]


def test_errors_of_the_reading_thread_come_out_at_the_swap(large, monkeypatch):
    monkeypatch.setattr(bank_module, "PIECE_SECONDS", 0.5)
    augmentation_data = make(large)
    augmentation_data.advance(0)
    augmentation_data._next.wait()
    for line in open(large.noise, encoding="utf-8"):
        open(line.split()[1], "wb").close()
    augmentation_data.advance(10)  # was read before they broke
    with pytest.raises(UserError, match="empty"):
        augmentation_data.advance(20)


def test_shares_of_the_budget():
    assert _share({"a": 10, "b": 100, "c": 1000}, 90) == {"a": 10, "b": 40, "c": 40}
    assert _share({"a": 10, "b": 20}, 90) == {"a": 10, "b": 20}


def test_runs_are_gathered_by_row():
    samples = torch.arange(50, dtype=torch.int16)
    assert torch.equal(
        runs(samples, np.array([0, 43, 7]), 7), torch.stack([samples[:7], samples[43:], samples[7:14]])
    )


@pytest.mark.parametrize("name", ["noise", "rirs"])
def test_messages_about_lists(tmp_path, name):
    def of(path):
        return (
            AugmentationDataConfig(noise=str(path))
            if name == "noise"
            else AugmentationDataConfig(rirs={"small": str(path)})
        )

    what = {"noise": "noise", "rirs": r"rirs\.small"}[name]
    with pytest.raises(UserError, match=f"augmentation_data.{what}.*missing.scp"):
        make(of(tmp_path / "missing.scp"))
    (tmp_path / "empty.scp").write_text("")
    with pytest.raises(UserError, match=f"augmentation_data.{what}.*empty"):
        make(of(tmp_path / "empty.scp"))
    (tmp_path / "pipe.scp").write_text("a sox a.wav -t wav - |\n")
    with pytest.raises(UserError, match="not a plain file"):
        make(of(tmp_path / "pipe.scp"))
    (tmp_path / "noise.txt").write_text("no audio")
    (tmp_path / "bad.scp").write_text(f"a {tmp_path / 'noise.txt'}\n")
    with pytest.raises(UserError, match=r"noise\.txt"):
        make(of(tmp_path / "bad.scp"))


def test_a_budget_for_less_than_two_pieces_is_refused(large):
    large.gigabytes = 1e-5
    with pytest.raises(UserError, match="gigabytes: 1e-05.*too little"):
        make(large)
    with pytest.raises(ValueError, match="refresh_steps must be above 0"):
        AugmentationDataConfig(refresh_steps=0)


def test_more_than_the_longest_cannot_be_had(tmp_path):
    augmentation_data = make(AugmentationDataConfig(noise=write_list(tmp_path, "n", [ramp(0, 5000)])))
    with pytest.raises(ValueError, match="samples exceed the"):
        augmentation_data.noises["noise"].take(np.zeros(1), np.zeros(1), 3000)
