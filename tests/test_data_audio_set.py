"""Audio of a pre-training directory: the samples that crops need, held against whole recordings read and cut
by hand.
"""

import os
import pickle

import numpy as np
import pytest
import soundfile
import torch

from pydino.audio import Fbank, FbankConfig, needed_samples, num_frames, resample
from pydino.audio.waveform_augment import WaveformAugmentConfig
from pydino.base import UserError, ingredients, out_of_date, write_mark
from pydino.cli import main
from pydino.data import AudioSet, Batch
from pydino.data.augmentation_data import AugmentationData, AugmentationDataConfig
from pydino.data.training_dir import check_current
from pydino.data.waveform_views import WaveformViews
from pydino.kaldi import ArchiveWriter, read_table, write_table

RATE, SHIFT = 16000, 160
OPTIONS = FbankConfig(num_mel_bins=12, snip_edges=False, dither=0.0, allow_downsample=True)
CONFIG = "num_mel_bins: 12\nsnip_edges: false\ndither: 0.0\nallow_downsample: true\n"


def noise(seed, samples):
    return np.clip(np.random.default_rng(seed).normal(size=samples) * 3000, -32768, 32767).astype(np.int16)


class Corpus:
    """A data directory with audio: what utterances are, and what is speech in them, is known here
    independently of the code.
    """

    def __init__(self, folder, silence=True, snip_edges=False):
        self.folder, self.silence = folder, silence
        self.options = FbankConfig(num_mel_bins=12, snip_edges=snip_edges, dither=0.0, allow_downsample=True)
        self.wav_scp, self.segments, self.waveforms, self.voiced = {}, {}, {}, {}
        (folder / "conf").mkdir(parents=True)

    def add(self, key, waveform, rxfilename, rate=RATE, segment=None):
        recording = f"rec-{key}" if segment else key
        self.wav_scp[recording] = str(rxfilename)
        if segment:
            self.segments[key] = f"{recording} {segment[0]} {segment[1]}"
            waveform = waveform[int(segment[0] * rate) : int(segment[1] * rate)]
        self.waveforms[key] = resample(waveform, rate, RATE)

    def file(self, key, samples, suffix="wav", rate=RATE, segment=None, subtype=None):
        waveform = noise(sum(map(ord, key)), samples)
        path = self.folder / f"{key}.{suffix}"
        soundfile.write(path, waveform / 32768 if subtype == "FLOAT" else waveform, rate, subtype=subtype)
        self.add(key, waveform, path, rate, segment)

    def write(self, target, *options):
        frames = {key: num_frames(len(waveform), self.options) for key, waveform in self.waveforms.items()}
        for name in ("feats", "vad"):
            with ArchiveWriter(self.folder / f"{name}.ark", self.folder / f"{name}.scp") as out:
                for key in sorted(frames):
                    draw = np.random.default_rng(len(key) + frames[key])
                    speech = np.repeat(draw.random(frames[key] // 10 + 1) < (0.7 if self.silence else 2), 10)[
                        : frames[key]
                    ]
                    speech[-1] |= "end" in key
                    self.voiced[key] = speech
                    out.write(
                        key,
                        speech.astype(np.float32)
                        if name == "vad"
                        else np.zeros((frames[key], 12), np.float32),
                    )
        tables = {"wav.scp": self.wav_scp, "utt2num_frames": frames, "utt2spk": {key: "s" for key in frames}}
        if self.segments:
            tables["segments"] = self.segments
        for name, table in tables.items():
            write_table(self.folder / name, table)
        (self.folder / "conf/fbank.yaml").write_text(CONFIG)
        (self.folder / "conf/vad.yaml").write_text("vad_energy_threshold: 5.5\n")
        assert main(["make-train-set", "--min-duration", "0", *options, str(self.folder), str(target)]) == 0
        return target

    def speech(self, key):
        """The waveform without silence: by the definition, frame by frame."""
        waveform, last = self.waveforms[key], len(self.voiced[key]) - 1
        kept = [
            waveform[i * SHIFT : None if i == last else (i + 1) * SHIFT]
            for i in np.flatnonzero(self.voiced[key])
        ]
        return np.concatenate(kept)


def keys_of(data, dataset):
    by_hash = {int(value): key for key, value in read_table(data / "utt2hash").items()}
    return [by_hash[int(value)] for value in dataset.hashes]


def piece(batch, row):
    begin = batch.offsets[row]
    return batch.samples[begin : begin + batch.lengths[row]].numpy()


@pytest.fixture
def corpus(tmp_path):
    corpus = Corpus(tmp_path / "source")
    corpus.file("a", 5 * RATE + 37)
    corpus.file("b-end", 4 * RATE + 75, "flac")  # the last frame owns more than a shift
    corpus.file("c-end", 4 * RATE - 75, "flac")  # and less
    corpus.file("d", 3 * RATE)
    return corpus


def check(corpus, data, starts, sizes, factors=None, tolerance=0.0):
    """Every sample from 0.5 s before a crop to half a window behind it is where Waveforms says."""
    dataset = AudioSet(data, corpus.options)
    keys = keys_of(data, dataset)
    batch = dataset.collect(
        np.arange(len(dataset)), np.tile(starts, (len(dataset), 1)), np.array(sizes), factors
    )
    assert (
        batch.offsets == np.concatenate([[0], np.cumsum(batch.lengths)[:-1]])
    ).all() and batch.lengths.sum() == len(batch.samples)
    for row, key in enumerate(keys):
        speech, found = corpus.speech(key), piece(batch, row)
        assert dataset.lengths[row] == corpus.voiced[key].sum()
        factor = 1.0 if factors is None else factors[row]
        for start, size, place in zip(starts, sizes, batch.starts[row], strict=True):
            end = start * SHIFT + int(size * factor * SHIFT) + 200
            if (start + size * factor) > dataset.lengths[row]:
                assert place == start * SHIFT
                np.testing.assert_allclose(found, speech, atol=tolerance)
                continue
            first, last = max(start * SHIFT - RATE // 2, 0), min(end, len(speech))
            shift = place - start * SHIFT
            np.testing.assert_allclose(
                found[first + shift : last + shift], speech[first:last], atol=tolerance
            )
    return batch


@pytest.mark.parametrize(
    "starts, sizes", [([0, 60], [100, 50]), ([90, 10], [20, 20]), ([150, 0], [5, 5]), ([20, 180], [400, 30])]
)
def test_pieces_hold_the_crops_and_what_lies_around_them(corpus, tmp_path, starts, sizes):
    batch = check(corpus, corpus.write(tmp_path / "train"), starts, sizes)
    assert batch.samples.dtype == torch.int16 and (batch.sizes == sizes).all()


def test_a_speed_factor_stretches_what_a_crop_spans(corpus, tmp_path):
    check(
        corpus, corpus.write(tmp_path / "train"), [30, 0], [100, 100], factors=np.array([0.9, 1.1, 1.1, 1.0])
    )


def test_pieces_without_vad_are_the_recordings(corpus, tmp_path):
    corpus.silence = False
    batch = check(corpus, corpus.write(tmp_path / "train", "--keep-silence", "true"), [0, 0], [1000, 100])
    assert not (tmp_path / "train/vad.scp").exists()
    assert len(batch.samples) == sum(map(len, corpus.waveforms.values()))


def test_features_of_a_piece_are_those_of_the_whole(corpus, tmp_path):
    corpus.silence = False
    data = corpus.write(tmp_path / "train")
    dataset = AudioSet(data, OPTIONS)
    batch = dataset.collect(np.arange(4), np.full((4, 1), 120), np.array([60]))
    for row, key in enumerate(keys_of(data, dataset)):
        whole = Fbank(OPTIONS)([corpus.waveforms[key].astype(np.float32)])[0][120:180]
        at = batch.starts[row, 0] // SHIFT
        torch.testing.assert_close(
            Fbank(OPTIONS)([piece(batch, row).astype(np.float32)])[0][at : at + 60], whole, atol=1e-4, rtol=0
        )


def test_views_made_of_pieces_are_the_features_of_the_speech(corpus, tmp_path):
    """From files to the device: the frames of a crop are those of the whole utterance without silence,
    whatever surrounds it.
    """
    corpus.file("e-end", 40 * RATE)
    data = corpus.write(tmp_path / "train")
    dataset, sizes = AudioSet(data, OPTIONS), np.array([120, 40, 40])
    count, groups = len(dataset), [(np.array(numbers), WaveformAugmentConfig()) for numbers in ([0], [1, 2])]
    views = WaveformViews(
        groups, OPTIONS, AugmentationData(AugmentationDataConfig(), OPTIONS, 2.0, 0, "cpu"), [1.0], 0, "cpu"
    )
    room = dataset.lengths[:, None] - sizes
    assert room.min() > 0
    for starts in (np.zeros_like(room), room, np.random.default_rng(0).integers(room + 1)):
        batch = Batch(
            0,
            np.zeros(count, np.int64),
            dataset.hashes,
            dataset.collect(np.arange(count), starts, sizes),
            0.0,
        )
        found = torch.cat([group.reshape(-1, 12) for group in views(batch)])
        whole = [Fbank(OPTIONS)([corpus.speech(key).astype(np.float32)])[0] for key in keys_of(data, dataset)]
        wanted = torch.cat(
            [whole[row][starts[row, view] :][: sizes[view]] for view in range(3) for row in range(count)]
        )
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


def test_far_crops_of_a_long_recording_leave_out_what_is_between(tmp_path):
    corpus = Corpus(tmp_path / "source")
    corpus.file("long", 60 * RATE, "flac")
    corpus.file("long-wav", 60 * RATE)
    batch = check(corpus, corpus.write(tmp_path / "train"), [3000, 100, 150], [100, 100, 100])
    assert batch.lengths.max() < 5 * RATE


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_resampled_parts_equal_the_resampled_whole(tmp_path, rate):
    corpus = Corpus(tmp_path / "source")
    corpus.file("a", int(4.3 * rate), rate=rate, segment=(0, 4.25))
    corpus.file("b-end", int(3.1 * rate), rate=rate, segment=(0.21, 2.9))
    batch = check(corpus, corpus.write(tmp_path / "train"), [100, 30], [50, 40], tolerance=0.01)
    assert batch.samples.dtype == torch.float32


def test_needed_samples_say_what_a_part_hangs_on():
    waveform = np.random.default_rng(0).normal(size=9000).astype(np.float32)
    for rate, to in ((22050, 16000), (8000, 16000), (48000, 16000), (11025, 16000)):
        whole = resample(waveform, rate, to)
        for first, last in ((0, 10), (1234, 2345), (len(whole) - 7, len(whole))):
            begin, end, skip = needed_samples(first, last, len(waveform), rate, to)
            assert end - begin < (last - first) * rate / to + 1000
            np.testing.assert_allclose(
                resample(waveform[begin:end], rate, to)[skip : skip + last - first],
                whole[first:last],
                atol=1e-5,
            )


def test_segments_channels_and_formats_in_one_batch(tmp_path):
    corpus = Corpus(tmp_path / "source")
    corpus.file("a", 4 * RATE, segment=(0.5, 3.25))
    corpus.file("b-end", 4 * RATE, "flac", segment=(1.0, 3.123))
    check(corpus, corpus.write(tmp_path / "ints"), [20, 50], [40, 60])
    corpus.file("c", 3 * RATE, subtype="FLOAT", segment=(0.0, 2.5))
    batch = check(corpus, corpus.write(tmp_path / "train"), [20, 50], [40, 60])
    assert batch.samples.dtype == torch.float32
    stereo = np.stack([noise(1, 3 * RATE), noise(2, 3 * RATE)], axis=1)
    soundfile.write(tmp_path / "stereo.wav", stereo, RATE)
    corpus.add("d", stereo[:, 1], tmp_path / "stereo.wav", segment=(0.0, 3.0))
    data = corpus.write(tmp_path / "train2")
    with pytest.raises(UserError, match="stereo.wav: 2 channels"):
        AudioSet(data, OPTIONS).collect(np.arange(4), np.zeros((4, 1), int), np.array([50]))
    corpus.options.channel = 1
    dataset = AudioSet(data, corpus.options)
    row = keys_of(data, dataset).index("d")
    batch = dataset.collect(np.array([row]), np.zeros((1, 1), int), np.array([10000]))
    assert (piece(batch, 0) == corpus.speech("d")).all()


def test_a_train_set_of_two_sources_keeps_recordings_of_one_name_apart(tmp_path):
    one, two = Corpus(tmp_path / "one"), Corpus(tmp_path / "two")
    one.file("a", 3 * RATE)
    two.file("b-end", 3 * RATE, segment=(0.5, 2.5))
    two.wav_scp = {"a": two.wav_scp["rec-b-end"]}
    two.segments = {"b-end": "a 0.5 2.5"}
    one.write(tmp_path / "unused1")
    two.write(tmp_path / "unused2")
    assert (
        main(
            [
                "make-train-set",
                "--min-duration",
                "0",
                str(tmp_path / "one"),
                str(tmp_path / "two"),
                str(tmp_path / "train"),
            ]
        )
        == 0
    )
    dataset = AudioSet(tmp_path / "train", OPTIONS)
    batch = dataset.collect(np.arange(2), np.zeros((2, 1), int), np.array([1000]))
    for row, key in enumerate(keys_of(tmp_path / "train", dataset)):
        assert (piece(batch, row) == (one if key == "a" else two).speech(key)).all()
    assert len(read_table(tmp_path / "train/wav.scp")) == 2


def test_it_travels_to_other_processes_and_is_compact(corpus, tmp_path):
    data = corpus.write(tmp_path / "train")
    dataset = AudioSet(data, OPTIONS)
    other = pickle.loads(pickle.dumps(dataset))
    arguments = np.arange(4), np.zeros((4, 2), int), np.array([50, 20])
    assert (other.collect(*arguments).samples == dataset.collect(*arguments).samples).all()


def test_names_and_their_order_do_not_matter(corpus, tmp_path):
    """The same hashes under other names, in another order: the same samples."""
    data = corpus.write(tmp_path / "train")
    before = AudioSet(data, OPTIONS).collect(np.arange(4), np.zeros((4, 1), int), np.array([100]))
    names = dict(zip("a b-end c-end d".split(), "z1 y2 x3 w4".split(), strict=True))
    for table in ("wav.scp", "feats.scp", "vad.scp", "utt2num_frames", "utt2hash"):
        write_table(data / table, {names[key]: value for key, value in read_table(data / table).items()})
    write_table(data / "utt2spk", {key: key for key in names.values()})
    write_table(data / "spk2utt", {key: key for key in names.values()})
    after = AudioSet(data, OPTIONS).collect(np.arange(4), np.zeros((4, 1), int), np.array([100]))
    assert (before.samples == after.samples).all() and (before.starts == after.starts).all()


def test_mistakes_speak(corpus, tmp_path):
    data = corpus.write(tmp_path / "train")
    whole = np.arange(4), np.zeros((4, 1), int), np.array([1000])

    def fails(words, options=OPTIONS):
        with pytest.raises(UserError, match=words):
            AudioSet(data, options).collect(*whole)

    fails(
        "16000 Hz, but the features are of 8000 Hz; set 'allow_downsample: true'",
        FbankConfig(sample_frequency=8000, num_mel_bins=12),
    )
    flac = (corpus.folder / "b-end.flac").read_bytes()
    (corpus.folder / "b-end.flac").write_bytes(flac[: len(flac) // 2])
    fails("b-end.flac.*truncated or damaged")
    (corpus.folder / "b-end.flac").write_bytes(flac)
    soundfile.write(corpus.folder / "d.wav", noise(0, 2 * RATE), RATE)
    fails("d.wav: 2.000 s of audio are 200 frames, not the 300")
    os.unlink(corpus.folder / "d.wav")
    fails("cannot read .*d.wav")
    write_table(data / "wav.scp", {**read_table(data / "wav.scp"), "d": "cat x |"})
    fails("--allow-pipes true")
    (data / "wav.scp").unlink()
    fails("no .*wav.scp, which training on audio needs.*stage 3")


def test_a_pipe_runs_where_it_is_allowed(corpus, tmp_path):
    corpus.wav_scp["a"] = f"cat {corpus.folder}/a.wav |"
    data = corpus.write(tmp_path / "train")
    dataset = AudioSet(data, OPTIONS, allow_pipes=True)
    row = keys_of(data, dataset).index("a")
    batch = dataset.collect(np.array([row]), np.zeros((1, 1), int), np.array([1000]))
    assert (piece(batch, 0) == corpus.speech("a")).all()


def test_a_directory_whose_archives_are_made_anew_is_refused(corpus, tmp_path, monkeypatch):
    """--force of stage 2, killed: feats.scp of the training directory still points into archives that are
    half replaced.
    """
    monkeypatch.chdir(tmp_path)
    data = corpus.write(tmp_path / "train")
    features, mark = corpus.folder / ".done.features", data / ".done"
    write_mark(features, {"format version": "1"})
    write_mark(
        mark,
        ingredients(
            version=2, settings={"name": ""}, texts=["source/feats.scp"], after=["source/.done.features"]
        ),
    )
    assert out_of_date(mark) == ""
    check_current(data)
    features.unlink()
    with pytest.raises(UserError, match="source/.done.features is missing: .*finish stage 2"):
        AudioSet(data, OPTIONS)
    write_mark(features, {"format version": "2"})
    assert "has changed" in out_of_date(mark)
    write_mark(features, {"format version": "1"})
    write_table(corpus.folder / "feats.scp", {"a": "elsewhere.ark:2"})
    assert out_of_date(mark) == "source/feats.scp has changed"
    corpus.folder.rename(tmp_path / "moved")
    check_current(data)
