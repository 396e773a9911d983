"""Embedding: of any length, alone or in company, from a file or from stored features, always the same
vector.
"""

import numpy as np
import pytest
import soundfile
import torch
from test_infer_model_folder import TDNN, configuration, tdnn

import pydino
from pydino.audio import extractor, open_channel
from pydino.base import UserError
from pydino.cli import main
from pydino.infer import model as model_module
from pydino.infer import save_model
from pydino.kaldi import read_ark, read_scp_objects
from pydino.models import build_encoder

RATE = 16000


def speech(seconds, seed=0, rate=RATE):
    """Bursts of noise with pauses, (S,) in -1 to 1: something for the VAD to do."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    return (
        rng.normal(size=len(t)) * 0.1 * (np.sin(2 * np.pi * 1.5 * t) > -0.3) + rng.normal(size=len(t)) * 1e-4
    ).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    save_model(path, tdnn(), configuration(), "")
    return path


@pytest.fixture(scope="module")
def model(folder):
    return pydino.load(folder)


def features(frames, seed=0):
    return np.random.default_rng(seed).normal(size=(frames, 20)).astype(np.float32)


def test_company_does_not_matter(model):
    matrices = [features(n, seed) for seed, n in enumerate((300, 41, 300, 7, 1, 555, 41))]
    together = model.embed_features(matrices)
    alone = np.stack([model.embed_features([matrix])[0] for matrix in matrices])
    np.testing.assert_array_equal(together, alone)


def test_batches_of_equal_length_change_nothing_that_matters(model, monkeypatch):
    """What a GPU does, done on the CPU: several utterances of one length go together."""
    matrices = [features(n, seed) for seed, n in enumerate((300, 41, 300, 300, 41, 60))]
    alone = model.embed_features(matrices)
    sizes = []

    def encode(batch):
        sizes.append(len(batch))
        with torch.inference_mode():
            return model.encoder(batch).numpy()

    monkeypatch.setattr(model, "_encode", encode)
    monkeypatch.setattr(model, "device", torch.device("cuda"))
    np.testing.assert_allclose(model.embed_features(matrices), alone, atol=1e-5)
    assert sizes == [2, 1, 3]


def test_a_short_utterance_is_repeated_from_its_start(model):
    least = model.encoder.min_input
    assert least > 4
    short = features(4)
    repeated = np.concatenate([short] * least)[:least]
    np.testing.assert_array_equal(model.embed_features([short]), model.embed_features([repeated]))
    assert np.isfinite(model.embed_features([features(1)])).all()


def test_a_long_utterance_is_the_weighted_mean_of_equal_pieces(model, monkeypatch):
    monkeypatch.setattr(model_module, "MAX_FRAMES", 100)
    long = features(251)
    parts = [long[:84], long[84:168], long[168:]]  # 84, 84, 83
    expected = np.average(model.embed_features(parts).astype(np.float64), axis=0, weights=[84, 84, 83])
    np.testing.assert_allclose(model.embed_features([long])[0], expected, atol=1e-6)


def test_features_of_the_wrong_shape_are_our_mistake(model):
    with pytest.raises(ValueError, match="expected"):
        model.embed_features([np.zeros((10, 19), dtype=np.float32)])


def test_silence_is_removed_before_the_mean_is_taken(model):
    x, voiced = torch.tensor(features(6)), torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0, 0.0])
    kept = x[[0, 1, 4]]
    prepared, any_voiced = model.front_end.prepare(x, voiced)
    torch.testing.assert_close(prepared, kept - kept.mean(dim=0))
    assert any_voiced


def test_the_papers_order_at_test_is_an_option(tmp_path):
    config = configuration()
    config["front_end"]["normalise_after_vad"] = False
    save_model(tmp_path, tdnn(), config, "")
    x, voiced = torch.tensor(features(6)), torch.tensor([1, 1, 0, 0, 1, 0])
    prepared, _ = pydino.load(tmp_path).front_end.prepare(x, voiced)
    torch.testing.assert_close(prepared, (x - x.mean(dim=0))[[0, 1, 4]])


def test_no_voiced_frame_keeps_them_all_and_warns(model, capsys):
    x = torch.tensor(features(6))
    prepared, any_voiced = model.front_end.prepare(x, torch.zeros(6))
    torch.testing.assert_close(prepared, x - x.mean(dim=0))
    assert not any_voiced
    assert np.isfinite(model.embed(np.zeros(RATE, dtype=np.float32), RATE, name="quiet")).all()
    assert "quiet: no voiced frame" in capsys.readouterr().err


def test_the_silence_option_changes_what_is_embedded(model):
    waveform = speech(2)
    assert not np.allclose(model.embed(waveform, RATE), model.embed(waveform, RATE, keep_silence=True))


def test_integers_are_samples_of_16_bits(model):
    waveform = np.round(speech(1) * 32768).astype(np.int16)
    np.testing.assert_array_equal(model.embed(waveform, RATE), model.embed(waveform / 32768, RATE))


@pytest.mark.parametrize(
    "waveform, rate, said",
    [
        (np.zeros((RATE, 2)), RATE, "one channel"),
        (np.full(RATE, np.nan), RATE, "NaN"),
        (np.zeros(10), RATE, "less than one window"),
        (np.zeros(8000), 8000, "allow_upsample"),
        (np.zeros(RATE), 44100, "allow_downsample"),
    ],
)
def test_a_waveform_that_cannot_be_embedded(model, waveform, rate, said):
    with pytest.raises(UserError, match=said):
        model.embed(waveform, rate)


def test_a_higher_rate_is_resampled_where_the_front_end_allows_it(tmp_path):
    config = configuration(encoder={"name": "statistics"}, embedding_dim=40, role="statistics")
    config["front_end"]["features"] |= {"allow_downsample": True, "high_freq": 6000}
    config["front_end"]["normalisation"] = {"kind": "none"}
    save_model(tmp_path, build_encoder({"name": "statistics"}, 20), config, "")
    model = pydino.load(tmp_path)
    t = np.arange(3 * 48000) / 48000
    chord = sum(0.05 * np.sin(2 * np.pi * f * t * (1 + 0.02 * t)) for f in (200, 550, 1400, 3100))
    np.testing.assert_allclose(model.embed(chord, 48000), model.embed(chord[::3], RATE), atol=0.05)


def run(capsys, *arguments):
    status = main(list(map(str, arguments)))
    return status, capsys.readouterr()


def test_the_command_prints_what_the_library_returns(folder, model, tmp_path, capsys):
    paths = [tmp_path / "b.flac", tmp_path / "mit Leerzeichen.wav"]
    for seed, path in enumerate(paths):
        soundfile.write(path, speech(1.5, seed), RATE)
    status, said = run(capsys, "embed", folder, *paths)
    assert status == 0
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines] == ["b", "mit_Leerzeichen"]
    for line, path in zip(lines, paths, strict=True):
        samples, _ = soundfile.read(path, dtype="float32")
        vector = np.array(line[line.index("[") + 1 : line.index("]")].split(), dtype=np.float32)
        np.testing.assert_array_equal(vector, model.embed(samples, RATE))


def test_one_channel_of_many_is_embedded_when_it_is_named(folder, model, tmp_path, capsys):
    wide = np.stack([speech(1.5, 0), speech(1.5, 1)], axis=1)
    soundfile.write(tmp_path / "wide.flac", wide, RATE)
    status, said = run(capsys, "embed", folder, tmp_path / "wide.flac", "--channel", 1)
    assert status == 0
    vector = np.array(said.out[said.out.index("[") + 1 : said.out.index("]")].split(), dtype=np.float32)
    samples, _ = soundfile.read(tmp_path / "wide.flac", dtype="float32")
    np.testing.assert_array_equal(vector, model.embed(samples[:, 1], RATE))


def test_the_command_writes_each_format(folder, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", speech(1), RATE)
    for name in ("x.ark", "x.txt", "x.npz"):
        assert run(capsys, "embed", folder, tmp_path / "a.wav", "--output", tmp_path / name)[0] == 0
    expected = np.load(tmp_path / "x.npz")["a"]
    assert expected.shape == (TDNN["embedding_dim"],)
    for pairs in (
        read_ark(tmp_path / "x.ark"),
        read_ark(tmp_path / "x.txt"),
        read_scp_objects(tmp_path / "x.scp"),
    ):
        ((key, vector),) = list(pairs)
        assert key == "a"
        np.testing.assert_allclose(vector, expected, rtol=1e-5)


def test_npz_takes_names_that_numpy_uses_itself(folder, model, tmp_path, capsys):
    names = ["allow_pickle", "arr_0", "file", "other"]
    for seed, name in enumerate(names):
        soundfile.write(tmp_path / f"{name}.wav", speech(1, seed), RATE)
    paths = [tmp_path / f"{name}.wav" for name in names]
    assert run(capsys, "embed", folder, *paths, "--output", tmp_path / "x.npz")[0] == 0
    vectors = np.load(tmp_path / "x.npz")
    assert sorted(vectors) == names
    for name, path in zip(names, paths, strict=True):
        samples, _ = soundfile.read(path, dtype="float32")
        np.testing.assert_array_equal(vectors[name], model.embed(samples, RATE))


@pytest.mark.parametrize("scale", [32768, 2000, -32768])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_a_waveform_in_the_range_of_integers_is_refused(model, scale, dtype):
    with pytest.raises(UserError, match=r"range \[-1, 1\]"):
        model.embed((speech(1) * scale).astype(dtype), RATE)
    # samples of 16 bits are known by their type, and a little more than full scale is none but loud
    integers = np.round(speech(1) * 32768).astype(np.int16)
    np.testing.assert_array_equal(model.embed(integers, RATE), model.embed(integers / 32768, RATE))
    assert np.isfinite(model.embed(speech(1) * 4, RATE)).all()


@pytest.mark.parametrize("rate", [RATE, 48000])
def test_an_open_recording_is_embedded_like_its_samples(tmp_path, monkeypatch, rate):
    """Read in parts of half a second, and resampled."""
    config = configuration()
    config["front_end"]["features"] |= {"allow_downsample": True}
    save_model(tmp_path / "model", tdnn(), config, "")
    model = pydino.load(tmp_path / "model")
    samples = speech(4, rate=rate)
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype="FLOAT")
    expected = model.embed(samples, rate, name="a")
    monkeypatch.setattr(extractor, "_PART", 50)
    with open_channel(str(tmp_path / "a.wav")) as recording:
        np.testing.assert_allclose(model.embed_recording(recording, name="a"), expected, atol=1e-5)


def test_mistakes_of_the_command_are_named(folder, tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", speech(1), RATE)
    soundfile.write(tmp_path / "a.flac", speech(1), RATE)
    soundfile.write(tmp_path / "wide.wav", np.zeros((RATE, 2)), RATE)
    for arguments, said in (
        ((tmp_path / "a.wav", tmp_path / "a.flac"), "would both be called a"),
        ((tmp_path / "none.wav",), "none.wav"),
        ((tmp_path / "wide.wav",), "wide.wav: 2 channels"),
        ((tmp_path / "a.wav", "--output", "x.mat"), "its ending, which selects the format"),
    ):
        status, captured = run(capsys, "embed", folder, *arguments)
        assert status == 1 and said in captured.err and "Traceback" not in captured.err


def test_vectors_come_in_the_order_of_the_arguments_and_every_bad_file_is_named(
    folder, model, tmp_path, capsys
):
    for seed, name in enumerate("ba"):
        soundfile.write(tmp_path / f"{name}.wav", speech(1.0, seed), RATE)
    wanted = [str(tmp_path / f"{name}.wav") for name in "ba"]
    assert main(["embed", str(folder), *wanted]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["b", "a"]
    output = str(tmp_path / "out.ark")  # archives are sorted
    assert main(["embed", str(folder), *wanted, "--output", output]) == 0
    assert [key for key, _ in read_ark(output)] == ["a", "b"]
    (tmp_path / "text.wav").write_text("no sound")
    capsys.readouterr()
    missing = str(tmp_path / "missing.wav")
    assert main(["embed", str(folder), str(tmp_path / "text.wav"), wanted[0], missing]) == 1
    said = capsys.readouterr()
    assert "2 of 3 recordings" in said.err and "text.wav" in said.err and missing in said.err
    assert not said.out and wanted[0] not in said.err
