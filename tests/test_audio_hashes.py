"""Hashes of samples: the same for the same audio in any container, under any name and in any number of jobs; what
stage 2, the tools for data directories and the pre-training directory do with them.
"""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_steps_features import compute, make_data, vad

from pydino.audio import HashingReader
from pydino.base import read_json
from pydino.cli import main
from pydino.kaldi import combine, copy, duplicates, fix, read_audio_hashes, read_table, subset, validate

RATE = 16000
CONFIG = "num_mel_bins: 20\ndither: 0.0\nallow_downsample: true\nallow_upsample: true\n"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/fbank.yaml").write_text(CONFIG)
    (tmp_path / "conf/vad.yaml").write_text("vad_energy_threshold: 1.0\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(seed, seconds=1.0):
    """Samples (N,) int16."""
    return np.random.default_rng(seed).integers(-9000, 9000, int(seconds * RATE)).astype(np.int16)


def write(name, samples, rate=RATE, subtype=None):
    soundfile.write(name, samples, rate, subtype=subtype)
    return name


def expected(samples, rate=RATE):
    """The definition in docs/formats.md."""
    content = struct.pack("<qq", rate, len(samples)) + samples.astype("<i2").tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def test_the_container_does_not_matter_and_the_samples_do(recipe):
    own, other = noise(0), noise(1)
    changed = own.copy()
    changed[-1] ^= 1  # the last sample: it is in no window, and is hashed all the same
    recordings = {
        "a-wav": write("a.wav", own),
        "b-flac": write("b.flac", own),
        "c-24bit": write("c.wav", own.astype(np.int32) << 16, subtype="PCM_24"),
        "d-float": write("d.wav", own.astype(np.float32) / 32768, subtype="FLOAT"),
        "e-8khz": write("e.wav", own, rate=8000),
        "f-other": write("f.wav", other),
        "g-changed": write("g.wav", changed),
        "h-shorter": write("h.wav", own[:-1]),
    }
    assert compute(make_data(recordings)) == 0
    hashes = read_audio_hashes("data/train")
    assert [hashes[key] for key in recordings] == [
        *[expected(own)] * 4,
        expected(own, 8000),
        expected(other),
        expected(changed),
        expected(own[:-1]),
    ]
    assert duplicates(hashes) == [["a-wav", "b-flac", "c-24bit", "d-float"]]


def test_a_segment_and_a_channel_have_the_hash_of_their_own_samples(recipe):
    pieces = [noise(seed, 0.75) for seed in range(3)]
    both = np.stack([np.concatenate(pieces), noise(9, 2.25)], axis=1)
    data = make_data({"whole": write("long.wav", both)})
    Path(data, "segments").write_text("".join(f"s{i} whole {0.75 * i} {0.75 * (i + 1)}\n" for i in range(3)))
    assert compute(data, extra=["--channel", "0"]) == 0
    assert read_audio_hashes(data) == {f"s{i}": expected(piece) for i, piece in enumerate(pieces)}


@pytest.mark.parametrize("rate", [RATE, 24000])
def test_long_utterances_are_hashed_in_parts(recipe, monkeypatch, rate):
    monkeypatch.setattr("pydino.audio.utterances._LONG", 1)
    monkeypatch.setattr("pydino.audio.extractor._PART", 7)
    samples = noise(3, 1.3)
    data = make_data({"a": write("a.wav", samples, rate)})
    assert compute(data) == 0
    assert read_audio_hashes(data) == {"a": expected(samples, rate)}


def test_the_number_of_jobs_does_not_matter_and_what_is_dropped_has_no_hash(recipe):
    recordings = {f"u{i}": write(f"u{i}.wav", noise(i, 0.3)) for i in range(5)}
    data = make_data({**recordings, "gone": "nowhere.wav"})
    assert compute(data, jobs=1, max_drop="0.5") == 0
    one = Path(data, "utt2audiohash").read_text()
    assert compute(data, jobs=3, arks="feats3", max_drop="0.5") == 0
    assert Path(data, "utt2audiohash").read_text() == one
    assert list(read_table(f"{data}/utt2audiohash")) == list(recordings)


def test_samples_are_read_in_order():
    reader = HashingReader(lambda first, last: noise(0)[first:last], RATE, RATE)
    reader.read(0, 10)
    with pytest.raises(ValueError, match="10 comes next"):
        reader.read(11, 20)


def test_samples_beyond_16_bits_are_clipped():
    loud = np.array([40000.0, -40000.0, 0.5, 1.5, -0.5], dtype=np.float32)
    reader = HashingReader(lambda first, last: loud[first:last], len(loud), RATE)
    assert reader.audio_hash() == expected(np.array([32767, -32768, 0, 2, 0]))


def test_the_step_makes_the_table_and_makes_it_again_if_it_is_lost(recipe, capsys):
    data = make_data({"a": write("a.wav", noise(0)), "b": write("b.wav", noise(1))})
    call = ["make-fbank", "--nj", "1", "--fbank-config", "conf/fbank.yaml"]
    call += ["--cmd", str(Path(__file__).parent.parent / "utils/run_local.sh"), data]
    assert main(call) == 0
    table, ingredients = Path(data, "utt2audiohash"), read_json(f"{data}/.done.features")["ingredients"]
    assert not [name for name in ingredients if "audiohash" in name]
    before = table.read_text()
    table.unlink()
    assert main(call) == 0 and "utt2audiohash is missing" in capsys.readouterr().err
    assert table.read_text() == before


def two_speakers(path, hashes):
    """A data directory with no recordings, whose utterances have these hashes."""
    path = Path(path)
    path.mkdir(parents=True)
    keys = [f"{'ab'[i % 2]}-{i}" for i in range(len(hashes))]
    lines = dict(zip(keys, hashes, strict=True))
    for name, value in {"utt2spk": lambda key: key[0], "utt2audiohash": lines.get}.items():
        (path / name).write_text("".join(f"{key} {value(key)}\n" for key in sorted(keys)))
    (path / "spk2utt").write_text(
        "".join(f"{speaker} {' '.join(k for k in sorted(keys) if k[0] == speaker)}\n" for speaker in "ab")
    )
    return path


def test_data_directories_carry_it_like_any_label_map(tmp_path):
    source = two_speakers(tmp_path / "source", [f"{i:016x}" for i in range(6)])
    table = read_table(source / "utt2audiohash")
    copy(source, tmp_path / "copy", utt_prefix="x-", spk_prefix="x-")
    assert read_table(tmp_path / "copy/utt2audiohash") == {f"x-{key}": value for key, value in table.items()}
    combine(tmp_path / "both", [source, tmp_path / "copy"])
    assert len(read_table(tmp_path / "both/utt2audiohash")) == 12
    assert len(duplicates(read_audio_hashes(tmp_path / "both"))) == 6
    (source / "utt2spk").write_text("a-0 a\na-2 a\nb-1 b\n")
    fix(source)
    assert read_table(source / "utt2audiohash") == {key: table[key] for key in ("a-0", "a-2", "b-1")}


def test_validation_reports_duplicates_and_refuses_what_is_no_hash(tmp_path, capsys):
    data = two_speakers(tmp_path / "data", ["0" * 16, "f" * 16, "0" * 16, "1" * 16])
    assert validate(data, feats=False, wav=False) == []
    assert "2 utterances are 1 recordings under several names" in (said := capsys.readouterr().err)
    assert "a-0 a-2" in said
    two_speakers(tmp_path / "wrong", ["0" * 16, "0x" + "1" * 14])
    (error,) = validate(tmp_path / "wrong", feats=False, wav=False)
    assert "16 hexadecimal digits" in error and "b-1" in error


def test_duplicates_come_in_the_order_of_the_table():
    assert duplicates({"a": "1", "b": "2", "c": "1", "d": "3", "e": "2", "f": "1"}) == [
        ["a", "c", "f"],
        ["b", "e"],
    ]
    assert duplicates({"a": "1", "b": "2"}) == [] == duplicates({})


def make_sets():
    """data/train of four recordings, the features of data/test, in which one of them has another name."""
    for name, seeds in (("train", (0, 1, 2, 3)), ("test", (7, 2))):
        recordings = {f"{name}{seed}": write(f"{name}{seed}.wav", noise(seed)) for seed in seeds}
        data = make_data(recordings, name)
        assert compute(data, arks=f"feats/{name}") == 0
    assert vad("data/train") == 0


def test_the_training_directory_has_the_hashes_and_its_mark_does_not(recipe):
    make_sets()
    table = Path("data/train/utt2audiohash")
    aside, call = table.read_text(), ["make-train-set", "--min-duration", "0.1", "data/train", "data/ssl"]
    table.unlink()
    assert main(call) == 0 and not Path("data/ssl/utt2audiohash").exists()
    without = read_json("data/ssl/.done")["ingredients"], Path("data/ssl/feats.scp").stat().st_mtime_ns
    table.write_text(aside)
    assert main(call) == 0 and Path("data/ssl/utt2audiohash").read_text() == aside
    # The directory itself was not made again, and a training in progress goes on.
    assert (
        read_json("data/ssl/.done")["ingredients"],
        Path("data/ssl/feats.scp").stat().st_mtime_ns,
    ) == without


def test_recordings_of_a_test_set_can_be_excluded(recipe, capsys):
    make_sets()
    call = ["make-train-set", "--min-duration", "0.1", "--exclude", "data/test", "data/train", "data/ssl"]
    assert main(call) == 0
    assert list(read_table("data/ssl/feats.scp")) == ["train0", "train1", "train3"]
    assert Path("data/ssl/dropped.txt").read_text() == "train2 in data/test\n"
    assert "or in data/test, are omitted" in capsys.readouterr().err
    table = Path("data/train/utt2audiohash")
    table.write_text("".join(table.read_text().splitlines(keepends=True)[1:]))
    Path("data/ssl/.done").unlink()
    assert main(call) == 1 and "data/train/utt2audiohash is missing or incomplete" in capsys.readouterr().err


def test_a_subset_keeps_its_hashes(recipe):
    data = two_speakers("data/all", [f"{i:016x}" for i in range(6)])
    subset(data, "data/few", count=2, by="first")
    assert len(read_table("data/few/utt2audiohash")) == 2
